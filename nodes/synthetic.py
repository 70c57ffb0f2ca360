"""Test videos drawn by the pack: something to try workflows on, with the truth beside it."""

from fractions import Fraction

import numpy as np
from comfy_api.latest import InputImpl, Types, io

from ..models.synthetic.clip_files import INDEX, sampled_frames, seeds_of, write_clips
from ..models.synthetic.ground_truth import truth_of
from ..models.synthetic.painted_clip import IN_WORDS, write_demo
from ..models.synthetic.questions import write_caption
from ..models.synthetic.rendering import render
from ..models.synthetic.scenes import CONTENTS, FAULTS, SPLITS, sample_clip
from ..models.weights import FPS, SIDE
from . import host

ANY, PAINTED = "any", "painted"
NO_FAULT = "none"


class TestVideos(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensTestVideos",
            display_name="Test Videos",
            category="CodecLens/video",
            description="Draws short clips of moving figures, with what is true of them: something to try a workflow"
            " on, and the only kind of video that the embedded model knows. Several make a list.",
            search_aliases=["sample video", "example video", "demo clip", "synthetic", "codec lens"],
            inputs=[
                io.Int.Input(
                    "seed",
                    default=1,
                    min=0,
                    max=1_000_000,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="The same seed draws the same clip, on every machine.",
                ),
                io.Int.Input("count", default=1, min=1, max=64, tooltip="Clips, with seeds one after the other."),
                io.Combo.Input(
                    "content",
                    options=[ANY, *(content for content in CONTENTS if content != "fault"), PAINTED],
                    default="moving",
                    tooltip="static: hardly anything moves. moving: figures move. camera: the camera moves. cuts: there"
                    " are several shots. painted: one clip of 13 seconds at 640 x 384, always the same, with a cut and"
                    " a pan; no model knows it, and the other inputs do not change it.",
                ),
                io.Combo.Input(
                    "fault",
                    options=[NO_FAULT, *FAULTS],
                    default=NO_FAULT,
                    tooltip="A fault of generated video to put in, for judging and measuring.",
                ),
                io.Float.Input(
                    "seconds", default=4.0, min=1.0, max=30.0, step=0.5, tooltip="Length of each clip in seconds."
                ),
            ],
            outputs=[
                io.Video.Output(
                    "videos", is_output_list=True, tooltip="The clips, 128 x 128 pixels; painted is 640 x 384."
                ),
                io.String.Output("truth", is_output_list=True, tooltip="What is true of each, as a caption."),
            ],
        )

    @classmethod
    def execute(cls, seed, count, content, fault, seconds) -> io.NodeOutput:
        if content == PAINTED:
            path = host.temporary_folder() / "painted clip.mp4"
            if not path.is_file():
                write_demo(path, host.node_progress())
            return io.NodeOutput([InputImpl.VideoFromFile(str(path))], [IN_WORDS])
        progress, videos, truths = host.node_progress(), [], []
        for number in range(count):
            first = SPLITS["test"][0] + seed + number
            kind = None if content == ANY else content
            faulty = {} if fault == NO_FAULT else {"fault": fault}
            clip = sample_clip(first, "fault" if faulty else kind, seconds=seconds, fps=12, **faulty)
            frames = np.stack(list(render(clip, (SIDE, SIDE))))
            components = Types.VideoComponents(host.images(frames), Fraction(clip.fps).limit_denominator(1000), None)
            videos.append(InputImpl.VideoFromComponents(components))
            truths.append(write_caption(clip, truth_of(clip, sampled_frames(clip, FPS))))
            progress(number + 1, count)
        return io.NodeOutput(videos, truths)


FOLDER = "codeclens/test clips"


class TestFolder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensTestFolder",
            display_name="Test Folder",
            category="CodecLens/folders",
            description=f"Writes short clips of moving figures into output/{FOLDER}, with questions and true answers:"
            " something to try the nodes for folders, Evaluate Modes and training on.",
            search_aliases=["test clips", "example dataset", "demo folder", "synthetic", "codec lens"],
            inputs=[
                io.Int.Input(
                    "seed",
                    default=1,
                    min=0,
                    max=100_000,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="The same seed draws the same clips on every machine.",
                ),
                io.Int.Input("count", default=4, min=1, max=1000, tooltip="How many clips."),
                io.Float.Input(
                    "seconds", default=3.0, min=1.0, max=30.0, step=0.5, tooltip="Length of each clip in seconds."
                ),
            ],
            outputs=[
                io.String.Output("folder", tooltip="For Caption Folder, Judge Folder and Measure Folder."),
                io.String.Output("tasks", tooltip="The file of questions, for Evaluate Modes."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **others):
        return (host.output_folder() / FOLDER / INDEX).is_file()

    @classmethod
    def execute(cls, seed, count, seconds) -> io.NodeOutput:
        folder = host.output_folder() / FOLDER
        index = write_clips(
            folder,
            seeds_of("test", seed, count),
            (SIDE, SIDE),
            sample_fps=FPS,
            seconds=seconds,
            fps=12,
            progress=host.node_progress(),
        )
        return io.NodeOutput(f"output/{FOLDER}", str(index))


NODES = [TestVideos, TestFolder]
