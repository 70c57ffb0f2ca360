"""gvc-info and gvc-compare on the command line."""

import json

import numpy as np
import pytest
from codeclens.__main__ import main
from codeclens.models.gvc.gops import cut_clips, plan_gops
from codeclens.models.gvc.stream import write_header
from codeclens.models.gvc.video import Settings, encode_video, make_header
from codeclens.models.video.quality import compare
from support.clips import encode
from support.pixel_flow import PixelFlow, moving_square


@pytest.fixture
def stream(tmp_path):
    """A GVCB file of two GOPs."""
    from fractions import Fraction

    model, video = PixelFlow(), moving_square(18)
    settings = Settings(steps=5, frame_bits=2246.0, texts=(("prompt", "a square"),))
    spans = plan_gops(18, 9, 4, False)
    header = make_header(model, settings, spans, video.shape[1:3], Fraction(24))
    coded = encode_video(model, header, settings, spans, cut_clips([video], spans))
    path = tmp_path / "clip.gvcb"
    path.write_bytes(write_header(header) + b"".join(gop.record for gop in coded))
    return path


def test_info_is_json_on_stdout(stream, capsys):
    assert main(["gvc-info", str(stream)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bytes"] == stream.stat().st_size and facts["gop_frames"] == [9, 9]
    assert facts["prompt"] == "a square" and facts["model"] == "pixel flow" and facts["whole"]


def test_a_cut_file_is_one_line_and_exit_code_2(stream, capsys):
    stream.write_bytes(stream.read_bytes()[:-9])
    assert main(["gvc-info", str(stream)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and "clip.gvcb: the stream ends at byte" in shown.err
    assert main(["gvc-info", "--partial", str(stream)]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["frames_present"] == 9 and "not whole" in shown.err


def test_what_is_no_stream_is_refused(tmp_path, capsys):
    for path, said in ((tmp_path / "none.gvcb", "cannot be read"), (tmp_path, "cannot be read")):
        assert main(["gvc-info", str(path)]) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "text.gvcb").write_bytes(b"a text file that is long enough to hold a header of a stream")
    assert main(["gvc-info", str(tmp_path / "text.gvcb")]) == 2
    assert "is not a GVCB stream" in capsys.readouterr().err


def test_compare_is_what_the_library_says(tmp_path, capsys):
    video = moving_square(5, 48, 64)
    other = np.clip(video.astype(int) + 6, 0, 255).astype(np.uint8)
    paths = []
    for name, pictures in (("one", video), ("two", other)):
        paths.append(tmp_path / f"{name}.mkv")
        paths[-1].write_bytes(encode(pictures, codec="ffv1", container="matroska", pix_fmt="bgr0"))
    assert main(["gvc-compare", *map(str, paths)]) == 0
    assert json.loads(capsys.readouterr().out) == compare(video, other).to_json()


def test_plan_says_what_encoding_would_take(tmp_path, capsys):
    path = tmp_path / "one.mkv"
    path.write_bytes(encode(moving_square(40, 64, 96), codec="ffv1", container="matroska", pix_fmt="bgr0"))
    options = ["--model", "wan2.1-14b", "--variant", "I2V", "--gop-frames", "17", "--still-every", "2", "--steps", "10"]
    assert main(["gvc-plan", str(path), *options, "--target", "kilobytes", "--value", "12"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["gops"] == 3 and facts["model_calls"] == 30 and facts["frames"] == 40
    assert facts["bytes"] == pytest.approx(12000, rel=0.01) and facts["bytes_stills"] > 0
    assert facts["tokens"] == 5 * 4 * 6 and facts["computed"].startswith("not measured")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "wan2.2-5b", "--variant", "FLF2V"], "Wan 2.2 5B has no FLF2V here"),
        (["--teraflops", "nan"], "--teraflops is nan; it must be above 0"),
        (["--still-fraction", "1"], "--still-fraction is 1; it must be above 0"),
        (["--size", "big"], "--size is 'big'; WIDTHxHEIGHT would be right"),
        (["--size", "8x8"], "each side must be 16 to 16384"),
        (["--target", "kilobytes", "--value", "nan"], "the target is nan kilobytes"),
        (["--gop-frames", "32"], "a GOP of 32 frames does not fit"),
        (["--steps", "1"], "deterministic steps"),
    ],
)
def test_plans_that_cannot_be_are_one_line(tmp_path, capsys, options, said):
    path = tmp_path / "one.mkv"
    path.write_bytes(encode(moving_square(10, 64, 96), codec="ffv1", container="matroska", pix_fmt="bgr0"))
    assert main(["gvc-plan", str(path), *options]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and said in shown.err and not shown.out
