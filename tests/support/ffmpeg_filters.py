"""FFmpeg's own analysis filters as oracles, through PyAV."""

import re
from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest


def filter_values(frames, filters: str, tmp_path, *, fps=25, pixel_format="gray") -> dict[str, list[tuple[int, float]]]:
    """What the filter "name=options" says of uint8 ``frames``: {key: [(frame, value), ...]}.

    ``frames`` are [T, H, W] for gray and [T, H, W, 3] for rgb24. Skips where this FFmpeg has no such filter.
    """
    name, _, options = filters.partition("=")
    if name not in av.filter.filters_available:
        pytest.skip(f"the FFmpeg inside PyAV {av.__version__} has no filter {name}")
    printed = tmp_path / f"{name}.txt"
    graph = av.filter.Graph()
    height, width = frames[0].shape[:2]
    source = graph.add_buffer(width=width, height=height, format=pixel_format, time_base=Fraction(1, fps))
    node = graph.add(name, options or None)
    show, sink = graph.add("metadata", f"mode=print:file={printed.as_posix()}:direct=1"), graph.add("buffersink")
    source.link_to(node)
    node.link_to(show)
    show.link_to(sink)
    graph.configure()
    for number, picture in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=pixel_format)
        frame.color_range = 2
        frame.pts, frame.time_base = number, Fraction(1, fps)
        source.push(frame)
        drain(graph)
    source.push(None)
    drain(graph)
    del source, node, show, sink, graph
    found, at = {}, 0
    for line in printed.read_text().splitlines():
        if match := re.match(r"frame:(\d+)", line):
            at = int(match[1])
        elif match := re.match(r"(?:lavfi\.)?([\w.]+)=(\S+)", line):
            found.setdefault(match[1], []).append((at, float(match[2])))
    return found


def drain(graph) -> None:
    try:
        while True:
            graph.pull()
    except (av.error.BlockingIOError, av.error.EOFError):
        pass
