"""Rate and distortion on a flow whose denoiser is exact: this codec, the paper's codebook, and what no codec can beat.

    python tests/bench/gvc_rate.py [RESULTS.json]     writes the results and, beside them, a figure

The flow is a mixture of six Gaussians with a power-law spectrum, 3 frames of 4096 values (support/analytic_flow.py,
seed 0); errors are means over 4 targets (seeds 0 to 3), 2 for the tables of schedules and of models. The paper's
codebook is support/gaussian_codebook.py: 1024 Gaussian atoms, Euler-Maruyama, 3 deterministic steps. This codec is
given no more bits than it at every row. The bound is reverse water-filling with the mixture component known.
"""

import json
import platform
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.gvc.codec import EncodingTrajectory
from codeclens.models.gvc.flow import exact_step, shifted_sigmas
from codeclens.models.gvc.rate import best_shift, plan_schedule
from codeclens.models.gvc.stream import Header, payload_bits
from support.analytic_flow import AnalyticFlow
from support.gaussian_codebook import reference_bits, reference_codec
from support.plots import log_plot

CHOICES = (1, 2, 4, 8, 16, 32, 64)
HIGH_RATES = (0.81, 3.24)
"""Bits per latent value beyond the paper's rates."""


def coded(flow, targets, frame_bits: float, denoise=None, **schedule) -> tuple[int, float, float]:
    """Bits, mean squared error and excess energy of the first estimate (see models/gvc/codec.py)."""
    shift = schedule.pop("shift", None) or best_shift(frame_bits / flow.length)
    steps = plan_schedule(shifted_sigmas(20, round(100 * shift)), 1, flow.length, frame_bits, **schedule)
    header = Header("T2V", 1, flow.frames, flow.length, 1, 5, flow.length, 1, Fraction(16), steps, 20, 1)
    errors, excess = [], []
    for target in targets:
        trajectory = EncodingTrajectory(header, 0, target, adapt=False)
        trajectory.begin(target.device)
        latent = trajectory.advance(denoise or flow.denoise)
        errors.append(float((latent - target).square().mean()))
        excess.append(trajectory.excess)
    return payload_bits(header, [16] * flow.frames), float(np.mean(errors)), float(np.mean(excess))


def measure_rates(flow, targets) -> list[dict]:
    """This codec, with and without its rate-aware shift and late steps, and the paper's, at no more bits."""
    paper = reference_codec(flow, targets, CHOICES)
    paper_exact = reference_codec(flow, targets, CHOICES, exact_step)
    rows = []
    for chosen in CHOICES:
        budget = reference_bits(flow.frames, chosen)
        row = {"bits": budget, "paper": paper[chosen], "paper_exact_step": paper_exact[chosen]}
        row["flat_bits"], row["flat"], _ = coded(flow, targets, budget / flow.frames, late_exponent=0.0, shift=5.0)
        rows.append(row)
    rows += [{"bits": round(value_bits * flow.frames * flow.length)} for value_bits in HIGH_RATES]
    for row in rows:
        frame_bits = row["bits"] / flow.frames
        row["value_bits"] = round(frame_bits / flow.length, 3)
        row["shift"] = round(best_shift(row["value_bits"]), 2)
        _, row["fixed_shift"], _ = coded(flow, targets, frame_bits, shift=5.0)
        row["codec_bits"], row["codec"], _ = coded(flow, targets, frame_bits)
        row["bound"] = flow.distortion_bound(row["bits"])
        print(row, flush=True)
    return rows


def measure_schedules(flow, targets) -> list[dict]:
    """Error by rate, shift and refresh: what SHIFTS in models/gvc/rate.py was read from."""
    rows = []
    for value_bits in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2):
        for refresh in (0.5, 0.6):
            errors = {
                f"{shift:g}": coded(flow, targets, value_bits * flow.length, shift=shift, refresh=refresh)[1]
                for shift in (8.0, 5.0, 3.0, 2.0, 1.5, 1.0)
            }
            rows.append({"value_bits": value_bits, "refresh": refresh, "error_by_shift": errors})
    return rows


def distilled(flow, steps: int = 4):
    """What a few-step model returns: not the mean of all pictures that fit, but the one that the flow leads to."""

    def denoise(x, sigma):
        levels = np.linspace(sigma, 0, steps + 1)
        for level, following in zip(levels, levels[1:], strict=False):
            x = x + (following - level) * (x - flow.denoise(x, float(level))) / float(level)
        return x

    return denoise


def measure_models(flow, targets) -> list[dict]:
    """What a distilled model costs, and guidance towards the three components that hold the target's."""
    rows = []
    for value_bits in (0.07, 0.26):
        base = coded(flow, targets, value_bits * flow.length)[1]
        _, error, excess = coded(flow, targets, value_bits * flow.length, distilled(flow))
        rows.append({"value_bits": value_bits, "model": "distilled to 4 steps", "error": error, "excess": excess})
        rows[-1]["decibels"] = round(float(10 * np.log10(error / base)), 2)
        for cfg in (1.0, 1.5, 3.0, 5.0):
            found = [coded(flow, [target], value_bits * flow.length, guided(flow, target, cfg)) for target in targets]
            error, excess = (float(np.mean([one[at] for one in found])) for at in (1, 2))
            rows.append({"value_bits": value_bits, "model": f"cfg {cfg:g}", "error": error, "excess": excess})
            rows[-1]["decibels"] = round(float(10 * np.log10(error / base)), 2)
    return rows


def guided(flow, target, cfg: float):
    """Guidance: the conditional flow has half of the components."""
    nearest = int(((target[0, :, :, 0].double() - flow.means) ** 2).sum((1, 2)).argmin())
    conditional = AnalyticFlow(frames=flow.frames, length=flow.length)
    conditional.means = conditional.means[sorted({(nearest + step) % 6 for step in range(3)})]
    return lambda x, sigma: (1 - cfg) * flow.denoise(x, sigma) + cfg * conditional.denoise(x, sigma)


def measure() -> dict:
    flow = AnalyticFlow(frames=3, length=4096)
    targets = [flow.draw(seed) for seed in range(4)]
    return {
        "command": "python tests/bench/gvc_rate.py", "frames": 3, "length": 4096, "targets": 4,
        "rows": measure_rates(flow, targets), "models": measure_models(flow, targets[:2]),
        "schedules": measure_schedules(flow, targets[:2]),
    }  # fmt: skip


def table(found: dict) -> str:
    lines = ["| bits | a value | paper's codebook | shift 5 | this codec | its shift | bound |", "|" + "---|" * 7]
    for row in found["rows"]:
        paper = f"{row['paper']:.4f}" if "paper" in row else "-"
        lines.append(
            f"| {row['bits']} | {row['value_bits']:.2f} | {paper} | {row['fixed_shift']:.4f} | {row['codec']:.4f} | "
            f"{row['shift']:.2f} | {row['bound']:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "results" / "gvc_rate.json")
    torch.set_num_threads(1)
    started = time.monotonic()
    found = measure()
    found["machine"] = f"{platform.machine()}, torch {torch.__version__}, {time.monotonic() - started:.0f} s"
    target.write_text(json.dumps(found, indent=1) + "\n")
    names = {
        "paper": ("paper's codebook", "#1d4ed8"),
        "codec": ("this codec", "#c2410c"),
        "bound": ("bound", "#64748b"),
    }
    curves = {
        title: (
            colour,
            [(row["codec_bits" if name == "codec" else "bits"], row[name]) for row in found["rows"] if name in row],
        )
        for name, (title, colour) in names.items()
    }
    figure = log_plot(curves, "bits for a GOP of 3 frames of 4096 values", "mean squared error")
    target.with_suffix(".svg").write_text(figure)
    print(table(found))
    print(found["machine"])


if __name__ == "__main__":
    main()
