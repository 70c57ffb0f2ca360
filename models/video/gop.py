"""Where a video needs a whole picture and where a change is enough: the GOP plan.

The rule is AdaCodec's (arXiv 2606.02569, section 3.1): frame 0 is I; a frame whose prediction cost exceeds gamma is I;
after ``cap`` P frames in a row the next one is I. Everything else here chooses gamma, or what to leave out.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from .tokens import MODES, frame_tokens, image_tokens, token_totals

P, I = 0, 1  # noqa: E741 - the field's names

POLICIES = ("adaptive", "fixed", "budget", "frames", "streaming")
REASONS = ("first", "cost", "cap", "cut", "user", "slice")

CAP = 16
"""Most P frames in a GOP (AdaCodec, section 4.3)."""

TARGET = 8
"""P frames in the median GOP that gamma is calibrated to (AdaCodec, section 3.1)."""

PUBLISHED_LEVELS = 40.0
"""Grey levels of mean absolute error per colour sample at AdaCodec's gamma (31.57e6 in its Figure 4, at 512 x 512)."""

SMALLEST_LEVELS = 1.0
"""Auto gamma never goes below this error per colour sample: under it the differences are noise."""

BUDGET_RAISE = 2.0
"""The budget policy raises gamma at most by this factor; beyond it predictions are worth less than dropped GOPs."""


@dataclass(frozen=True, slots=True)
class GopPlan:
    """A decision for each of T sampled frames. The first is always I; a GOP is kept or dropped as a whole.

    Attributes:
        kind: uint8 [T], 1 where the frame is a whole picture (I), 0 where it is predicted (P).
        why: T strings, '' for P, else the reason of the I: 'first', 'cost', 'cap', 'cut', 'user' or 'slice'.
        keep: bool [T], False where a budget dropped the frame's GOP.
        pcost: float64 [T], prediction cost (NaN where there is no reference).
        index: int64 [T], frame numbers in the source.
        pts: float64 [T], presentation times in seconds.
        size: (H, W) in pixels of an I frame as the model will see it.
        gamma: the threshold on pcost that was used; NaN for policies that use none.
        policy: 'adaptive', 'fixed', 'budget', 'frames' or 'streaming'.
        mode: the mode whose token counts fill ``tokens`` (``tokens.MODES``).
        tokens: int32 [T], visual tokens of each frame in ``mode``; 0 where not kept.
        source: where the costs came from: 'search', 'bitstream' or 'costs'.
        warnings: sentences the user should read.
    """

    kind: np.ndarray
    why: tuple[str, ...]
    keep: np.ndarray
    pcost: np.ndarray
    index: np.ndarray
    pts: np.ndarray
    size: tuple[int, int]
    gamma: float
    policy: str
    mode: str
    tokens: np.ndarray
    source: str = "search"
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def i_frames(self) -> np.ndarray:
        """int64: positions of the I frames among the T samples, kept or not."""
        return np.flatnonzero(self.kind == I)

    @property
    def gops(self) -> list[tuple[int, int]]:
        """[start, stop) of each GOP, in sample positions."""
        starts = self.i_frames.tolist()
        return list(zip(starts, [*starts[1:], len(self)], strict=True))

    @property
    def totals(self) -> dict[str, int]:
        """Tokens of the clip in every mode and both baselines (``tokens.token_totals``)."""
        return token_totals(self.kind, self.keep, self.size)

    def in_mode(self, mode: str) -> "GopPlan":
        """The same decisions with ``tokens`` counted in another mode."""
        return replace(self, mode=mode, tokens=frame_tokens(mode, self.kind, self.keep, self.size))

    def slice(self, start: float, stop: float) -> "GopPlan":
        """The frames with start <= pts < stop (seconds), re-anchored.

        A slice that opens on a P frame has lost that frame's reference, so the frame becomes I with reason 'slice'; it
        keeps its place in a dropped GOP. Raises InputError when no frame lies in the span.
        """
        inside = np.flatnonzero((self.pts >= start) & (self.pts < stop))
        if not len(inside):
            raise InputError(
                f"no sampled frame lies in {start:g} to {stop:g} s; "
                f"the plan covers {self.pts[0]:g} to {self.pts[-1]:g} s"
            )
        span = slice(inside[0], inside[-1] + 1)
        kind, pcost, why = self.kind[span].copy(), self.pcost[span].copy(), list(self.why[span])
        if kind[0] == P:
            kind[0], why[0] = I, "slice"
        pcost[0] = np.nan
        keep = self.keep[span]
        return replace(
            self,
            kind=kind,
            why=tuple(why),
            keep=keep,
            pcost=pcost,
            index=self.index[span],
            pts=self.pts[span],
            tokens=frame_tokens(self.mode, kind, keep, self.size),
        )

    def to_json(self) -> dict:
        """The plan as plain JSON values; ``from_json`` reads it back. NaN becomes null."""
        return {
            "kind": "".join("PI"[k] for k in self.kind),
            "i_frames": self.i_frames.tolist(),
            "why": list(self.why),
            "keep": self.keep.tolist(),
            "index": self.index.tolist(),
            "pts": self.pts.tolist(),
            "pcost": [None if math.isnan(cost) else cost for cost in self.pcost.tolist()],
            "gamma": None if math.isnan(self.gamma) else self.gamma,
            "policy": self.policy,
            "mode": self.mode,
            "size": list(self.size),
            "source": self.source,
            "tokens": self.totals,
            "tokens_per_frame": self.tokens.tolist(),
            "warnings": list(self.warnings),
        }

    @staticmethod
    def from_json(data) -> "GopPlan":
        """Read what ``to_json`` wrote: a dict, or JSON text. Raises InputError for anything else.

        ``i_frames``, ``tokens`` and ``tokens_per_frame`` follow from the rest, so they are not read.
        """
        if isinstance(data, (str, bytes)):
            try:
                data = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise InputError(f"the plan is not JSON: {error}") from None
        return _read_plan(data)


class StreamingPlanner:
    """The adaptive rule, one frame at a time and without lookahead.

    Args:
        gamma: threshold on pcost; a frame is I when its cost is strictly greater.
        cap: most P frames in a GOP.
    """

    def __init__(self, gamma: float, cap: int = CAP):
        self.gamma = _checked_gamma(gamma)
        self.cap = _checked_cap(cap)
        self.run = None

    def push(self, pcost: float, cut: bool = False) -> str:
        """Decide on the next frame: the reason it is I ('first', 'cut', 'cost' or 'cap'), or '' when it is P.

        The first frame's cost is ignored; later, NaN (no reference to predict from) counts as too high a cost.
        """
        if self.run is None:
            why = "first"
        elif cut:
            why = "cut"
        elif not pcost <= self.gamma:
            why = "cost"
        elif self.run == self.cap:
            why = "cap"
        else:
            why = ""
        self.run = 0 if why else self.run + 1
        return why


def scaled_gamma(size: tuple[int, int]) -> float:
    """AdaCodec's published gamma carried over to frames of (H, W) pixels: 40 grey levels per colour sample."""
    return PUBLISHED_LEVELS * size[0] * size[1] * 3


def auto_gamma(clips: Sequence[Sequence[float]], size: tuple[int, int], cap: int = CAP) -> float:
    """The gamma for which the median GOP over the clips has 8 P frames (AdaCodec, section 3.1), made exact.

    Args:
        clips: pcost of each clip, the first frame's included and ignored. All clips have frames of ``size``.
        size: (H, W) in pixels.
        cap: most P frames in a GOP.

    Definition: two gammas with no cost between them give the same plan, so only the gaps between neighbouring costs
    count. Of the gaps whose median GOP (all GOPs of all clips, the last of each clip included) is nearest to 8 P
    frames, take the one with the largest ratio between its two ends, the first of equals: there a small change of the
    costs (another search, another decoder) moves no I frame. Gamma is the geometric mean of the ends. Costs below 1
    grey level per sample are noise and count as 1; the gap above the highest cost ends at ``scaled_gamma`` or at the
    highest cost, whichever is more.

    Fewer frames than two such GOPs (18) say nothing about a median; then gamma is ``scaled_gamma(size)``.
    """
    clips = [np.asarray(costs, np.float64) for costs in clips]
    if sum(len(costs) for costs in clips) < 2 * (TARGET + 1):
        return scaled_gamma(size)
    lowest = SMALLEST_LEVELS * size[0] * size[1] * 3
    known = np.concatenate([costs[1:] for costs in clips])
    ends = np.unique(np.clip(known[np.isfinite(known)], lowest, None))
    ends = np.append(ends, max(scaled_gamma(size), ends[-1] if len(ends) else 0.0))
    best, gamma = (math.inf, 0.0), scaled_gamma(size)
    for low, high in zip(ends[:-1], ends[1:], strict=True):
        rank = (abs(_median_gop(clips, low, cap) - TARGET), -high / low)
        if rank < best:
            best, gamma = rank, math.sqrt(low * high)
    return gamma


def _median_gop(clips: list[np.ndarray], gamma: float, cap: int) -> float:
    """P frames in the median GOP of the adaptive rule, by counting how the cap cuts each stretch between high costs."""
    lengths = []
    for costs in clips:
        starts = np.flatnonzero(np.r_[True, ~(costs[1:] <= gamma)])
        stretches = np.diff(np.r_[starts, len(costs)])
        lengths.append(np.full((stretches // (cap + 1)).sum(), cap + 1))
        lengths.append((stretches % (cap + 1))[stretches % (cap + 1) > 0])
    return float(np.median(np.concatenate(lengths))) - 1


def plan(primitives, policy: str = "adaptive", **rule) -> GopPlan:
    """Decide I or P for each frame of ``primitives`` (``primitives.Primitives``); see ``plan_from_costs``."""
    return plan_from_costs(
        primitives.pcost,
        policy,
        index=primitives.index,
        pts=primitives.pts,
        size=primitives.size,
        source=primitives.source,
        **rule,
    )


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
    mode: str = "thumbnail",
) -> GopPlan:
    """Decide I or P for each of T frames from their prediction costs alone, e.g. costs that a paper published.

    Args:
        costs: T prediction costs; the first is ignored, as frame 0 has no reference. None and NaN mean 'no reference'.
        policy: how I frames are chosen.
            'adaptive': frame 0, every pcost > gamma, and after ``cap`` P frames.
            'streaming': the same decisions without lookahead, so gamma must be a number or 'scaled'.
            'fixed': every ``cap`` + 1 frames.
            'frames': exactly ``frames`` (and frame 0); no cap.
            'budget': adaptive; when that costs more than ``budget`` tokens in ``mode``, the smallest higher gamma that
            fits, at most twice the first; when that is not enough, whole GOPs are dropped evenly over the clip; when
            not even one fits, ``cap`` shrinks first. Each step is told in ``warnings``.
        index: int64 [T] frame numbers in the source; default 0, 1, 2...
        pts: float64 [T] seconds; default two frames a second.
        size: (H, W) in pixels, multiples of 32.
        gamma: a number, 'auto' (``auto_gamma`` over this clip) or 'scaled' (``scaled_gamma``).
        cap: most P frames in a GOP.
        budget: visual tokens, for the policy 'budget'.
        frames: positions among the T samples, for the policy 'frames'.
        cuts: source frame numbers that start a new shot; the first sample at or after each becomes I.
        mode: whose tokens to count (``tokens.MODES``).

    Raises InputError for values outside these.
    """
    pcost = _checked_costs(costs)
    count = len(pcost)
    index = np.arange(count, dtype=np.int64) if index is None else np.asarray(index, np.int64)
    pts = index / 2.0 if pts is None else np.asarray(pts, np.float64)
    cap = _checked_cap(cap)
    opening = _first_samples(index, cuts)
    warnings = []
    if policy == "fixed":
        gamma, why = math.nan, _run_rule(np.zeros(count), 0.0, cap, opening)
    elif policy == "frames":
        gamma, why = math.nan, _user_frames(frames, count, opening)
    elif policy in POLICIES:
        if policy == "streaming" and gamma == "auto":
            raise InputError(
                "policy 'streaming' cannot use gamma 'auto', which looks at the whole clip; give a number or 'scaled'"
            )
        gamma = _resolve_gamma(gamma, pcost, size, cap)
        why = _run_rule(pcost, gamma, cap, opening)
    else:
        raise InputError(f"policy {policy!r} is unknown; choose one of {', '.join(POLICIES)}")
    keep = np.ones(count, bool)
    if policy == "budget":
        gamma, why, keep, warnings = _meet_budget(budget, pcost, gamma, cap, opening, why, mode, size)
    kind = _kind_of(why)
    tokens = frame_tokens(mode, kind, keep, size)
    return GopPlan(
        kind, tuple(why), keep, pcost, index, pts, tuple(size), gamma, policy, mode, tokens, source, tuple(warnings)
    )


def _run_rule(pcost: np.ndarray, gamma: float, cap: int, cuts: set[int]) -> list[str]:
    planner = StreamingPlanner(gamma, cap)
    return [planner.push(cost, position in cuts) for position, cost in enumerate(pcost)]


def _user_frames(frames: Iterable[int], count: int, cuts: set[int]) -> list[str]:
    chosen = set(frames)
    for position in chosen:
        if position not in range(count):
            raise InputError(f"I frame {position!r} is not a sampled frame; give positions from 0 to {count - 1}")
    why = ["user" if t in chosen else "cut" if t in cuts else "" for t in range(count)]
    return ["first", *why[1:]]


def _first_samples(index: np.ndarray, cuts: Iterable[int]) -> set[int]:
    """Positions of the first samples at or after each cut (a source frame number)."""
    positions = np.searchsorted(index, np.fromiter(cuts, np.int64))
    return set(positions[positions < len(index)].tolist())


def _meet_budget(budget, pcost, gamma, cap, cuts, why, mode, size):
    """(gamma, why, keep, warnings) of the best plan with at most ``budget`` tokens."""
    if not isinstance(budget, (int, np.integer)) or isinstance(budget, bool) or budget < image_tokens(size):
        raise InputError(
            f"budget is {budget!r} tokens; it must hold at least one picture of {image_tokens(size)} tokens"
        )
    keep = np.ones(len(pcost), bool)
    if _tokens_of(why, keep, mode, size) <= budget:
        return gamma, why, keep, []
    warnings = []
    raised = _raise_gamma(budget, pcost, gamma, cap, cuts, mode, size)
    if raised > gamma:
        warnings.append(f"budget of {budget} tokens: gamma raised from {gamma:.4g} to {raised:.4g}")
        gamma, why = raised, _run_rule(pcost, raised, cap, cuts)
    keep = _drop_gops(budget, why, mode, size)
    if keep is None:
        while _tokens_of(["first"] + [""] * cap, np.ones(cap + 1, bool), mode, size) > budget:
            cap -= 1
        warnings.append(f"budget of {budget} tokens: GOPs shortened to {cap} P frames, so that a whole one fits")
        why = _run_rule(pcost, gamma, cap, cuts)
        keep = _drop_gops(budget, why, mode, size)
    dropped = sum(bool(reason) and not kept for reason, kept in zip(why, keep, strict=True))
    if dropped:
        gops = sum(map(bool, why))
        warnings.append(f"budget of {budget} tokens: {dropped} of {gops} GOPs dropped, evenly over the clip")
    return gamma, why, keep, warnings


def _kind_of(why: Iterable[str]) -> np.ndarray:
    return np.array([bool(reason) for reason in why], np.uint8)


def _tokens_of(why, keep, mode, size) -> int:
    return int(frame_tokens(mode, _kind_of(why), keep, size).sum())


def _raise_gamma(budget, pcost, gamma, cap, cuts, mode, size) -> float:
    """The smallest gamma that meets the budget with every GOP kept, or the highest within reason when none does.

    More gamma never means more I frames: a stretch of n frames between forced I frames holds ceil(n / (cap + 1)) GOPs,
    and joining two stretches cannot raise their sum. So bisection over the costs in reach finds it.
    """
    keep = np.ones(len(pcost), bool)
    reach = np.unique(pcost[1:][(pcost[1:] > gamma) & (pcost[1:] <= BUDGET_RAISE * gamma)])
    if not len(reach):
        return gamma
    low, high = 0, len(reach) - 1
    while low < high:
        middle = (low + high) // 2
        if _tokens_of(_run_rule(pcost, reach[middle], cap, cuts), keep, mode, size) <= budget:
            high = middle
        else:
            low = middle + 1
    return float(reach[high])


def spread(m: int, n: int) -> np.ndarray:
    """int64 [m]: which of n things in a row to keep: the one at the middle of each of m equal parts."""
    return (2 * np.arange(m) + 1) * n // (2 * m)


def _drop_gops(budget, why, mode, size) -> np.ndarray | None:
    """bool [T]: the largest evenly spaced choice of whole GOPs within the budget; None when not one fits."""
    gop = np.cumsum([bool(reason) for reason in why]) - 1
    number = int(gop[-1]) + 1
    for m in range(number, 0, -1):
        keep = np.isin(gop, spread(m, number))
        if _tokens_of(why, keep, mode, size) <= budget:
            return keep
    return None


def _resolve_gamma(gamma, pcost, size, cap) -> float:
    if gamma == "auto":
        return auto_gamma([pcost], size, cap)
    if gamma == "scaled":
        return scaled_gamma(size)
    return _checked_gamma(gamma)


def _is_number(value, low: float, high: float = 1e18) -> bool:
    """Whether value is a plain number in [low, high]: large enough for any cost or time, and none is inf or NaN."""
    return isinstance(value, (int, float, np.integer, np.floating)) and type(value) is not bool and low <= value <= high


def _checked_gamma(gamma) -> float:
    if not _is_number(gamma, 0):
        raise InputError(f"gamma is {gamma!r}; it must be 'auto', 'scaled' or a cost of 0 or more")
    return float(gamma)


def _checked_cap(cap) -> int:
    if not isinstance(cap, (int, np.integer)) or isinstance(cap, bool) or cap < 0:
        raise InputError(f"cap is {cap!r}; it must be a whole number of P frames, 0 or more")
    return int(cap)


def _checked_costs(costs) -> np.ndarray:
    if not isinstance(costs, (list, tuple, np.ndarray)) or not len(costs):
        raise InputError(f"costs are {str(costs)[:40]!r}; a plan needs a list with a number for each frame")
    pcost = np.full(len(costs), math.nan)
    for position, cost in enumerate(costs[1:], 1):
        if _is_number(cost, 0):
            pcost[position] = cost
        elif not (cost is None or cost != cost):
            raise InputError(f"cost {position} is {cost!r}; a prediction cost is a number of 0 or more")
    return pcost


def _field(data: dict, name: str, kinds, count: int | None = None):
    value = data.get(name)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise InputError(f"the plan's {name!r} is {str(value)[:40]!r}; that is not what a plan holds there")
    if count is not None and len(value) != count:
        raise InputError(f"the plan's {name!r} has {len(value)} entries for {count} frames")
    return value


def _choice(data: dict, name: str, choices: tuple[str, ...]) -> str:
    value = _field(data, name, str)
    if value not in choices:
        raise InputError(f"the plan's {name!r} is {value!r}; it must be one of {', '.join(choices)}")
    return value


def _read_plan(data) -> GopPlan:
    if not isinstance(data, dict):
        raise InputError(f"the plan is a JSON {type(data).__name__}; it must be an object with 'kind', 'why', 'pts'...")
    letters = _field(data, "kind", str)
    count = len(letters)
    if not letters.startswith("I") or set(letters) - {"I", "P"}:
        raise InputError(f"the plan's 'kind' is {letters[:40]!r}; it must be I and P only and start with I")
    why = _field(data, "why", list, count)
    if any(reason not in (REASONS if letter == "I" else ("",)) for letter, reason in zip(letters, why, strict=True)):
        raise InputError("the plan's 'why' does not give one known reason for each I and '' for each P")
    keep = _field(data, "keep", list, count)
    if not all(isinstance(kept, bool) for kept in keep) or not any(keep):
        raise InputError("the plan's 'keep' must hold true or false for each frame and keep at least one")
    if any(letter == "P" and keep[t] != keep[t - 1] for t, letter in enumerate(letters)):
        raise InputError("the plan's 'keep' splits a GOP; a GOP is kept or dropped as a whole")
    index = _field(data, "index", list, count)
    if (
        not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < 2**63 for i in index)
        or sorted(index) != index
    ):
        raise InputError("the plan's 'index' must hold source frame numbers that do not go back")
    pts = _field(data, "pts", list, count)
    if not all(_is_number(t, -1e18) for t in pts) or sorted(pts) != pts:
        raise InputError("the plan's 'pts' must hold times in seconds that do not go back")
    size = _field(data, "size", list, 2)
    if not all(type(side) is int and side <= 1 << 16 for side in size):
        raise InputError(f"the plan's 'size' is {size!r}; it must be height and width in pixels")
    warnings = _field(data, "warnings", list)
    if not all(isinstance(warning, str) for warning in warnings):
        raise InputError("the plan's 'warnings' must be sentences")
    gamma = data.get("gamma")
    kind, keep = np.array([letter == "I" for letter in letters], np.uint8), np.array(keep)
    mode = _choice(data, "mode", MODES)
    return GopPlan(
        kind=kind,
        why=tuple(why),
        keep=keep,
        pcost=_checked_costs(_field(data, "pcost", list, count)),
        index=np.array(index, np.int64),
        pts=np.array(pts, np.float64),
        size=tuple(size),
        gamma=math.nan if gamma is None else _checked_gamma(gamma),
        policy=_choice(data, "policy", POLICIES),
        mode=mode,
        tokens=frame_tokens(mode, kind, keep, tuple(size)),
        source=_choice(data, "source", ("search", "bitstream", "costs")),
        warnings=tuple(warnings),
    )
