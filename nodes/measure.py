"""Measure Video: technical metrics of a clip, from codec primitives alone."""

import json

from comfy_api.latest import io

from ..models.drawing.views import metrics_view
from ..models.source.reading import FrameSampling
from ..models.video.measurement import measure, measurement_in_words
from . import host


def measured_fps(tooltip: str):
    return io.Float.Input("fps", default=0.0, min=0.0, max=240.0, step=0.01, tooltip=tooltip)


class MeasureVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensMeasureVideo",
            display_name="Measure Video",
            category="CodecLens/video",
            description="Measures a video without any model: brightness, sharpness, blockiness, motion of camera and"
            " subject, freezes, flicker, jitter, sudden changes, drift and cuts, for every frame and for the clip.",
            search_aliases=[
                "video quality",
                "metrics",
                "flicker",
                "freeze",
                "motion amount",
                "sharpness",
                "codec lens",
            ],
            is_output_node=True,
            inputs=[
                io.Video.Input("video", tooltip="The video to measure. A trim set before (Trim Video) is honoured."),
                measured_fps(
                    "Frames measured in each second; 0 measures every frame. Values that compare a frame with"
                    " the one before it, such as flicker and jitter, mean most when every frame is measured."
                ),
            ],
            outputs=[
                io.String.Output("report", tooltip="One line for each metric: value, unit, and the worst moment."),
                io.Image.Output("picture", tooltip="All metrics over time, the worst moment of each marked."),
                io.String.Output("json", tooltip="Values of the clip and of every frame, with units, as JSON."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, video, fps) -> io.NodeOutput:
        source, _ = host.video_source(video)
        sampling = FrameSampling.by_fps(fps) if fps else FrameSampling.all()
        measurement = measure(source, sampling, host.node_progress())
        picture = host.image(metrics_view(measurement, source, host.node_progress()))
        words = measurement_in_words(measurement)
        return io.NodeOutput(
            words, picture, json.dumps(measurement.to_json()), ui=host.shown(words, cls.hidden.unique_id)
        )


NODES = [MeasureVideo]
