"""One GOP through the sampler, in both directions: noise to picture along a path that the target steers.

The encoder and the decoder run the same loop over the same model. At every stochastic step the fresh noise of each
latent frame is a signed sum of codebook atoms; the encoder chooses the atoms that point from the model's estimate to
the target and writes them down, the decoder reads them (GVCC, arXiv 2603.26571, with the exact-variance step of
:mod:`.flow` and the codebook of :mod:`.codebook`). The encoder's last x is the decoder's: no second pass is needed.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from ..errors import InputError
from ..progress import Progress, no_progress
from .codebook import FINAL_SKETCH, STEP_SKETCH, NoiseKey, compose, initial_noise, random_signs, select
from .flow import SIGMA_ONE, Step, exact_step
from .records import FULL_WEIGHT, SKETCH_SIZE, CorruptStream, Gop, Header, atoms_of
from .residual import decode_residual, encode_residual
from .stream import pack_codes, payload_bits, unpack_codes

Denoise = Callable[[torch.Tensor, float], torch.Tensor]
"""``denoise(x, sigma)``: the model's estimate of x0, both [C, F, H, W] float32."""

SAME_DRIFT, WRONG_DRIFT = 1.0, 8.0
"""Grey levels: below the first a drift is invisible; above the second the pictures are not those that were encoded."""


class Trajectory:
    """x of one GOP on its way from noise to picture. Subclasses say which noise comes next.

    Args:
        header: of the stream.
        number: of the GOP, from 0.
        frames: F.
        rule: :func:`.flow.exact_step`, which is what streams mean; others are for comparison.

    Attributes:
        x: float32 [C, F, H, W] in the model's latent space, on the model's device; None before :meth:`begin`.
        step: how many of the T steps are done.
        sketch: float16 [T], projections of x after each step, where a stream of version 1 asks for them; else None.
    """

    def __init__(self, header: Header, number: int, frames: int, rule: Callable[..., Step] = exact_step):
        self.header, self.number, self.rule = header, number, rule
        self.shape = (header.channels, frames, header.latent_height, header.latent_width)
        self.weights: np.ndarray | None = None
        self.x: torch.Tensor | None = None
        self.step = 0
        self.sketch = np.zeros(header.step_count, np.float16) if header.version == 1 and header.has_sketch else None
        self.noise = initial_noise(header.seed, number, frames, header.frame_length)
        self.noise = self.noise.view(frames, header.channels, *self.shape[2:]).transpose(0, 1).contiguous()

    def begin(self, device: torch.device, noise_scale: float = 1.0, latent: torch.Tensor | None = None) -> None:
        """Put x at the first sigma.

        Args:
            device: where the model runs.
            noise_scale: standard deviation of the model's noise at sigma 1 (ComfyUI's ``noise_scale``).
            latent: what is mixed in where the first sigma is below 1, [C, F, H, W]; zeros when left out.
        """
        sigma = self.header.steps[0].sigma / SIGMA_ONE
        self.noise_scale = noise_scale
        self.x = sigma * noise_scale * self.noise.to(device)
        if latent is not None:
            self.x = self.x + (1 - sigma) * latent

    def advance(self, denoise: Denoise, until: int | None = None, progress: Progress = no_progress) -> torch.Tensor:
        """Take steps until ``until`` of the T are done and return x. ``progress`` counts steps of the GOP."""
        steps = self.header.steps
        until = len(steps) if until is None else until
        while self.step < until:
            here = steps[self.step]
            sigma = here.sigma / SIGMA_ONE
            following = steps[self.step + 1].sigma / SIGMA_ONE if self.step + 1 < len(steps) else 0.0
            denoised = denoise(self.x, sigma)
            if not torch.isfinite(denoised).all():
                raise InputError(f"the model returned values that are not finite at step {self.step} (sigma {sigma:g})")
            self._observe(denoised)
            plain = self.rule(sigma, following, 0.0)
            following_x = plain.denoised * denoised + plain.x * self.x
            if self.step < len(steps) - self.header.deterministic:
                coded = self.rule(sigma, following, here.refresh / SIGMA_ONE * following)
                for frame, weight in enumerate(self.weights):
                    if weight:
                        noise = self._frame_noise(frame, atoms_of(here.atoms, int(weight)), here.bits, denoised)
                        following_x[:, frame] = (
                            coded.denoised * denoised[:, frame]
                            + coded.x * self.x[:, frame]
                            + coded.noise * self.noise_scale * noise.view_as(denoised[:, frame])
                        )
            self.x = following_x
            if self.sketch is not None:
                self.sketch[self.step] = project(self.x, self._key, STEP_SKETCH)
            self.step += 1
            progress(self.step, len(steps))
        return self.x

    def _observe(self, denoised: torch.Tensor) -> None:
        """Take in the model's estimate before the step is taken."""

    def _frame_noise(self, frame: int, atoms: int, bits: int, denoised: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _key(self, frame: int, step: int | None = None) -> NoiseKey:
        return NoiseKey(self.header.seed, self.number, self.step if step is None else step, frame)

    def final_sketch(self, latent: torch.Tensor) -> np.ndarray:
        """float16 [SKETCH_SIZE], projections of ``latent`` [C, F, H, W] along fixed pseudo-random sign vectors.

        Two latents that differ by e per value (root mean square, any direction) differ by about e in each entry.
        """
        keys = [partial(self._key, step=number) for number in range(SKETCH_SIZE)]
        return np.array([project(latent, key, FINAL_SKETCH) for key in keys], np.float16)


def project(latent: torch.Tensor, key: Callable[[int], NoiseKey], domain: int) -> float:
    """<latent, v> / sqrt(D F) for a sign vector v whose part for each latent frame has the key ``key(frame)``."""
    total, (_, frames, *_) = 0.0, latent.shape
    for frame in range(frames):
        values = latent[:, frame].reshape(-1)
        signs = torch.from_numpy(random_signs(key(frame), domain, 0, values.numel()))
        total += float((values * signs.to(latent.device)).sum())
    return total / latent.numel() ** 0.5


class EncodingTrajectory(Trajectory):
    """Steers towards a target and records how.

    Args:
        header, number, rule: see :class:`Trajectory`.
        target: float32 [C, F, H, W], the latent to code, in the model's latent space.
        mask: broadcastable to the target, 1 where the model paints, 0 where its latent image stays. Frames that are 0
            everywhere cost no bits.
        adapt: give frames atoms by the residual energy that the model's first estimate leaves, at the same total.
        mean_weight, tail_weight: see :func:`frame_weights`.

    Attributes:
        excess: how much energy of the model's first estimate the target does not explain, see :func:`excess_energy`;
            NaN before the first step.

    Raises InputError for a target of another shape or with values that are not finite.
    """

    def __init__(
        self,
        header: Header,
        number: int,
        target: torch.Tensor,
        mask: torch.Tensor | None = None,
        adapt: bool = True,
        rule: Callable[..., Step] = exact_step,
        mean_weight: float = FULL_WEIGHT,
        tail_weight: float = 1.0,
    ):
        super().__init__(header, number, target.shape[1], rule)
        if tuple(target.shape) != self.shape:
            raise InputError(f"the target latent is {list(target.shape)}; the stream codes {list(self.shape)}")
        if not torch.isfinite(target).all():
            raise InputError(f"the target latent of GOP {number} has values that are not finite")
        self.target, self.adapt = target, adapt
        self.mean_weight, self.tail_weight = mean_weight, tail_weight
        self.excess = float("nan")
        self.mask = None if mask is None else mask.expand(self.shape).to(target)
        self.codes: list[np.ndarray] = []

    def begin(self, device, noise_scale=1.0, latent=None):
        super().begin(device, noise_scale, latent)
        self.target = self.target.to(device)
        self.mask = None if self.mask is None else self.mask.to(device)

    def residual(self, estimate: torch.Tensor) -> torch.Tensor:
        """What is missing from ``estimate`` where the model paints."""
        missing = self.target - estimate
        return missing if self.mask is None else missing * self.mask

    def _observe(self, denoised):
        if self.weights is None:
            painted = 1.0 if self.mask is None else self.mask
            self.excess = excess_energy(denoised * painted, self.target * painted)
            residual = self.residual(denoised)
            self.weights = frame_weights(residual, self.mask, self.adapt, self.mean_weight, self.tail_weight)

    def _frame_noise(self, frame, atoms, bits, denoised):
        residual = self.residual(denoised)[:, frame].reshape(-1)
        index, sign = select(residual, self._key(frame), atoms, bits)
        self.codes.append(pack_codes(index.cpu().numpy(), sign.cpu().numpy(), bits))
        return compose(index, sign, self._key(frame), bits, self.header.frame_length)

    def finish(self, frames: int, tail_fraction: float = 0.0, **parts) -> tuple[Gop, torch.Tensor]:
        """The GOP's record and the latent that a decoder will have, [C, F, H, W].

        Args:
            frames: pixel frames that the GOP adds to the video.
            tail_fraction: bytes for the residual of the last latent frame, as a fraction of the codebook's bytes.
            parts: other fields of :class:`.records.Gop`.
        """
        codes = np.concatenate(self.codes) if self.codes else np.zeros(0, np.uint8)
        payload = np.packbits(codes, bitorder="little").tobytes()
        tail, latent = b"", self.x
        if self.header.has_tail:
            missing = self.residual(self.x)[:, -1].cpu().numpy()
            tail = encode_residual(missing, round(tail_fraction * len(payload)))
            latent = add_tail(latent, tail)
        sketch = self.final_sketch(latent) if self.header.has_sketch else None
        continues = parts.pop("continues", False)
        return Gop(frames, continues, self.weights, payload, tail=tail, sketch=sketch, **parts), latent


class DecodingTrajectory(Trajectory):
    """Follows what an encoder recorded."""

    def __init__(self, header: Header, number: int, gop: Gop):
        super().__init__(header, number, len(gop.weights))
        self.gop, self.weights, self.at = gop, gop.weights, 0
        bits = payload_bits(header, gop.weights)
        self.codes = np.unpackbits(np.frombuffer(gop.payload, np.uint8), count=bits, bitorder="little")

    def _frame_noise(self, frame, atoms, bits, denoised):
        size = atoms * (bits + 1)
        index, sign = unpack_codes(self.codes[self.at : self.at + size], bits)
        self.at += size
        index, sign = torch.from_numpy(index).to(denoised.device), torch.from_numpy(sign).to(denoised.device)
        return compose(index, sign, self._key(frame), bits, self.header.frame_length)

    def finish(self) -> tuple[torch.Tensor, float]:
        """The latent [C, F, H, W] and its drift from the encoder's in grey levels; NaN without a sketch."""
        latent = add_tail(self.x, self.gop.tail)
        if self.gop.sketch is None:
            return latent, float("nan")
        found = self.final_sketch(latent) if self.sketch is None else self.sketch
        return latent, self.gop.grey_levels * sketch_drift(self.gop.sketch, found)


def frame_weights(
    residual: torch.Tensor,
    mask: torch.Tensor | None,
    adapt: bool,
    mean_weight: float = FULL_WEIGHT,
    tail_weight: float = 1.0,
) -> np.ndarray:
    """uint8 [F]: how many sixteenths of the schedule's atoms each latent frame gets.

    Frames get atoms in proportion to the root of their residual's energy, within a quarter to four times the mean.

    Args:
        residual: [C, F, H, W], what the model's estimate from pure noise misses.
        mask: as in :class:`EncodingTrajectory`.
        adapt: False gives every painted frame the same.
        mean_weight: mean over the frames that the model paints; 16 is the schedule's rate.
        tail_weight: what the last two latent frames get, times what they would get; the mean stays. GVCC has 2, for
            chains whose next GOP starts from there.
    """
    painted = np.ones(residual.shape[1], bool) if mask is None else mask.amax((0, 2, 3)).cpu().numpy() > 0
    parts = painted.astype(np.float64)
    root = residual.square().mean((0, 2, 3)).sqrt().cpu().double().numpy()
    if adapt and painted.any() and root[painted].mean() > 0:
        parts[painted] = np.clip(root[painted] / root[painted].mean(), 0.25, 4.0)
    parts[-2:] *= tail_weight
    weights = np.zeros(len(parts), np.uint8)
    if painted.any():
        scaled = np.rint(mean_weight * parts[painted] / parts[painted].mean())
        weights[painted] = scaled.clip(1, 255)
    return weights


def excess_energy(estimate: torch.Tensor, target: torch.Tensor) -> float:
    """1 - <estimate, target> / <estimate, estimate>: about 0 for a posterior mean, about 1 for an unrelated picture.

    The error of a posterior mean is orthogonal to it, so its products with itself and with the target agree. A
    distilled or guided model paints more than it can know from pure noise. 0 where the estimate has under 2 % of the
    target's energy.
    """
    energy = float(estimate.square().mean())
    if energy <= 0.02 * float(target.square().mean()):
        return 0.0
    return 1 - float((estimate * target).mean()) / energy


def add_tail(latent: torch.Tensor, tail: bytes) -> torch.Tensor:
    """``latent`` [C, F, H, W] with the coded residual added to its last frame."""
    if not tail:
        return latent
    channels, _, height, width = latent.shape
    try:
        residual = decode_residual(tail, (channels, height, width))
    except InputError as error:
        raise CorruptStream(f"the stream does not decode: {error}") from None
    latent = latent.clone()
    latent[:, -1] += torch.from_numpy(residual).to(latent.device)
    return latent


def sketch_drift(sent: np.ndarray, seen: np.ndarray) -> float:
    """Root mean square difference per latent value, estimated from two sketches; 0 for the same trajectory."""
    difference = sent.astype(np.float64) - seen.astype(np.float64)
    return float(np.sqrt(np.mean(difference**2)))


def drift_sentence(drifts: Sequence[float], restarts: Sequence[bool]) -> str:
    """What the drifts of a video's GOPs mean, in one sentence; empty where there is nothing to say.

    Args:
        drifts: grey levels, one a GOP; NaN where unknown.
        restarts: whether each GOP starts without the decoded end of the one before.
    """
    known = [(drift, restart) for drift, restart in zip(drifts, restarts, strict=True) if not np.isnan(drift)]
    worst = max((drift for drift, _ in known), default=0.0)
    if worst <= SAME_DRIFT:
        return ""
    seen = f"the decoded pictures differ from the encoder's by up to about {worst:.1f} grey levels"
    first = max((drift for drift, restart in known if restart), default=worst)
    if worst > 2 * first:
        return (
            f"{seen}, {first:.1f} in GOPs that start from a still: small deviations of this decoder add up along the "
            "chain; encode with still_every to bound them"
        )
    if worst <= WRONG_DRIFT:
        return f"{seen}; another precision, quantisation or attention kernel does that, and details may differ"
    return f"{seen}; the model, LoRA, prompt or conditioning is not the one that the stream was encoded with"


def encode_gop(
    denoise: Denoise, header: Header, number: int, target: torch.Tensor, frames: int, *,
    mask: torch.Tensor | None = None, adapt: bool = True, tail_fraction: float = 0.0, progress: Progress = no_progress,
) -> tuple[Gop, torch.Tensor]:  # fmt: skip
    """Code one GOP with a model that is at hand as a function. Arguments as in :class:`EncodingTrajectory`.

    Returns:
        the GOP's record and the latent that a decoder will have, [C, F, H, W].
    """
    trajectory = EncodingTrajectory(header, number, target, mask, adapt)
    trajectory.begin(target.device)
    trajectory.advance(denoise, progress=progress)
    return trajectory.finish(frames, tail_fraction)


def decode_gop(
    denoise: Denoise, header: Header, number: int, gop: Gop, device: torch.device | str = "cpu",
    progress: Progress = no_progress,
) -> tuple[torch.Tensor, float]:  # fmt: skip
    """Decode one GOP: its latent [C, F, H, W] and its drift from the encoder's, in grey levels."""
    trajectory = DecodingTrajectory(header, number, gop)
    trajectory.begin(torch.device(device))
    trajectory.advance(denoise, progress=progress)
    return trajectory.finish()
