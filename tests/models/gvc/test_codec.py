"""The codec on a flow whose denoiser is exact: what both sides have in common, what bytes buy, what is refused."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from codeclens.models.errors import InputError
from codeclens.models.gvc.codec import (
    SAME_DRIFT,
    WRONG_DRIFT,
    DecodingTrajectory,
    EncodingTrajectory,
    decode_gop,
    drift_sentence,
    encode_gop,
    excess_energy,
    frame_weights,
    sketch_drift,
)
from codeclens.models.gvc.flow import SIGMA_ONE, euler_maruyama_step, exact_step, paper_refresh, shifted_sigmas
from codeclens.models.gvc.rate import plan_schedule
from codeclens.models.gvc.stream import Header, Preset, StepCode, Stream, payload_bits, read_stream, write_stream
from codeclens.models.gvc.video import model_warnings
from support.analytic_flow import AnalyticFlow

FLOW = AnalyticFlow(frames=2, length=1500)
TARGETS = [FLOW.draw(seed) for seed in range(4)]


def header_for(flow=FLOW, atoms=4, bits=8, steps=20, deterministic=1, refresh=32768, shift=500, **fields) -> Header:
    return Header(
        "T2V", 1, flow.frames, flow.length, 1, 5, flow.length, 1, Fraction(16),
        Preset(shift, refresh, atoms, bits), steps, deterministic, **fields,
    )  # fmt: skip


def mean_error(header: Header, targets=TARGETS, denoise=FLOW.denoise) -> float:
    errors = []
    for target in targets:
        _, latent = encode_gop(denoise, header, 0, target, 5, adapt=False)
        errors.append(float((latent - target).square().mean()))
    return float(np.mean(errors))


class Watched:
    """A denoiser that keeps a hash of every x it is given."""

    def __init__(self, denoise=FLOW.denoise):
        self.denoise, self.seen = denoise, []

    def __call__(self, x, sigma):
        self.seen.append(hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest())
        return self.denoise(x, sigma)


def test_decoder_walks_the_encoders_path_from_the_file_alone():
    header = header_for()
    encoder, decoder = Watched(), Watched()
    gop, latent = encode_gop(encoder, header, 0, TARGETS[0], 5)
    stream = read_stream(write_stream(Stream(header, (gop,))))
    found, drift = decode_gop(decoder, stream.header, 0, stream.gops[0])
    assert encoder.seen == decoder.seen and len(set(encoder.seen)) == 20
    assert torch.equal(found, latent)
    assert drift == 0 and drift_sentence([drift], [True]) == ""


DECODE_ELSEWHERE = """
import hashlib, sys, torch
from codeclens.models.gvc.codec import decode_gop
from codeclens.models.gvc.rate import plan_schedule
from codeclens.models.gvc.stream import read_stream
from codeclens.models.gvc.video import model_warnings
from support.analytic_flow import AnalyticFlow
stream = read_stream(open(sys.argv[1], "rb").read())
for threads in (1, 2):
    torch.set_num_threads(threads)
    latent, drift = decode_gop(AnalyticFlow(frames=2, length=1500).denoise, stream.header, 0, stream.gops[0])
    print(hashlib.sha256(latent.contiguous().numpy().tobytes()).hexdigest(), drift)
"""


def test_a_fresh_process_decodes_the_same_bits_with_any_number_of_threads(tmp_path):
    header = header_for()
    gop, latent = encode_gop(FLOW.denoise, header, 0, TARGETS[1], 5)
    path = tmp_path / "clip.gvcb"
    path.write_bytes(write_stream(Stream(header, (gop,))))
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)))
    shown = subprocess.run(
        [sys.executable, "-c", DECODE_ELSEWHERE, str(path)],
        capture_output=True, text=True, check=True, env=environment,
    ).stdout.split()  # fmt: skip
    assert shown == 2 * [hashlib.sha256(latent.contiguous().numpy().tobytes()).hexdigest(), "0.0"]


def test_more_atoms_and_longer_indices_leave_less_error():
    uncoded = float(np.mean([
        (encode_gop(FLOW.denoise, header_for(), 0, other, 5)[1] - target).square().mean()
        for target, other in zip(TARGETS, TARGETS[1:] + TARGETS[:1], strict=True)
    ]))  # fmt: skip
    by_atoms = [mean_error(header_for(atoms=atoms)) for atoms in (1, 4, 16, 64)]
    by_bits = [mean_error(header_for(bits=bits)) for bits in (1, 4, 10)]
    for errors in ([uncoded, *by_atoms], [uncoded, *by_bits]):
        assert all(later < earlier for earlier, later in zip(errors, errors[1:], strict=False))
    for atoms, error in zip((1, 4, 16, 64), by_atoms, strict=True):
        assert error > FLOW.distortion_bound(payload_bits(header_for(atoms=atoms), [16, 16]))


def test_less_error_than_the_flat_prototype_of_this_design():
    """Bytes and errors that were measured before there was rate planning, on a flow of 2 x 1500 values like this."""
    for size, prototype in ((76, 0.117), (304, 0.0488), (1824, 0.0166)):
        schedule = plan_schedule(shifted_sigmas(20, 500), 1, FLOW.length, 8 * size / FLOW.frames)
        header = replace(header_for(), schedule=schedule)
        assert payload_bits(header, [16, 16]) <= 8 * size
        assert mean_error(header) < 0.9 * prototype


def test_no_fresh_noise_is_the_plain_euler_sampler():
    header = header_for(refresh=0)
    _, latent = encode_gop(FLOW.denoise, header, 0, TARGETS[0], 5)
    trajectory = EncodingTrajectory(header, 0, TARGETS[0])
    trajectory.begin(torch.device("cpu"))
    x, levels = trajectory.x.double(), [step.sigma / SIGMA_ONE for step in header.steps] + [0.0]
    for sigma, following in zip(levels, levels[1:], strict=False):
        x = x + (following - sigma) * (x - FLOW.denoise(x.float(), sigma)) / sigma
    assert torch.allclose(latent.double(), x, atol=2e-4)


def test_the_exact_step_beats_euler_maruyama():
    """The same codebook and the paper's refresh; only the rule differs."""
    sigmas = shifted_sigmas(20, 500)
    refresh = paper_refresh(sigmas)
    for atoms in (1, 16):
        schedule = tuple(
            StepCode(sigma, refresh[i], atoms, 8) if i < 17 else StepCode(sigma, 0, 0, 0)
            for i, sigma in enumerate(sigmas)
        )
        header = replace(header_for(deterministic=3), schedule=schedule)
        errors = []
        for rule in (exact_step, euler_maruyama_step):
            total = 0.0
            for target in TARGETS:
                trajectory = EncodingTrajectory(header, 0, target, adapt=False, rule=rule)
                trajectory.begin(target.device)
                total += float((trajectory.advance(FLOW.denoise) - target).square().mean())
            errors.append(total)
        assert errors[0] < errors[1]


def perturbed(amount, seed=5):
    generator = torch.Generator().manual_seed(seed)

    def denoise(x, sigma):
        velocity = (x - FLOW.denoise(x, sigma)) / sigma
        return x - sigma * velocity * (1 + amount * torch.randn(x.shape, generator=generator))

    return denoise


def test_drift_grows_with_the_decoders_error_and_stays_small():
    header = header_for()
    gop, latent = encode_gop(FLOW.denoise, header, 0, TARGETS[0], 5)
    drifts = []
    for amount in (1e-3, 1e-2, 1e-1):
        found, drift = decode_gop(perturbed(amount), header, 0, gop)
        assert float((found - latent).square().mean()) < amount**2
        drifts.append(drift)
    assert drifts[0] < drifts[1] < drifts[2]
    assert drifts[0] < SAME_DRIFT and drift_sentence(drifts[:1], [True]) == ""


def test_wrong_seed_model_and_gop_show_in_the_sketch():
    header = header_for()
    gops = [encode_gop(FLOW.denoise, header, number, TARGETS[number], 5)[0] for number in (0, 1)]
    other = AnalyticFlow(frames=2, length=1500, seed=9)
    wrong = {
        "seed": decode_gop(FLOW.denoise, replace(header, seed=43), 0, gops[0]),
        "model": decode_gop(other.denoise, header, 0, gops[0]),
        "swapped": decode_gop(FLOW.denoise, header, 0, gops[1]),
    }
    for name, (_, drift) in wrong.items():
        assert drift > WRONG_DRIFT, name
        assert "is not the one that the stream was encoded with" in drift_sentence([drift], [True])


def test_a_stream_without_a_sketch_has_no_drift_figure():
    header = header_for(has_sketch=False)
    gop, latent = encode_gop(FLOW.denoise, header, 0, TARGETS[0], 5)
    found, drift = decode_gop(FLOW.denoise, header, 0, read_stream(write_stream(Stream(header, (gop,)))).gops[0])
    assert torch.equal(found, latent) and np.isnan(drift) and drift_sentence([drift], [True]) == ""


def test_a_trajectory_may_be_walked_in_two_parts():
    """As two experts do: the second denoiser takes over where the first stops."""
    header = header_for()
    whole, _ = encode_gop(FLOW.denoise, header, 0, TARGETS[0], 5)
    trajectory = EncodingTrajectory(header, 0, TARGETS[0])
    trajectory.begin(torch.device("cpu"))
    trajectory.advance(FLOW.denoise, 7)
    assert trajectory.step == 7
    trajectory.advance(FLOW.denoise)
    assert trajectory.finish(5)[0].payload == whole.payload


def test_frames_that_the_mask_keeps_are_untouched_and_free():
    mask = torch.ones(1, 2, 1, 1)
    mask[:, 0] = 0
    kept = FLOW.draw(99)

    def inpaint(x, sigma):
        return mask * FLOW.denoise(x, sigma) + (1 - mask) * kept

    header = header_for()
    gop, latent = encode_gop(inpaint, header, 0, TARGETS[0], 5, mask=mask)
    assert gop.weights.tolist() == [0, 16]
    assert len(gop.payload) == -(-payload_bits(header, [16]) // 8)
    assert torch.equal(latent[:, 0], kept[:, 0])
    found, _ = decode_gop(inpaint, header, 0, gop)
    assert torch.equal(found, latent)
    everything, _ = encode_gop(lambda x, sigma: kept, header, 0, TARGETS[0], 5, mask=torch.zeros(1, 1, 1, 1))
    assert everything.payload == b""


def test_partly_masked_frames_spend_nothing_on_what_stays():
    """The residual is zero where the latent image stays, so the target there cannot matter."""
    mask = torch.ones(1, 2, 1500, 1)
    mask[:, :, 700:] = 0
    header = header_for()
    changed = TARGETS[0] + (1 - mask) * 5
    payloads = {
        encode_gop(FLOW.denoise, header, 0, target, 5, mask=mask)[0].payload for target in (TARGETS[0], changed)
    }
    assert len(payloads) == 1


def test_atoms_follow_the_measured_residual():
    residual = torch.ones(1, 4, 10, 1) * torch.tensor([1.0, 1.0, 0.1, 6.0])[None, :, None, None]
    weights = frame_weights(residual, None, True)
    assert weights[3] > weights[0] == weights[1] > weights[2] > 0
    assert weights.astype(int).mean() == pytest.approx(16, abs=0.5)
    assert frame_weights(residual, None, False).tolist() == [16, 16, 16, 16]
    mask = torch.tensor([0.0, 1, 1, 1])[None, :, None, None]
    masked = frame_weights(residual, mask, True)
    assert masked[0] == 0 and masked[1:].astype(int).mean() == pytest.approx(16, abs=0.7)


def test_adaptive_atoms_help_where_frames_differ():
    """A clip whose first frame the model already knows: its atoms are better spent on the second."""
    flow = AnalyticFlow(frames=2, length=1500)
    flow.variance[0] *= 0.02
    flow.means[:, 0] = flow.means[:1, 0]
    targets = [flow.draw(seed) for seed in range(4)]
    errors, sizes = [], []
    for adapt in (False, True):
        coded = [encode_gop(flow.denoise, header_for(), 0, target, 5, adapt=adapt) for target in targets]
        errors.append(sum(float((latent - t).square().mean()) for (_, latent), t in zip(coded, targets, strict=True)))
        sizes.append(sum(len(gop.payload) for gop, _ in coded))
    assert errors[1] < 0.95 * errors[0] and abs(sizes[1] - sizes[0]) < 0.05 * sizes[0]


def test_the_tail_residual_mends_the_last_frame():
    header = header_for(has_tail=True)
    plain, without = encode_gop(FLOW.denoise, header, 0, TARGETS[0], 5, tail_fraction=0)
    gop, latent = encode_gop(FLOW.denoise, header, 0, TARGETS[0], 5, tail_fraction=1.0)
    errors = [(found - TARGETS[0]).square().mean((0, 2, 3)) for found in (without, latent)]
    assert plain.tail == b"" and 0 < len(gop.tail) <= len(gop.payload)
    assert errors[1][1] < 0.8 * errors[0][1] and errors[1][0] == errors[0][0]
    found, drift = decode_gop(FLOW.denoise, header, 0, read_stream(write_stream(Stream(header, (gop,)))).gops[0])
    assert torch.equal(found, latent) and drift == 0


def test_wrong_targets_and_broken_models_are_named():
    header = header_for()
    with pytest.raises(InputError, match=r"target latent is \[1, 2, 10, 1\]; the stream codes \[1, 2, 1500, 1\]"):
        EncodingTrajectory(header, 0, torch.zeros(1, 2, 10, 1))
    broken = TARGETS[0].clone()
    broken[0, 0, 3] = float("nan")
    with pytest.raises(InputError, match="GOP 3 has values that are not finite"):
        EncodingTrajectory(header, 3, broken)
    with pytest.raises(InputError, match="not finite at step 0"):
        encode_gop(lambda x, sigma: x * float("inf"), header, 0, TARGETS[0], 5)


def test_progress_is_called_for_every_step_and_may_cancel():
    header, calls = header_for(), []

    class Cancelled(BaseException):
        pass

    def watch(done, total):
        calls.append((done, total))
        if done == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        encode_gop(FLOW.denoise, header, 0, TARGETS[0], 5, progress=watch)
    assert calls == [(step, 20) for step in range(1, 6)]


def test_a_gop_of_fewer_latent_frames_than_the_header_names():
    header = replace(header_for(), latent_frames=3)
    gop, latent = encode_gop(FLOW.denoise, header, 0, TARGETS[0], 5)
    trajectory = DecodingTrajectory(header, 0, gop)
    trajectory.begin(torch.device("cpu"))
    trajectory.advance(FLOW.denoise)
    assert torch.equal(trajectory.finish()[0], latent)


@pytest.mark.parametrize(("detail", "low", "high"), [("mean", -0.1, 0.1), ("sample", 0.9, 1.1)])
def test_a_distilled_model_shows_in_its_first_estimate(detail, low, high):
    """A posterior mean's error is orthogonal to it; a picture of its own has nothing to do with the target."""
    unrelated = FLOW.draw(50)
    denoise = FLOW.denoise if detail == "mean" else lambda x, sigma: unrelated
    trajectory = EncodingTrajectory(header_for(), 0, TARGETS[0])
    trajectory.begin(torch.device("cpu"))
    trajectory.advance(denoise, 1)
    assert low < trajectory.excess < high


def test_excess_of_known_vectors():
    target = torch.tensor([1.0, 2.0, 3.0])
    assert excess_energy(target, target) == pytest.approx(0)
    assert excess_energy(2 * target, target) == pytest.approx(0.5)
    assert excess_energy(torch.tensor([3.0, 0, -1]), target) == pytest.approx(1)
    assert excess_energy(0.01 * target, -target) == 0


def test_what_a_model_costs_is_said():
    nan = float("nan")
    assert model_warnings([0.1, nan, -0.1], 100) == [] and model_warnings([nan], 100) == []
    (distilled,) = model_warnings([0.95, nan, 0.97], 100)
    assert "distilled" in distilled and "1 to 1.5 dB" in distilled
    (guided,) = model_warnings([0.95], 300)
    assert guided.startswith("cfg is 3: every step calls the model twice")


def test_what_drift_means_is_said_once():
    nan = float("nan")
    assert drift_sentence([0.2, nan, 0.9], [True, False, True]) == ""
    assert "another precision" in drift_sentence([3.0, 4.0], [True, True])
    assert "up to about 20.0 grey levels" in drift_sentence([20.0], [True])
    assert "is not the one" in drift_sentence([20.0, 21.0], [True, False])
    chain = drift_sentence([1.2, 6.0, 20.0], [True, False, False])
    assert "1.2 in GOPs that start from a still" in chain and "still_every" in chain


def test_the_sketch_sees_the_end():
    """Latents that differ by e per value, in any direction and in the tail alone, show as e times the grey levels."""
    header = header_for(has_tail=True)
    gop, latent = encode_gop(FLOW.denoise, header, 0, TARGETS[0], 5, tail_fraction=1.0)
    assert decode_gop(FLOW.denoise, header, 0, gop)[1] == 0
    changed = latent.clone()
    changed[:, -1] += 0.3
    trajectory = DecodingTrajectory(header, 0, gop)
    drift = sketch_drift(gop.sketch, trajectory.final_sketch(changed))
    assert drift == pytest.approx(0.3 / 2**0.5, rel=0.5)
    gain = sketch_drift(gop.sketch, trajectory.final_sketch(1.05 * latent))
    assert gain == pytest.approx(0.05 * float(latent.square().mean()) ** 0.5, rel=0.5)
    assert decode_gop(FLOW.denoise, header, 0, replace(gop, tail=b""))[1] > SAME_DRIFT


def test_the_last_two_frames_get_more_where_asked():
    residual = torch.ones(1, 6, 10, 1)
    assert frame_weights(residual, None, True, 16, 2.0).tolist() == [12, 12, 12, 12, 24, 24]
    assert frame_weights(residual, None, True, 8).tolist() == [8] * 6
    assert frame_weights(residual, None, True, 0.01).tolist() == [1] * 6
    assert frame_weights(residual, None, True, 1000).tolist() == [255] * 6
