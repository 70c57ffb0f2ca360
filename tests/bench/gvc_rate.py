"""Rate and distortion on a flow whose denoiser is exact: this codec, the paper's codebook, and what no codec can beat.

    python tests/bench/gvc_rate.py [RESULTS.json]     writes the results and, beside them, a figure

The flow is a mixture of six Gaussians with a power-law spectrum, 3 frames of 4096 values (support/analytic_flow.py,
seed 0); errors are means over 4 targets (seeds 0 to 3). The paper's codebook is support/gaussian_codebook.py: 1024
Gaussian atoms, Euler-Maruyama, 3 deterministic steps. This codec is given no more bits than it at every row. The bound
is reverse water-filling with the mixture component known.
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

from codeclens.models.gvc.codec import encode_gop
from codeclens.models.gvc.flow import exact_step, shifted_sigmas
from codeclens.models.gvc.rate import LATE_EXPONENT, plan_schedule
from codeclens.models.gvc.stream import Header, payload_bits
from support.analytic_flow import AnalyticFlow
from support.gaussian_codebook import reference_bits, reference_codec
from support.plots import log_plot

CHOICES = (1, 2, 4, 8, 16, 32, 64)


def codec_within(flow, targets, budget: int, late_exponent: float) -> tuple[int, float]:
    """Bits and mean squared error of this codec at no more than ``budget`` bits."""
    schedule = plan_schedule(shifted_sigmas(20, 500), 1, flow.length, budget / flow.frames, late_exponent=late_exponent)
    header = Header("T2V", 1, flow.frames, flow.length, 1, 5, flow.length, 1, Fraction(16), schedule, 20, 1)
    errors = []
    for target in targets:
        _, latent = encode_gop(flow.denoise, header, 0, target, 5, adapt=False)
        errors.append(float((latent - target).square().mean()))
    return payload_bits(header, [16] * flow.frames), float(np.mean(errors))


def measure() -> dict:
    flow = AnalyticFlow(frames=3, length=4096)
    targets = [flow.draw(seed) for seed in range(4)]
    paper = reference_codec(flow, targets, CHOICES)
    paper_exact = reference_codec(flow, targets, CHOICES, exact_step)
    rows = []
    for chosen in CHOICES:
        budget = reference_bits(flow.frames, chosen)
        flat_bits, flat = codec_within(flow, targets, budget, 0.0)
        bits, error = codec_within(flow, targets, budget, LATE_EXPONENT)
        rows.append(
            {
                "bits": budget,
                "paper": paper[chosen],
                "paper_exact_step": paper_exact[chosen],
                "flat_bits": flat_bits,
                "flat": flat,
                "codec_bits": bits,
                "codec": error,
                "bound": flow.distortion_bound(budget),
            }  # fmt: skip
        )
    return {"command": "python tests/bench/gvc_rate.py", "frames": 3, "length": 4096, "targets": 4, "rows": rows}


def table(found: dict) -> str:
    lines = ["| bits | paper's codebook | with exact step | this codec, flat | this codec | bound |", "|" + "---|" * 6]
    for row in found["rows"]:
        errors = (row[name] for name in ("paper", "paper_exact_step", "flat", "codec", "bound"))
        lines.append(f"| {row['bits']} | " + " | ".join(f"{error:.4f}" for error in errors) + " |")
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
        title: (colour, [(row["codec_bits" if name == "codec" else "bits"], row[name]) for row in found["rows"]])
        for name, (title, colour) in names.items()
    }
    figure = log_plot(curves, "bits for a GOP of 3 frames of 4096 values", "mean squared error")
    target.with_suffix(".svg").write_text(figure)
    print(table(found))
    print(found["machine"])


if __name__ == "__main__":
    main()
