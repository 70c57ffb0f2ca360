"""How far a decoder that is not quite the encoder drifts, GOP after GOP, and what stills in between do about it.

    python tests/bench/gvc_drift.py [RESULTS.json]     writes the results and, beside them, a figure

The video is 20 GOPs of 9 frames of a moving square, coded with the closed-form flow of support/pixel_flow.py, whose
prior is the picture a GOP starts from. The decoder's estimates deviate: white noise of 0.01 (of a range of 2), a gain
of 1.02, or weights in bfloat16 or 4 bits (a 48x48 rotation and its inverse around the estimate, 4 bits by absmax in
groups of 16). True drift is the root mean square difference of the decoder's pictures from the encoder's in grey
levels; reported drift is what the stream's sketch says. At the end: what atoms of the last latent frames and the tail
residual do to a chain's quality at equal bytes.
"""

import json
import platform
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.gvc.gops import cut_clips, plan_gops
from codeclens.models.gvc.records import Stream
from codeclens.models.gvc.video import Settings, decode_video, encode_video, make_header
from codeclens.models.video.quality import decibels
from support.pixel_flow import PixelFlow, moving_square
from support.plots import log_plot

GOPS, GOP_FRAMES, FRAME_BITS = 20, 9, 1000.0
STILLS = (0, 8, 4)


def rotation() -> torch.Tensor:
    """An orthonormal 48x48 matrix: the weights of the model that is quantised."""
    return torch.linalg.qr(torch.randn(48, 48, generator=torch.Generator().manual_seed(0)))[0]


def four_bits(weights: torch.Tensor) -> torch.Tensor:
    """Rounded to 15 levels, one scale for each 16 values of a row."""
    groups = weights.unflatten(1, (-1, 16))
    scale = groups.abs().amax(2, keepdim=True) / 7
    return ((groups / scale).round() * scale).flatten(1)


def with_weights(forth: torch.Tensor, back: torch.Tensor):
    return lambda denoised: torch.einsum("ij,jk,k...->i...", back, forth, denoised)


def deviations() -> dict:
    """What a decoder does to every estimate, by name."""
    weights, generator = rotation(), torch.Generator().manual_seed(1)
    half = weights.bfloat16().float()
    return {
        "noise of 0.01": lambda denoised: denoised + 0.01 * torch.randn(denoised.shape, generator=generator),
        "gain of 1.02": lambda denoised: 1.02 * denoised,
        "bfloat16 weights": with_weights(half, half.T),
        "4-bit weights": with_weights(four_bits(weights), four_bits(weights.T.contiguous())),
    }


def encode(variant: str, still_every: int, **changes) -> tuple[Stream, np.ndarray, np.ndarray]:
    """The stream, what its encoder shows, and the original."""
    frames = (GOP_FRAMES - 1) * GOPS + 1
    model, video = PixelFlow(), moving_square(frames)
    settings = replace(Settings(variant, FRAME_BITS, 8, image_codec="PNG"), **changes)
    spans = plan_gops(frames, GOP_FRAMES, 4, variant != "T2V", still_every=still_every)
    header = make_header(model, settings, spans, video.shape[1:3], Fraction(24))
    coded = list(encode_video(model, header, settings, spans, cut_clips([video], spans)))
    return Stream(header, tuple(gop.gop for gop in coded)), [gop.pictures for gop in coded], video


def drift_of(stream: Stream, shown: list[np.ndarray], alter) -> tuple[list[float], list[float]]:
    """True and reported drift of every GOP, grey levels."""
    model = PixelFlow()
    model.alter = alter
    true, reported = [], []
    for (pictures, _, drift), expected in zip(decode_video(model, stream), shown, strict=True):
        true.append(float(np.sqrt(np.square(pictures.astype(float) - expected).mean())))
        reported.append(drift)
    return true, reported


def measure_drift() -> list[dict]:
    rows = []
    cases = [("I2V", still_every) for still_every in STILLS] + [("T2V", 0), ("FLF2V", 0)]
    for variant, still_every in cases:
        stream, shown, _ = encode(variant, still_every)
        for name, alter in deviations().items():
            true, reported = drift_of(stream, shown, alter)
            row = {"variant": variant, "still_every": still_every, "deviation": name}
            rows.append({**row, "true": np.round(true, 3).tolist(), "reported": np.round(reported, 3).tolist()})
            print(f"{variant} {still_every} {name}: first {true[0]:.2f}, most {max(true):.2f}, last {true[-1]:.2f}; "
                  f"reported {reported[0]:.2f}, {max(reported):.2f}, {reported[-1]:.2f}", flush=True)  # fmt: skip
    return rows


def measure_tails() -> list[dict]:
    """Quality of a chain by how its bits lie: the codebook gives what the tail residual takes."""
    rows = []
    for fraction in (0.0, 0.25, 0.5, 1.0):
        for weight in (1.0, 1.5, 2.0, 3.0):
            stream, shown, video = encode(
                "I2V", 0, tail_fraction=fraction, tail_weight=weight, frame_bits=FRAME_BITS / (1 + fraction)
            )
            shown = np.concatenate(shown)
            size = sum(len(gop.payload) + len(gop.tail) for gop in stream.gops)
            squares = np.square(shown.astype(float) - video).mean((1, 2, 3))
            rows.append({
                "tail_fraction": fraction, "tail_atoms": weight, "bytes": size,
                "psnr": round(float(decibels(squares.mean())), 3),
                "psnr_of_ends": round(float(decibels(squares[8::8].mean())), 3),
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "results" / "gvc_drift.json")
    torch.set_num_threads(1)
    found = {"command": "python tests/bench/gvc_drift.py", "gops": GOPS, "gop_frames": GOP_FRAMES}
    found |= {"drift": measure_drift(), "tails": measure_tails()}
    found["machine"] = f"{platform.machine()}, torch {torch.__version__}"
    target.write_text(json.dumps(found, indent=1) + "\n")
    draw(found, target.with_suffix(".svg"))


def draw(found: dict, figure: Path) -> None:
    """True drift along the chain with one still and with a still every 4 GOPs; 4-bit weights leave the picture."""
    colours = {"noise of 0.01": "#1d4ed8", "gain of 1.02": "#c2410c", "bfloat16 weights": "#0f766e"}
    curves = {}
    for row in found["drift"]:
        name, every = row["deviation"], row["still_every"]
        if row["variant"] == "I2V" and every in (0, 4) and name in colours:
            curves[name + (f", a still every {every} GOPs" if every else "")] = (
                colours[name],
                list(enumerate(row["true"], 1)),
            )
    figure.write_text(log_plot(curves, "GOP of a chain", "drift in grey levels", linear_up=True))


if __name__ == "__main__":
    main()
