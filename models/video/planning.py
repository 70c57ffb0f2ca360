"""The rule that plans GOPs.

It is AdaCodec's (arXiv 2606.02569, section 3.1): frame 0 is I; a frame whose prediction cost exceeds gamma is I; after
``cap`` P frames in a row the next one is I. Everything else here chooses gamma, or what to leave out.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..errors import InputError
from ..source.sampled import SampledVideo
from .clearness import unclear_frames
from .gop import POLICIES, GopPlan, checked_costs, checked_gamma
from .primitives import Primitives
from .tokens import DEFAULT_MODE, MODES, frame_tokens, prompt_words

CAP = 16
"""Most P frames in a GOP (AdaCodec, section 4.3)."""

TARGET = 8
"""P frames in the median GOP that gamma is calibrated to (AdaCodec, section 3.1)."""

PUBLISHED_LEVELS = 40.0
"""Grey levels of mean absolute error per colour sample at AdaCodec's gamma (31.57e6 in its Figure 4, at 512 x 512)."""

POOLED_LEVELS = {"search": 23.1, "bitstream": 30.4}
"""Grey levels at which the median GOP of all real clips together has 8 P frames (``tests/bench/planner.py``)."""

BITSTREAM_RATIO = 1.69
"""What a predicted frame costs by the vectors of encoders, in units of its cost by the search (the same script)."""

SMALLEST_LEVELS = 1.0
"""Auto gamma never goes below this error per colour sample: under it the differences are noise."""

FLOOR = 1.25
"""Auto gamma is at least so many times the median cost: below it what differs is noise."""

BUDGET_RAISE = 2.0
"""The budget policy raises gamma at most by this factor; beyond it predictions are worth less than dropped GOPs."""


class StreamingPlanner:
    """The adaptive rule, one frame at a time and without lookahead.

    Args:
        gamma: threshold on pcost; a frame is I when its cost is strictly greater.
        cap: most P frames in a GOP.
    """

    def __init__(self, gamma: float, cap: int = CAP):
        self.gamma = checked_gamma(gamma)
        self.cap = _checked_cap(cap)
        self.run = None

    def push(self, pcost: float, cut: bool = False, pinned: bool = False, released: bool = False) -> str:
        """Decide on the next frame: the reason it is I ('first', 'user', 'cut', 'cost' or 'cap'), or '' when it is P.

        The first frame's cost is ignored; later, NaN (no reference to predict from) counts as too high a cost. A
        ``pinned`` frame is I for the user; a ``released`` one is P wherever it has a reference.
        """
        if self.run is None:
            why = "first"
        elif pinned:
            why = "user"
        elif released and pcost == pcost:
            why = ""
        elif cut:
            why = "cut"
        elif not pcost <= self.gamma:
            why = "cost"
        elif self.run >= self.cap:
            why = "cap"
        else:
            why = ""
        self.run = 0 if why else self.run + 1
        return why


@dataclass(frozen=True, slots=True)
class _Marks:
    """What else than costs decides: positions of cuts, of frames that the user pinned or released, of unclear ones."""

    cuts: frozenset[int]
    pinned: frozenset[int]
    released: frozenset[int]
    unclear: frozenset[int] = frozenset()

    def decide(self, pcost: np.ndarray, gamma: float, cap: int) -> tuple[list[str], np.ndarray]:
        """The reason of each frame, and bool [T] which frames are shown before any budget drops some.

        An I frame that is unclear waits for the first clear frame of the ``cap`` frames after it. Where that is the
        first frame, the frames before the clear one are a GOP of their own, which is not shown.
        """
        planner, waiting, reasons = StreamingPlanner(gamma, cap), "", []
        shown = np.ones(len(pcost), bool)
        for t, cost in enumerate(pcost.tolist()):
            run = planner.run
            why = planner.push(cost, t in self.cuts, t in self.pinned, t in self.released)
            if why not in ("", "user") and t in self.unclear and self._clears(t, min(cap, len(pcost) - 1 - t)):
                waiting = waiting or why
                if t:
                    why, planner.run = "", run + 1
            elif not why and waiting and self._is_clear(t):
                why, planner.run = waiting, 0
            if why and t:
                if waiting == "first":
                    shown[:t] = False
                    why = why if why == "user" else waiting
                waiting = ""
            reasons.append(why)
        return reasons, shown

    def _clears(self, position: int, cap: int) -> bool:
        """Whether one of the ``cap`` frames after ``position`` is clear."""
        return any(self._is_clear(later) for later in range(position + 1, position + cap + 1))

    def _is_clear(self, position: int) -> bool:
        return position not in self.unclear and position not in self.released


def scaled_gamma(size: tuple[int, int], source: str = "search") -> float:
    """AdaCodec's published gamma carried over to frames of (H, W) pixels: 40 grey levels per colour sample.

    Vectors of a 'bitstream' fit worse than those of a search, so their gamma is higher by what they cost more.
    """
    return PUBLISHED_LEVELS * (BITSTREAM_RATIO if source == "bitstream" else 1.0) * size[0] * size[1] * 3


def pooled_gamma(size: tuple[int, int], source: str) -> float:
    """What auto gamma is over many clips, for one that is too short for its own; published costs keep theirs."""
    return POOLED_LEVELS.get(source, PUBLISHED_LEVELS) * size[0] * size[1] * 3


def auto_gamma(clips: Sequence[Sequence[float]], size: tuple[int, int], cap: int = CAP, source: str = "costs") -> float:
    """The gamma for which the median GOP over the clips has 8 P frames (AdaCodec, section 3.1), made exact.

    Args:
        clips: pcost of each clip, the first frame's included and ignored. All clips have frames of ``size``.
        size: (H, W) in pixels.
        cap: most P frames in a GOP.
        source: where the costs come from: 'search', 'bitstream' or 'costs'.

    Definition: two gammas with no cost between them give the same plan, so only the gaps between neighbouring costs
    count. Of the gaps whose median GOP (all GOPs of all clips, the last of each clip included) is nearest to 8 P
    frames, take the one with the largest ratio between its two ends, the first of equals: there a small change of the
    costs (another search, another decoder) moves no I frame. Gamma is the geometric mean of the ends. Costs below 1
    grey level per sample are noise and count as 1; the gap above the highest cost ends at ``scaled_gamma`` or at the
    highest cost, whichever is more. Gamma is never below ``FLOOR`` times the median cost: in a scene whose costs are
    all alike no frame is worse predicted than the others, and the cap alone starts GOPs.

    Fewer frames than two such GOPs (18) say nothing about a median; then gamma is :func:`pooled_gamma`.
    """
    clips = [np.asarray(costs, np.float64) for costs in clips]
    if sum(len(costs) for costs in clips) < 2 * (TARGET + 1):
        return pooled_gamma(size, source)
    lowest = SMALLEST_LEVELS * size[0] * size[1] * 3
    known = np.concatenate([costs[1:] for costs in clips])
    ends = np.unique(np.clip(known[np.isfinite(known)], lowest, None))
    ends = np.append(ends, max(scaled_gamma(size, source), ends[-1] if len(ends) else 0.0))
    best, gamma = (math.inf, 0.0), scaled_gamma(size, source)
    for low, high in zip(ends[:-1], ends[1:], strict=True):
        rank = (abs(_median_gop(clips, low, cap) - TARGET), -high / low)
        if rank < best:
            best, gamma = rank, math.sqrt(low * high)
    return max(gamma, FLOOR * float(np.nanmedian(known))) if np.isfinite(known).any() else gamma


def _median_gop(clips: list[np.ndarray], gamma: float, cap: int) -> float:
    """P frames in the median GOP of the adaptive rule, by counting how the cap cuts each stretch between high costs."""
    lengths = []
    for costs in clips:
        starts = np.flatnonzero(np.r_[True, ~(costs[1:] <= gamma)])
        stretches = np.diff(np.r_[starts, len(costs)])
        lengths.append(np.full((stretches // (cap + 1)).sum(), cap + 1))
        lengths.append((stretches % (cap + 1))[stretches % (cap + 1) > 0])
    return float(np.median(np.concatenate(lengths))) - 1


def plan(primitives: Primitives, policy: str = "adaptive", *, clear: bool = False, **rule) -> GopPlan:
    """Decide I or P for each frame of ``primitives``; see ``plan_from_costs``.

    Args:
        clear: take no whole picture from a plain or mixed frame (:mod:`.clearness`) where a clear one follows.
    """
    decided = plan_from_costs(
        primitives.pcost,
        policy,
        unclear=unclear_frames(primitives.small) if clear and primitives.small is not None else (),
        index=primitives.index,
        pts=primitives.pts,
        size=primitives.size,
        source=primitives.source,
        video=primitives.video,
        **rule,
    )
    return replace(decided, primitives=primitives)


def plan_from_costs(
    costs: Sequence[float],
    policy: str = "adaptive",
    *,
    index: np.ndarray | None = None,
    pts: np.ndarray | None = None,
    size: tuple[int, int] = (512, 512),
    source: str = "costs",
    gamma: float | str = "auto",
    cap: int = CAP,
    budget: int | None = None,
    frames: Iterable[int] = (),
    cuts: Iterable[int] = (),
    pinned: Iterable[int] = (),
    released: Iterable[int] = (),
    unclear: Iterable[int] = (),
    mode: str = DEFAULT_MODE,
    video: SampledVideo | None = None,
) -> GopPlan:
    """Decide I or P for each of T frames from their prediction costs alone, e.g. costs that a paper published.

    Args:
        costs: T prediction costs; the first is ignored, as frame 0 has no reference. None and NaN mean 'no reference'.
        policy: how I frames are chosen.
            'adaptive': frame 0, every pcost > gamma, and after ``cap`` P frames.
            'streaming': the same decisions without lookahead, so gamma must be a number or 'scaled'.
            'fixed': every ``cap`` + 1 frames.
            'frames': exactly ``frames`` (and frame 0); no cap.
            'budget': adaptive; when that costs more than ``budget`` prompt tokens in ``mode``, the smallest higher
            gamma that fits, at most twice the first; when that is not enough, whole GOPs are dropped evenly over the
            clip; when not even one fits, ``cap`` shrinks first. Each step is named in ``warnings``.
        index: int64 [T] frame numbers in the source; default 0, 1, 2...
        pts: float64 [T] seconds; default two frames a second.
        size: (H, W) in pixels, multiples of 32.
        gamma: a number, 'auto' (``auto_gamma`` over this clip) or 'scaled' (``scaled_gamma``).
        cap: most P frames in a GOP.
        budget: prompt tokens (``tokens.prompt_words`` included), for the policy 'budget'.
        frames: positions among the T samples, for the policy 'frames'.
        cuts: source frame numbers that start a new shot; the first sample at or after each becomes I.
        pinned: positions that are I whatever the policy says.
        released: positions that are P wherever they have a reference, other than the first.
        unclear: positions from which no whole picture is taken where a clear frame follows among the next ``cap``: the
            first clear one is I instead, so that a GOP may have up to ``cap`` more P frames. Before the first I frame
            such frames are not kept. For 'adaptive' and 'budget'; the published rule knows none.
        mode: whose tokens to count (``tokens.MODES``).
        video: the frames that the costs are of.

    Raises InputError for values outside these.
    """
    pcost = checked_costs(costs)
    count = len(pcost)
    index = np.arange(count, dtype=np.int64) if index is None else np.asarray(index, np.int64)
    pts = index / 2.0 if pts is None else np.asarray(pts, np.float64)
    cap = _checked_cap(cap)
    marks = _Marks(
        first_samples(index, cuts),
        _positions(pinned, count, "pinned frame"),
        _positions(released, count, "released frame"),
        _positions(unclear, count, "unclear frame") if policy in ("adaptive", "budget") else frozenset(),
    )
    warnings = []
    if policy == "fixed":
        gamma, (why, keep) = math.nan, marks.decide(np.zeros(count), 0.0, cap)
    elif policy == "frames":
        gamma, keep = math.nan, np.ones(count, bool)
        why = _user_frames(_positions(frames, count, "I frame") | marks.pinned, count, marks)
    elif policy in POLICIES:
        if policy == "streaming" and gamma == "auto":
            raise InputError(
                "policy 'streaming' cannot use gamma 'auto', which needs the whole clip; give a number or 'scaled'"
            )
        gamma = _resolve_gamma(gamma, pcost, size, cap, source)
        why, keep = marks.decide(pcost, gamma, cap)
    else:
        raise InputError(f"policy {policy!r} is unknown; choose one of {', '.join(POLICIES)}")
    if policy == "budget":
        spent = partial(_prompt_tokens, mode, size, pts)
        gamma, why, keep, warnings = _meet_budget(budget, pcost, gamma, cap, partial(marks.decide, pcost), spent)
    if "first" in why[1:]:
        clear = why.index("first", 1)
        warnings = [f"nothing clear is seen before {pts[clear]:.2f} s: {clear} frames left out", *warnings]
    kind = _kind_of(why)
    tokens = frame_tokens(mode, kind, keep, size)
    return GopPlan(
        kind,
        tuple(why),
        keep,
        pcost,
        index,
        pts,
        tuple(size),
        gamma,
        policy,
        mode,
        tokens,
        source,
        tuple(warnings),
        video,
    )


def _user_frames(chosen: frozenset[int], count: int, marks: _Marks) -> list[str]:
    chosen = chosen - marks.released
    cuts = marks.cuts - marks.released
    why = ["user" if t in chosen else "cut" if t in cuts else "" for t in range(count)]
    return ["first", *why[1:]]


def _positions(frames: Iterable[int], count: int, what: str) -> frozenset[int]:
    chosen = frozenset(frames)
    for position in chosen:
        if position not in range(count):
            raise InputError(f"{what} {position!r} is not a sampled frame; give positions from 0 to {count - 1}")
    return chosen


def first_samples(index: np.ndarray, cuts: Iterable[int]) -> frozenset[int]:
    """Positions of the first samples at or after each cut (a source frame number)."""
    positions = np.searchsorted(index, np.fromiter(cuts, np.int64))
    return frozenset(positions[positions < len(index)].tolist())


def _meet_budget(budget, pcost, gamma, cap, decide, spent):
    """(gamma, why, keep, warnings) of the best plan within ``budget`` tokens.

    ``decide(gamma, cap)`` gives why and keep of a plan without budget, ``spent(why, keep)`` counts its tokens.
    """
    # The last frame alone: later times have longer stamps.
    least = spent(["first"] * len(pcost), np.arange(len(pcost)) == len(pcost) - 1)
    if not isinstance(budget, (int, np.integer)) or isinstance(budget, bool) or budget < least:
        raise InputError(
            f"budget is {budget!r} tokens; it must hold at least one picture of {least} tokens with its time stamp"
        )
    why, shown = decide(gamma, cap)
    if spent(why, shown) <= budget:
        return gamma, why, shown, []
    warnings = []
    raised = _raise_gamma(budget, pcost, gamma, lambda gamma: spent(*decide(gamma, cap)))
    if raised > gamma:
        warnings.append(f"budget of {budget} tokens: gamma raised from {gamma:.4g} to {raised:.4g}")
        gamma, (why, shown) = raised, decide(raised, cap)
    keep = _drop_gops(budget, why, shown, spent)
    if keep is None:
        cap = min(cap, len(pcost) - 1)
        while keep is None:
            # A GOP at the end has the longest stamps; where times are rare, how they fall decides by one.
            cap -= spent(*_last_gop(len(pcost), cap)) <= budget
            while spent(*_last_gop(len(pcost), cap)) > budget:
                cap -= 1
            if cap < 0:
                raise InputError(f"budget is {budget} tokens; no GOP fits it while so many frames are released")
            why, shown = decide(gamma, cap)
            keep = _drop_gops(budget, why, shown, spent)
        warnings.append(f"budget of {budget} tokens: GOPs shortened to {cap} P frames, so that a whole one fits")
    opens = _kind_of(why).astype(bool) & shown
    dropped, gops = int(np.sum(opens & ~keep)), int(opens.sum())
    if dropped:
        warnings.append(f"budget of {budget} tokens: {dropped} of {gops} GOPs dropped, evenly over the clip")
    return gamma, why, keep, warnings


def _last_gop(count: int, cap: int) -> tuple[list[str], np.ndarray]:
    """(why, keep) that keep a GOP of ``cap`` P frames at the end of ``count`` frames."""
    opening = max(0, count - 1 - cap)
    return ["user" if t == opening else "" for t in range(count)], np.arange(count) >= opening


def _kind_of(why: Iterable[str]) -> np.ndarray:
    return np.array([bool(reason) for reason in why], np.uint8)


def _prompt_tokens(mode: str, size, pts: np.ndarray, why, keep) -> int:
    tokens = frame_tokens(mode, _kind_of(why), keep, size)
    return int(tokens.sum() + prompt_words(tokens, pts, MODES[mode].stamps).sum())


def _raise_gamma(budget, pcost, gamma, spent) -> float:
    """The smallest gamma that meets the budget with every GOP kept, or the highest within reason when none does.

    ``spent(gamma)`` counts the tokens of its plan.

    More gamma never means more I frames: a stretch of n frames between forced I frames holds ceil(n / (cap + 1)) GOPs,
    and joining two stretches cannot raise their sum. So bisection over the costs in reach finds it; with released or
    unclear frames, which wait, what it finds may be larger than the smallest.
    """
    reach = np.unique(pcost[1:][(pcost[1:] > gamma) & (pcost[1:] <= BUDGET_RAISE * gamma)])
    if not len(reach):
        return gamma
    low, high = 0, len(reach) - 1
    while low < high:
        middle = (low + high) // 2
        if spent(float(reach[middle])) <= budget:
            high = middle
        else:
            low = middle + 1
    return float(reach[high])


def spread(m: int, n: int) -> np.ndarray:
    """int64 [m]: which of n things in a row to keep: the one at the middle of each of m equal parts."""
    return (2 * np.arange(m) + 1) * n // (2 * m)


def _drop_gops(budget, why, shown, spent) -> np.ndarray | None:
    """bool [T]: the largest evenly spaced choice of the shown GOPs within the budget; None when not one fits."""
    gop = np.cumsum([bool(reason) for reason in why]) - 1
    gop -= gop[shown.argmax()]
    number = int(gop[-1]) + 1
    for m in range(number, 0, -1):
        keep = np.isin(gop, spread(m, number))
        if spent(why, keep) <= budget:
            return keep
    return None


def _resolve_gamma(gamma, pcost, size, cap, source) -> float:
    if gamma == "auto":
        return auto_gamma([pcost], size, cap, source)
    if gamma == "scaled":
        return scaled_gamma(size, source)
    return checked_gamma(gamma)


def _checked_cap(cap) -> int:
    if not isinstance(cap, (int, np.integer)) or isinstance(cap, bool) or cap < 0:
        raise InputError(f"cap is {cap!r}; it must be a whole number of P frames, 0 or more")
    return int(cap)
