"""Frames, times and frame numbers of every kind of source, against clips whose every frame is known."""

import io
import json
import subprocess
import sys

import av
import numpy as np
import pytest
import torch
from codeclens.models.errors import InputError
from codeclens.models.source.reading import FrameSampling, VideoSource
from support.clips import animate, encode, number_of, numbered, repeat, scene

B_FRAMES = {"bf": "3", "g": "12", "x264-params": "b-pyramid=normal"}


def numbers(frames) -> list[int]:
    return [number_of(picture) for picture in frames.rgb]


CONTAINERS = [
    ("libx264", "mp4", B_FRAMES),
    ("libx264", "matroska", B_FRAMES),
    ("libx264", "mpegts", B_FRAMES),
    ("libx264", "flv", B_FRAMES),
    ("libx265", "mp4", {"x265-params": "log-level=none"}),
    ("mpeg4", "mp4", {"bf": "2"}),
    ("mpeg4", "avi", {}),
    ("mpeg4", "avi", {"bf": "2"}),
    ("mpeg2video", "mpeg", {"bf": "2"}),
    ("libvpx", "webm", {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}),
    ("libvpx-vp9", "webm", {"cpu-used": "8", "deadline": "realtime"}),
    ("libx264", "h264", {"bf": "0"}),
]


@pytest.mark.parametrize("codec, container, options", CONTAINERS)
def test_every_frame_comes_once_in_order_with_its_number_and_time(codec, container, options):
    source = VideoSource.open(encode(numbered(40), codec=codec, container=container, options=options))
    frames = source.read(FrameSampling.all())
    assert numbers(frames) == list(frames.index) == list(range(40))
    assert np.allclose(np.diff(frames.pts), 1 / 25, atol=0.0011)
    assert source.warnings == []


def test_avi_with_b_frames_has_times_without_usable_pts():
    data = encode(numbered(30), codec="mpeg4", container="avi", options={"bf": "2"}, fps=10)
    frames = VideoSource.open(data).read(FrameSampling.all())
    assert np.allclose(np.diff(frames.pts), 0.1) and frames.pts[0] <= 0.1


def test_variable_frame_rate_keeps_its_own_times():
    ticks = np.cumsum([0, 33, 34, 500, 7, 33, 900, 16, 17, 33])
    source = VideoSource.open(encode(numbered(10), ticks=ticks, time_base="1/1000", fps=30))
    frames = source.read(FrameSampling.all())
    assert np.allclose(frames.pts, ticks / 1000) and numbers(frames) == list(range(10))
    at_2_fps = source.read(FrameSampling.by_fps(2))
    assert list(at_2_fps.index) == [0, 2, 5]  # on screen at 0, 0.5, 1.0 and 1.5 s


def test_first_time_need_not_be_zero():
    ticks = np.arange(10) * 40 + 5000
    frames = VideoSource.open(encode(numbered(10), ticks=ticks, time_base="1/1000", container="matroska")).read(
        FrameSampling.all()
    )
    assert np.allclose(frames.pts, ticks / 1000) and list(frames.index) == list(range(10))


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(rotation):
    upright = scene(64, 96)
    coded = np.ascontiguousarray(np.rot90(upright, -rotation // 90))
    source = VideoSource.open(encode(np.stack([coded] * 3), rotation=rotation, pix_fmt="yuv444p", options={"crf": "4"}))
    assert (source.info.height, source.info.width) == (64, 96) and source.info.rotation % 360 == rotation % 360
    assert np.abs(source.read(FrameSampling.all()).rgb[0].astype(int) - upright).mean() < 4


def test_pixels_that_are_not_square_are_stretched():
    source = VideoSource.open(encode(numbered(4, 64, 96), sample_aspect="4/3"))
    assert (source.info.width, source.info.height) == (128, 64)
    assert source.read().rgb.shape[1:] == (64, 128, 3)


def test_rotation_and_aspect_together():
    source = VideoSource.open(encode(numbered(4, 64, 96), sample_aspect="4/3", rotation=90))
    assert (source.info.width, source.info.height) == (64, 128)


@pytest.mark.parametrize("pix_fmt, depth", [("yuv420p", 8), ("yuv444p", 8), ("yuv420p10le", 10), ("yuv422p10le", 10)])
def test_colours_are_right_in_8_and_10_bits(pix_fmt, depth):
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, :32], picture[:, 32:64], picture[:, 64:] = (220, 40, 30), (30, 160, 60), (40, 60, 200)
    source = VideoSource.open(encode(np.stack([picture] * 2), pix_fmt=pix_fmt, options={"crf": "4"}))
    rgb = source.read(FrameSampling.all()).rgb[0].astype(int)
    assert source.info.bit_depth == depth
    assert np.abs(rgb[:, 8:24] - picture[:, 8:24]).max() < 8 and np.abs(rgb[:, 40:56] - picture[:, 40:56]).max() < 8


@pytest.mark.parametrize("height", [144, 720])
@pytest.mark.parametrize("tagged", [True, False])
def test_the_matrix_is_the_tagged_one_or_what_players_assume(height, tagged):
    hd = height == 720
    if tagged:
        hd = not hd  # the tag wins over the size
    picture = np.full((height, 256, 3), (200, 60, 40), np.uint8)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = height, 256, "yuv420p"
        if tagged:
            stream.codec_context.colorspace = 1 if hd else 6
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=1 if hd else 5)
        frame.colorspace = (1 if hd else 6) if tagged else 2
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    rgb = VideoSource.open(file.getvalue()).read().rgb[0]
    assert np.abs(rgb.astype(int) - picture).max() <= 4


def test_hdr_is_flagged():
    source = VideoSource.open(encode(numbered(3), pix_fmt="yuv420p10le", transfer=16))
    assert source.info.hdr and "HDR" in source.warnings[0]
    assert not VideoSource.open(encode(numbered(3))).info.hdr


def test_odd_sizes():
    for height, width in ((63, 97), (1, 1), (33, 2)):
        source = VideoSource.open(encode(np.full((3, height, width, 3), 90, np.uint8), pix_fmt="yuv444p"))
        assert source.read(FrameSampling.all()).rgb.shape == (3, height, width, 3)
    assert VideoSource.open(animate(numbered(3, 33, 55))).read(FrameSampling.all()).rgb.shape == (3, 33, 55, 3)


def test_the_default_stream_is_read_unless_another_is_named():
    data = encode(np.full((5, 64, 64, 3), 40, np.uint8), streams=2, default=1, container="matroska")
    assert VideoSource.open(data).read().rgb.mean() > 200
    assert VideoSource.open(data, stream=0).read().rgb.mean() < 60
    with pytest.raises(InputError, match="no video stream 7: its streams are 0 video, 1 video"):
        VideoSource.open(data, stream=7)


def test_two_streams_of_a_real_clip(clips):
    path = clips / "torchcodec_nasa_13013.mp4"
    for stream, size in ((None, (320, 180)), (3, (480, 270))):
        source = VideoSource.open(path, stream=stream)
        truth = json.loads(
            (clips / "ground_truth" / f"torchcodec_nasa_13013.stream{stream or 0}.all_frames_info.json").read_text()
        )
        assert (source.info.width, source.info.height) == size
        assert np.allclose(source.timeline().pts, [float(frame["pts_time"]) for frame in truth], atol=1e-6)


@pytest.mark.parametrize("format, codec", [("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png")])
def test_animated_pictures_keep_their_delays(format, codec):
    delays = [100, 50, 200, 30, 100]
    source = VideoSource.open(animate(numbered(5), format=format, milliseconds=delays))
    frames = source.read(FrameSampling.all())
    assert source.info.codec == codec and numbers(frames) == list(range(5))
    assert np.allclose(frames.pts, np.cumsum([0] + delays[:-1]) / 1000)
    assert source.info.duration == pytest.approx(sum(delays) / 1000)


def test_gif_delay_below_what_browsers_honour_is_a_tenth_of_a_second():
    frames = VideoSource.open(animate(numbered(4), milliseconds=10)).read(FrameSampling.all())
    assert np.allclose(frames.pts, [0, 0.1, 0.2, 0.3])


def test_real_webp(clips):
    source = VideoSource.open(clips / "comfy_wan_fox.webp")
    frames = source.read(FrameSampling.all(), size=(64, 96))
    assert len(frames) == 33 and np.allclose(np.diff(frames.pts), 0.062)
    assert (source.info.width, source.info.height) == (832, 480)


def test_every_real_clip_gives_its_frames_and_times(clips):
    for clip in json.loads((clips / "index.json").read_text()):
        if clip["file"].endswith(".webp") or clip["kind"][0] in ("corrupt", "truncated") or clip["w"] > 1000:
            continue
        source = VideoSource.open(clips / clip["file"])
        frames = source.read(FrameSampling.all(), size=(32, 32))
        assert len(frames) == clip["frames_decoded"], clip["file"]
        assert np.allclose([frames.pts[0], frames.pts[-1]], clip["pts_first_last_s"], atol=1e-4), clip["file"]
        assert source.warnings == [], clip["file"]


def test_pictures_in_memory_as_bytes_floats_and_tensors():
    rgb = numbered(6)
    for given in (rgb, rgb.astype(np.float32) / 255, torch.from_numpy(rgb), torch.from_numpy(rgb) / 255):
        frames = VideoSource.from_images(given, fps=4).read(FrameSampling.all())
        assert np.array_equal(frames.rgb, rgb) and np.allclose(frames.pts, np.arange(6) / 4)
    assert VideoSource.from_images(rgb, fps=4).read(FrameSampling.all(), size=(48, 64)).rgb.shape == (6, 48, 64, 3)
    with pytest.raises(InputError, match=r"shape \[96, 128, 3\]"):
        VideoSource.from_images(rgb[0], fps=4)
    with pytest.raises(InputError, match="0 frames per second"):
        VideoSource.from_images(rgb, fps=0)


def test_path_bytes_and_buffer_read_the_same(tmp_path):
    data = encode(numbered(8))
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    buffer = io.BytesIO(data)
    buffer.seek(100)
    reference = VideoSource.open(data).read(FrameSampling.all())
    for source in (path, str(path), buffer):
        assert np.array_equal(VideoSource.open(source).read(FrameSampling.all()).rgb, reference.rgb)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi"])
def test_trim_window_keeps_times_and_numbers_of_the_whole(container):
    codec = "mpeg4" if container == "avi" else "libx264"
    data = encode(numbered(60), codec=codec, container=container, options={"bf": "2", "g": "10"})
    whole = VideoSource.open(data).read(FrameSampling.all())
    begin = whole.pts[0]
    part = VideoSource.open(data, start=begin + 0.999, duration=0.5).read(FrameSampling.all())
    inside = (whole.pts >= begin + 0.999 - 1e-6) & (whole.pts < begin + 1.499 - 1e-6)
    assert np.array_equal(part.index, whole.index[inside]) and np.array_equal(part.rgb, whole.rgb[inside])
    assert np.array_equal(part.pts, whole.pts[inside]) and numbers(part) == list(part.index)


def test_chunks_hold_what_reading_at_once_holds():
    source = VideoSource.open(encode(numbered(30)))
    whole = source.read(FrameSampling.every(3), size=(64, 96))
    parts = list(source.frames(FrameSampling.every(3), size=(64, 96), chunk=4))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert np.array_equal(np.concatenate([part.rgb for part in parts]), whole.rgb)


def test_progress_counts_every_frame_and_can_cancel():
    source = VideoSource.open(encode(numbered(30)))
    calls = []
    source.read(FrameSampling.all(), progress=lambda done, total: calls.append((done, total)))
    assert len(calls) > 30 and calls[-1] == (30, 30)

    class Cancelled(Exception):
        pass

    def cancel(done, total):
        if done >= 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        source.read(progress=cancel)
    assert len(source.read(FrameSampling.all())) == 30


def test_wrong_inputs_are_one_sentence(tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    with pytest.raises(InputError, match="notes.mp4 cannot be opened as a video"):
        VideoSource.open(text)
    with pytest.raises(InputError, match="gone.mp4 cannot be read: No such file"):
        VideoSource.open(tmp_path / "gone.mp4")
    with pytest.raises(InputError, match="give 0 or more for both"):
        VideoSource.open(encode(numbered(3)), start=-1)
    with pytest.raises(InputError, match="its frames last from 0.000 s to 0.120 s"):
        VideoSource.open(encode(numbered(3)), start=9, duration=1).read()


def test_sound_without_pictures_is_refused():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(InputError, match="has no video stream: its streams are 0 audio"):
        VideoSource.open(file.getvalue(), name="song.mp4")


SPARSE = [
    ("libx264", "mp4", {"g": "20", "bf": "3"}),
    ("libx264", "matroska", {"g": "20", "bf": "3", "x264-params": "open-gop=1"}),
    ("libx264", "mpegts", {"g": "20", "x264-params": "open-gop=1"}),
    ("libx264", "mpegts", {"g": "30", "x264-params": "intra-refresh=1"}),
    ("libx265", "mp4", {"x265-params": "log-level=none:keyint=20:open-gop=1"}),
    ("mpeg4", "mp4", {"g": "20", "bf": "2"}),
    ("mpeg2video", "mpeg", {"g": "15", "bf": "2"}),
    ("libvpx", "webm", {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}),
    ("libvpx-vp9", "webm", {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}),
]


@pytest.mark.parametrize("codec, container, options", SPARSE)
def test_frames_left_undecoded_change_nothing(codec, container, options):
    source = VideoSource.open(encode(numbered(90, 64, 96), codec=codec, container=container, options=options))
    whole = source.read(FrameSampling.all())
    for sampling in (FrameSampling.every(7), FrameSampling.by_count(3), FrameSampling.every(40)):
        frames = source.read(sampling)
        assert np.array_equal(frames.index, sampling.select(whole.pts))
        assert np.array_equal(frames.rgb, whole.rgb[frames.index])
    assert source.warnings == []
    if container == "mp4":
        assert source.reader.table.needed(np.array([0, 45, 89])).sum() < 45


MEASURE = """
import sys
from pathlib import Path
from codeclens.models.source.reading import FrameSampling, VideoSource, fit_size

def peak():
    # Not ru_maxrss: a child process begins with its parent's.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

source = VideoSource.open(sys.argv[1])
before = peak()
size = fit_size(source.info.width, source.info.height)
count = sum(len(part) for part in source.frames(FrameSampling.all(), size))
print(count, before, peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_length(tmp_path):
    second = encode(np.repeat(scene(1080, 1920)[None], 20, 0), options={"preset": "ultrafast", "bf": "2"}, fps=2)
    grown = {}
    for times in (4, 16):
        path = tmp_path / f"{times}.mp4"
        path.write_bytes(repeat(second, times))
        done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
        count, before, after = map(int, done.stdout.split())
        assert count == times * 20
        grown[times] = (after - before) / 1024
    assert grown[16] < 600 and grown[16] < grown[4] + 40, grown
