"""The GOP plan: for each sampled frame whether it is a whole picture or a change, and what that costs."""

import json
import math
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..source.sampled import SampledVideo
from .primitives import Primitives
from .tokens import MODES, frame_tokens, prompt_words, token_totals

P, I = 0, 1  # noqa: E741 - the field's names

POLICIES = ("adaptive", "fixed", "budget", "frames", "streaming")
REASONS = ("first", "cost", "cap", "cut", "user", "slice")


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
        video: the frames that the plan was made for; None where it was made from costs alone. Not in the JSON.
        primitives: what the costs were taken from, where that is known. Not in the JSON.
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
    video: SampledVideo | None = None
    primitives: Primitives | None = None

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

    @property
    def prompt_totals(self) -> dict[str, int]:
        """The same with time stamps and markers (``tokens.prompt_words``)."""
        return token_totals(self.kind, self.keep, self.size, self.pts)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the plan in its mode, with time stamps and markers."""
        return int(self.tokens.sum() + prompt_words(self.tokens, self.pts, MODES[self.mode].stamps).sum())

    def in_mode(self, mode: str) -> "GopPlan":
        """The same decisions with ``tokens`` counted in another mode."""
        return replace(self, mode=mode, tokens=frame_tokens(mode, self.kind, self.keep, self.size))

    def slice(self, start: float, stop: float) -> "GopPlan":
        """The frames with start <= pts < stop (seconds), re-anchored.

        A slice that opens on a P frame has lost that frame's reference, so the frame becomes I with reason 'slice'; it
        stays in a dropped GOP. Raises InputError when no frame lies in the span.
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
            "prompt_tokens": self.prompt_totals,
            "tokens_per_frame": self.tokens.tolist(),
            "warnings": list(self.warnings),
        }

    @staticmethod
    def from_json(data) -> "GopPlan":
        """Read what ``to_json`` wrote: a dict, or JSON text. Raises InputError for anything else.

        ``i_frames`` and all counts of tokens follow from the rest, so they are not read.
        """
        if isinstance(data, (str, bytes)):
            try:
                data = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise InputError(f"the plan is not JSON: {error}") from None
        return _read_plan(data)


def is_number(value, low: float, high: float = 1e18) -> bool:
    """Whether value is a plain number in [low, high]: large enough for any cost or time, and none is inf or NaN."""
    return isinstance(value, (int, float, np.integer, np.floating)) and type(value) is not bool and low <= value <= high


def checked_gamma(gamma) -> float:
    if not is_number(gamma, 0):
        raise InputError(f"gamma is {gamma!r}; it must be 'auto', 'scaled' or a cost of 0 or more")
    return float(gamma)


def checked_costs(costs) -> np.ndarray:
    if not isinstance(costs, (list, tuple, np.ndarray)) or not len(costs):
        raise InputError(f"costs are {str(costs)[:40]!r}; a plan needs a list with a number for each frame")
    pcost = np.full(len(costs), math.nan)
    for position, cost in enumerate(costs[1:], 1):
        if is_number(cost, 0):
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
        raise InputError(
            f"the plan is a JSON {type(data).__name__}; it must be an object with 'kind', 'why', 'pts' and so on"
        )
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
    if not all(is_number(t, -1e18) for t in pts) or sorted(pts) != pts:
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
        pcost=checked_costs(_field(data, "pcost", list, count)),
        index=np.array(index, np.int64),
        pts=np.array(pts, np.float64),
        size=tuple(size),
        gamma=math.nan if gamma is None else checked_gamma(gamma),
        policy=_choice(data, "policy", POLICIES),
        mode=mode,
        tokens=frame_tokens(mode, kind, keep, tuple(size)),
        source=_choice(data, "source", ("search", "bitstream", "costs")),
        warnings=tuple(warnings),
    )
