"""Bytes buy picture: a tiny flow model trained here on synthetic clips, as a codec beside x264 and x265.

    python tests/bench/gvc_tiny_flow.py train WEIGHTS [--steps 2000]
    python tests/bench/gvc_tiny_flow.py measure WEIGHTS RESULTS.json      rates and PSNR on clips it has not seen
    python tests/bench/gvc_tiny_flow.py draw RESULTS.json FIGURE.svg

The clips are 16 frames of 32x32 pixels: one or two shapes that move and bounce over a gradient. That is the whole
world of the model, so the comparison says what knowing the content is worth, not how the codec does on real video. In
the role of a VAE, blocks of 4x8x8 pixels are 96 principal components, which no rate can go beyond ("ceiling"); a
transformer of 1.6 million weights is the flow over them. Every codec gets all test clips as one stream whose GOPs are
the clips, and pays for its own headers; x264 and x265 run at their veryslow preset with constant quality, in 4:2:0 and
4:4:4, and the better of the two is drawn. Quality is PSNR, and FLIP where flip-evaluator is installed.
"""

import argparse
import io
import json
import platform
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.gvc.codec import EncodingTrajectory, decode_gop
from codeclens.models.gvc.flow import shifted_sigmas
from codeclens.models.gvc.rate import best_shift, plan_schedule
from codeclens.models.gvc.stream import Header, Stream, write_stream
from codeclens.models.video.perceptual import flip, flip_is_installed
from codeclens.models.video.quality import decibels
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.plots import log_plot
from torch import nn

operations = torch.nn

SIDE, FRAMES, CHANNELS = 32, 16, 96
WIDTH, DEPTH, HEADS = 144, 4, 4
STEPS, FIXED_SHIFT = 20, 300
BATCH, TEST_SEED, TEST_CLIPS = 16, 1_000_000, 16


def synthetic_clip(seed: int) -> np.ndarray:
    """float32 [16, 32, 32, 3] in -1..1: shapes with straight paths and bounces over a gradient."""
    generator = np.random.default_rng(seed)
    grid = (np.arange(SIDE) + 0.5) / SIDE
    angle = generator.uniform(0, 2 * np.pi)
    slope = np.clip(0.5 + np.cos(angle) * (grid[None] - 0.5) + np.sin(angle) * (grid[:, None] - 0.5), 0, 1)
    colours = generator.uniform(-0.9, 0.9, (2, 3))
    video = np.repeat((colours[0] + slope[..., None] * (colours[1] - colours[0]))[None], FRAMES, 0)
    for _ in range(generator.integers(1, 3)):
        radius, colour = generator.uniform(0.1, 0.22), generator.uniform(-1, 1, 3)
        start, velocity = generator.uniform(0.2, 0.8, 2), generator.uniform(-0.05, 0.05, 2)
        square = generator.random() < 0.5
        for frame in range(FRAMES):
            at = start + velocity * frame
            at = radius + np.abs((at - radius) % (2 * (1 - 2 * radius)))
            at = np.where(at > 1 - radius, 2 * (1 - radius) - at, at)
            across, down = np.abs(grid[None] - at[0]), np.abs(grid[:, None] - at[1])
            away = np.maximum(across, down) if square else np.hypot(across, down)
            cover = np.clip((radius - away) * SIDE + 0.5, 0, 1)[..., None]
            video[frame] = video[frame] * (1 - cover) + colour * cover
    return video.astype(np.float32)


def patches(clips: np.ndarray) -> torch.Tensor:
    """[N, 16, 32, 32, 3] -> [N, 4, 4, 4, 768]: blocks of 4 frames and 8x8 pixels."""
    blocks = torch.from_numpy(clips).unflatten(1, (-1, 4)).unflatten(3, (-1, 8)).unflatten(5, (-1, 8))
    return blocks.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4)


class PrincipalComponents:
    """Stands for a VAE: the 96 leading components of a block, an orthonormal basis fitted to training clips."""

    def __init__(self, basis: torch.Tensor, variance: torch.Tensor):
        self.basis, self.variance = basis, variance

    @classmethod
    def fit(cls, first_seed: int = 2_000_000, clips: int = 400) -> "PrincipalComponents":
        blocks = patches(np.stack([synthetic_clip(first_seed + number) for number in range(clips)])).flatten(0, 3)
        variance, basis = torch.linalg.eigh((blocks.T @ blocks / len(blocks)).double())
        return cls(basis.flip(1)[:, :CHANNELS].float().contiguous(), variance.flip(0)[:CHANNELS].float())

    def to_latent(self, clips: np.ndarray) -> torch.Tensor:
        """[N, 16, 32, 32, 3] -> [N, 96, 4, 4, 4]."""
        return (patches(clips) @ self.basis).movedim(-1, 1).contiguous()

    def to_pixels(self, latent: torch.Tensor) -> np.ndarray:
        """[96, 4, 4, 4] -> uint8 [16, 32, 32, 3]."""
        blocks = (latent.movedim(0, -1) @ self.basis.T).unflatten(-1, (4, 8, 8, 3))
        video = blocks.permute(0, 3, 1, 4, 2, 5, 6).reshape(FRAMES, SIDE, SIDE, 3)
        return to_bytes(video.numpy())


def to_bytes(video: np.ndarray) -> np.ndarray:
    """-1..1 as uint8."""
    return ((video + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


class Block(nn.Module):
    """Attention and MLP whose norms the time embedding scales and shifts."""

    def __init__(self):
        super().__init__()
        self.attention_in, self.attention_out = operations.Linear(WIDTH, 3 * WIDTH), operations.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = operations.Linear(WIDTH, 4 * WIDTH), operations.Linear(4 * WIDTH, WIDTH)
        self.modulation = operations.Linear(WIDTH, 6 * WIDTH)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, tokens, moment):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(moment)[:, None].chunk(6, -1)
        states = nn.functional.layer_norm(tokens, (WIDTH,)) * (1 + scale1) + shift1
        query, key, value = self.attention_in(states).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + gate1 * self.attention_out(mixed)
        states = nn.functional.layer_norm(tokens, (WIDTH,)) * (1 + scale2) + shift2
        return tokens + gate2 * self.narrow(nn.functional.gelu(self.wide(states)))


class TinyFlow(nn.Module):
    """A transformer over 64 tokens, one for each block, that predicts x0; 1.6 million weights.

    Were every component Gaussian and independent, a linear estimate would be exact. The net sees x whitened and adds
    what that estimate misses, in units of its standard deviation.
    """

    def __init__(self, variance: torch.Tensor):
        super().__init__()
        self.register_buffer("variance", variance)
        self.embed, self.unembed = operations.Linear(CHANNELS, WIDTH), operations.Linear(WIDTH, CHANNELS)
        self.position = nn.Parameter(0.02 * torch.randn(1, 64, WIDTH))
        self.moment = nn.Sequential(
            operations.Linear(64, WIDTH), nn.SiLU(), operations.Linear(WIDTH, WIDTH), nn.SiLU()
        )  # fmt: skip
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        nn.init.zeros_(self.unembed.weight)

    def spread(self, sigma: torch.Tensor) -> torch.Tensor:
        """Standard deviation of the linear estimate's error, [B, 96, 1, 1, 1]."""
        level, variance = sigma.view(-1, 1, 1, 1, 1), self.variance.view(1, -1, 1, 1, 1)
        return (variance * level**2 / ((1 - level) ** 2 * variance + level**2)).sqrt()

    def forward(self, x, sigma):
        """x [B, 96, 4, 4, 4], sigma [B] -> x0."""
        level, variance = sigma.view(-1, 1, 1, 1, 1), self.variance.view(1, -1, 1, 1, 1)
        total = (1 - level) ** 2 * variance + level**2
        angles = sigma[:, None] * torch.exp(torch.linspace(0, 6, 32))
        moment = self.moment(torch.cat([angles.sin(), angles.cos()], -1))
        tokens = self.embed((x / total.sqrt()).flatten(2).transpose(1, 2)) + self.position
        for block in self.blocks:
            tokens = block(tokens, moment)
        missing = self.unembed(nn.functional.layer_norm(tokens, (WIDTH,))).transpose(1, 2).view_as(x)
        return (1 - level) * variance / total * x + self.spread(sigma) * missing


def train(path: Path, steps: int, seed: int = 0) -> None:
    """Minimise the error of x0 in units of the linear estimate's, in ``steps`` batches; the learning rate is a cosine.

    The same steps and seed give the same weights on the same machine, whatever else runs on it.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # a busy machine stalls two threads at every small product
    components = PrincipalComponents.fit()
    model = TinyFlow(components.variance)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=0.01)
    shown = 0.0
    for step in range(steps):
        clips = np.stack([synthetic_clip(BATCH * step + number) for number in range(BATCH)])
        latent = components.to_latent(clips)
        sigma = torch.sigmoid(1.3 * torch.randn(BATCH))
        level = sigma.view(-1, 1, 1, 1, 1)
        noisy = (1 - level) * latent + level * torch.randn_like(latent)
        spread = model.spread(sigma)
        loss = ((model(noisy, sigma) - latent).square() / spread**1.5).mean()
        for group in optimiser.param_groups:
            group["lr"] = 1.5e-3 * min(1, step / 50) * (0.5 + 0.5 * np.cos(np.pi * step / steps))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        decay = min(0.99, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        now = float(loss.detach())
        shown = 0.98 * shown + 0.02 * now if step else now
        if step % 100 == 0:
            print(f"step {step} of {steps}, loss {shown:.4f}", flush=True)
    average["basis"] = components.basis
    save_file(average, path, {"steps": str(steps), "seed": str(seed)})
    print(f"{steps} steps of {BATCH} clips, loss {shown:.4f}")


def held_out_clips() -> list[np.ndarray]:
    return [synthetic_clip(TEST_SEED + number) for number in range(TEST_CLIPS)]


def quality(originals, decoded) -> float:
    """PSNR over all clips, against the 8-bit originals."""
    squares = [np.square(one.astype(float) - two).mean() for one, two in zip(originals, decoded, strict=True)]
    return float(decibels(np.mean(squares)))


def measure_codec(model: TinyFlow, components, clips, frame_bits: float, shift: float = 0.0, adapt_clips=False) -> dict:
    """Bytes of the whole stream, PSNR and FLIP of what a decoder shows.

    ``shift``: of the schedule, by the rate if 0. ``adapt_clips``: bits by what the first estimate misses.
    """

    def denoise(x, sigma):
        with torch.inference_mode():
            return model(x[None], torch.tensor([sigma]))[0]

    length = 16 * CHANNELS
    sigmas = shifted_sigmas(STEPS, round(100 * (shift or best_shift(frame_bits / length))))
    header = Header(
        "T2V", CHANNELS, 4, 4, 4, FRAMES * len(clips), SIDE, SIDE, Fraction(16),
        plan_schedule(sigmas, 1, length, frame_bits), STEPS, has_sketch=False,
    )  # fmt: skip
    latents = components.to_latent(np.stack(clips))
    weights = np.full(len(clips), 16.0)
    if adapt_clips:
        noise = torch.randn(latents[0].shape, generator=torch.Generator().manual_seed(0))
        missing = (latents - denoise(noise, 1.0)).square().mean((1, 3, 4)).sqrt().mean(1).numpy()
        weights = 16 * np.clip(missing / missing.mean(), 0.25, 4)
    gops, decoded = [], []
    for number, latent in enumerate(latents):
        trajectory = EncodingTrajectory(header, number, latent, mean_weight=weights[number])
        trajectory.begin(latent.device)
        trajectory.advance(denoise)
        gop, final = trajectory.finish(FRAMES)
        gops.append(gop)
        decoded.append(components.to_pixels(final))
    stream = Stream(header, tuple(gops))
    again, _ = decode_gop(denoise, header, number, gop)
    assert torch.equal(again, final)
    return {"bytes": len(write_stream(stream)), **qualities(clips, decoded)}


def qualities(clips, decoded) -> dict:
    """PSNR, and the mean FLIP of all frames where flip-evaluator is installed."""
    originals = [to_bytes(clip) for clip in clips]
    found = {"psnr": round(quality(originals, decoded), 3)}
    if flip_is_installed():
        pairs = zip(np.concatenate(originals), np.concatenate(decoded), strict=True)
        found["flip"] = round(float(np.mean([flip(one, other) for one, other in pairs])), 4)
    return found


def measure_encoder(name: str, clips, crf: int, layout: str) -> dict:
    """x264 or x265: a key frame for each clip and none elsewhere; see :func:`picture_bytes`."""
    raw = io.BytesIO()
    parameters = f"keyint={FRAMES}:min-keyint={FRAMES}:scenecut=0:open-gop=0:info=0"
    options = {"preset": "veryslow", "crf": str(crf)}
    options |= {"x264-params": parameters.removesuffix(":info=0")} if name == "libx264" else {"x265-params": parameters}
    decoded = []
    with av.open(raw, "w", format="h264" if name == "libx264" else "hevc") as container:
        stream = container.add_stream(name, rate=16, options=options)
        stream.width = stream.height = SIDE
        stream.pix_fmt = layout
        for clip in clips:
            for picture in to_bytes(clip):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())
    data = raw.getvalue()
    with av.open(io.BytesIO(data), format="h264" if name == "libx264" else "hevc") as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    found = qualities(clips, np.split(decoded, len(clips)))
    return {"bytes": picture_bytes(data, name), **found, "crf": crf, "layout": layout}


def picture_bytes(data: bytes, name: str) -> int:
    """Bytes of an Annex B stream without SEI messages (the encoders sign there), equal parameter sets counted once."""
    starts = [at for at in range(len(data) - 3) if data[at : at + 3] == b"\0\0\1"] + [len(data)]
    units = [data[start:end] for start, end in zip(starts, starts[1:], strict=False)]
    if name == "libx264":
        kinds, sei, headers = [unit[3] & 31 for unit in units], {6}, {7, 8}
    else:
        kinds, sei, headers = [unit[3] >> 1 & 63 for unit in units], {39, 40}, {32, 33, 34}
    pictures = sum(len(unit) for unit, kind in zip(units, kinds, strict=True) if kind not in sei | headers)
    return pictures + sum(map(len, {unit for unit, kind in zip(units, kinds, strict=True) if kind in headers}))


def measure(weights: Path, results: Path) -> None:
    torch.set_num_threads(1)
    state = load_file(weights)
    components = PrincipalComponents(state.pop("basis"), state["variance"])
    model = TinyFlow(components.variance)
    model.load_state_dict(state)
    model.eval()
    clips = held_out_clips()
    found = {"clips": len(clips), "frames": FRAMES, "side": SIDE, "seed": TEST_SEED, "machine": machine(weights)}
    projected = [components.to_pixels(latent) for latent in components.to_latent(np.stack(clips))]
    found["ceiling"] = round(quality(map(to_bytes, clips), projected), 3)
    ways = {"gvc": {"adapt_clips": True}, "gvc, equal clips": {}, "gvc, shift 3": {"shift": FIXED_SHIFT / 100}}
    for label, options in ways.items():
        found[label] = [
            measure_codec(model, components, clips, bits, **options)
            for bits in (60, 100, 200, 400, 800, 1600, 3200, 6400)
        ]
        print(label, found[label], flush=True)
    for name in ("libx264", "libx265"):
        found[name] = [
            measure_encoder(name, clips, crf, layout)
            for layout in ("yuv420p", "yuv444p")
            for crf in (51, 46, 42, 38, 34, 30, 26, 22, 18)
        ]
        print(name, found[name], flush=True)
    results.write_text(json.dumps(found, indent=1) + "\n")


def machine(weights: Path) -> str:
    with safe_open(weights, "pt") as file:
        trained = file.metadata()
    steps, seed = trained["steps"], trained["seed"]
    return f"{platform.machine()}, torch {torch.__version__}; trained {steps} steps of {BATCH} clips, seed {seed}"


def envelope(points: list[dict], measure: str) -> list[dict]:
    """The points that no other point beats in both bytes and ``measure``: more PSNR or less FLIP."""
    sign, best = -1 if measure == "flip" else 1, []
    for point in sorted(points, key=lambda point: point["bytes"]):
        if not best or sign * point[measure] > sign * best[-1][measure]:
            best.append(point)
    return best


def draw(results: Path, figure: Path) -> None:
    """SVGs of PSNR, and of FLIP in a file ending in _flip.svg, against bits per pixel on a logarithmic axis."""
    found = json.loads(results.read_text())
    samples = found["clips"] * found["frames"] * found["side"] ** 2
    titles = {
        "gvc": ("GVC", "#c2410c"),
        "libx264": ("x264 veryslow", "#1d4ed8"),
        "libx265": ("x265 veryslow", "#0f766e"),
    }
    for measure, up, path in (
        ("psnr", "PSNR (dB)", figure),
        ("flip", "FLIP, less is closer", figure.with_name(f"{figure.stem}_flip.svg")),
    ):
        if measure not in found["gvc"][0]:
            continue
        curves = {
            title: (
                colour,
                [(8 * point["bytes"] / samples, point[measure]) for point in envelope(found[name], measure)],
            )
            for name, (title, colour) in titles.items()
        }
        across = "bits per pixel, headers included"
        path.write_text(log_plot(curves, across, up, linear_up=measure == "psnr"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("weights", type=Path)
    training.add_argument("--steps", type=int, default=2000)
    measuring = commands.add_parser("measure")
    measuring.add_argument("weights", type=Path)
    measuring.add_argument("results", type=Path)
    drawing = commands.add_parser("draw")
    drawing.add_argument("results", type=Path)
    drawing.add_argument("figure", type=Path)
    chosen = parser.parse_args()
    if chosen.command == "train":
        train(chosen.weights, chosen.steps)
    elif chosen.command == "measure":
        measure(chosen.weights, chosen.results)
    else:
        draw(chosen.results, chosen.figure)


if __name__ == "__main__":
    main()
