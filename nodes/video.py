"""Nodes that measure a video: sampling, codec primitives, the plan, pictures of them, cuts.

Sockets of this family:
    CODECLENS_SAMPLED_VIDEO  :class:`SampledImages`, a video and which frames of it are read, on demand
    CODECLENS_PRIMITIVES     :class:`CodecPrimitives`, motion and prediction cost of the sampled frames
    CODECLENS_GOP_PLAN       :class:`codeclens.models.video.gop.GopPlan`
"""

import json
import weakref
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from comfy_api.latest import io

from ..models.drawing.interactive import ContactSheets, marks_data, motion_bytes, plan_data, replan_data
from ..models.drawing.views import PICTURES, most_moving, motion_view, timeline_view
from ..models.errors import InputError
from ..models.source.reading import FrameSampling, VideoSource, fit_size
from ..models.source.sampled import SampledVideo
from ..models.video import planning
from ..models.video.clearness import unclear_frames
from ..models.video.cuts import cuts_of, known_cuts
from ..models.video.extraction import CHUNK, VECTORS, extract
from ..models.video.gop import GopPlan
from ..models.video.planning import CAP
from ..models.video.primitives import Primitives
from ..models.video.shots import cuts_in_words, shots
from ..models.video.tokens import DEFAULT_MODE, MODES, modes_in_words
from ..models.weights import FPS, NAME, SIDE
from . import host
from .qwen import Qwen3VLSocket, preferred_sampling

SampledVideoSocket = io.Custom("CODECLENS_SAMPLED_VIDEO")
PrimitivesSocket = io.Custom("CODECLENS_PRIMITIVES")
PlanSocket = io.Custom("CODECLENS_GOP_PLAN")

CATEGORY = "CodecLens/video"

PAGE_FILES: weakref.WeakKeyDictionary[SampledVideo, dict] = weakref.WeakKeyDictionary()
"""Where the page finds small pictures and the motion of the frames of each video whose primitives were extracted."""


class SampledImages(NamedTuple):
    """A sampled video, and the IMAGE that it comes from (None for a file), for the host's cache to see."""

    video: SampledVideo
    images: torch.Tensor | None


class CodecPrimitives(NamedTuple):
    """What the codec sees, and again its arrays as tensors in the same memory, for the host's cache to see."""

    primitives: Primitives
    tensors: tuple[torch.Tensor, ...]


def frames_input(what: str):
    """The optional input of nodes whose plan or code knows its video already."""
    return SampledVideoSocket.Input(
        "frames", optional=True, tooltip=f"Not needed: {what} knows its video. Connect it to take frames of another."
    )


def width_input(tooltip: str):
    """The width of a picture that a node draws."""
    return io.Int.Input("width", default=1600, min=900, max=8192, step=4, advanced=True, tooltip=tooltip)


def with_frames(plan: GopPlan, frames: SampledImages | None) -> GopPlan:
    """``plan`` with the video that a node was given, where it was given one."""
    if frames is not None:
        return replace(plan, video=frames.video)
    if plan.video is None:
        raise InputError("the plan was made without frames; connect the sampled video as well")
    return plan


class SampleVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensSampleVideo",
            display_name="Sample Video",
            category=CATEGORY,
            description="Chooses which frames of a video to sample and at what size. Frames keep the video's own times"
            " and frame numbers; they are read later, forwards and in chunks, so an hour needs no more memory than a"
            " minute.",
            search_aliases=["video frames", "frame rate", "fps", "qwen", "vlm", "codec lens"],
            inputs=[
                io.Video.Input(
                    "video",
                    optional=True,
                    tooltip="The video to sample. A trim set before (Trim Video) is honoured. Connect this or images.",
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Frames as an image batch, instead of a video. Images carry no times, so images_fps must be"
                    " true.",
                ),
                Qwen3VLSocket.Input(
                    "model",
                    optional=True,
                    tooltip="From Load Qwen3-VL: it says what sampling auto and side 0 are, 2 frames a second at 512"
                    f" for Qwen, {FPS:g} at {SIDE} for {NAME}. Not connected: as for Qwen.",
                ),
                io.Float.Input(
                    "images_fps",
                    default=24.0,
                    min=0.01,
                    max=1000.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Frames per second of the image batch. Times are computed from it. Not used for a video.",
                ),
                io.DynamicCombo.Input(
                    "sampling",
                    options=[
                        io.DynamicCombo.Option("auto", []),
                        io.DynamicCombo.Option(
                            "fps",
                            [
                                io.Float.Input(
                                    "fps",
                                    default=2.0,
                                    min=0.01,
                                    max=240.0,
                                    step=0.01,
                                    tooltip="Frames sampled in each second. 2 is Qwen3-VL's own default; fast"
                                    " action deserves 4 to 8.",
                                )
                            ],
                        ),
                        io.DynamicCombo.Option(
                            "count",
                            [
                                io.Int.Input(
                                    "count",
                                    default=64,
                                    min=1,
                                    max=100000,
                                    tooltip="This many frames spread evenly over the video, first and last included.",
                                )
                            ],
                        ),
                        io.DynamicCombo.Option(
                            "every",
                            [
                                io.Int.Input(
                                    "step",
                                    default=12,
                                    min=1,
                                    max=100000,
                                    tooltip="Frames 0, step, 2 * step and so on.",
                                )
                            ],
                        ),
                        io.DynamicCombo.Option("all", []),
                    ],
                    tooltip="How frames are chosen: auto, as many a second as the model prefers; so many a second, so"
                    " many in all, every n-th, or all of them.",
                ),
                io.Int.Input(
                    "side",
                    default=0,
                    min=0,
                    max=2048,
                    step=32,
                    tooltip="Pixels; 0 is what the model prefers. Frames are resized to about side x side in their"
                    " own shape, sides multiples of 32. A whole picture costs (side/32) squared tokens: 256 at 512.",
                ),
            ],
            outputs=[
                SampledVideoSocket.Output("frames", tooltip="The sampled video, for the other CodecLens nodes."),
                io.Int.Output("count", tooltip="How many frames are sampled."),
            ],
        )

    @classmethod
    def execute(cls, images_fps, sampling, side, video=None, images=None, model=None) -> io.NodeOutput:
        if (video is None) == (images is None):
            raise InputError("Sample Video takes either a video or images; connect exactly one of the two")
        if images is None:
            source, images = host.video_source(video)
        else:
            source = VideoSource.from_images(host.opaque(images), images_fps)
        fps, preferred_side = preferred_sampling(model)
        rule, side = sampling_rule(sampling, fps), side or preferred_side
        first, last = source.window(host.node_progress())
        count = len(rule.select(source.timeline().pts[first : last + 1]))
        size = fit_size(source.info.width, source.info.height, side * side)
        return io.NodeOutput(SampledImages(SampledVideo(source, rule, size), images), count)


def sampling_rule(sampling: dict, preferred_fps: float) -> FrameSampling:
    rules = {
        "auto": lambda: FrameSampling.by_fps(preferred_fps),
        "fps": lambda: FrameSampling.by_fps(sampling["fps"]),
        "count": lambda: FrameSampling.by_count(sampling["count"]),
        "every": lambda: FrameSampling.every(sampling["step"]),
        "all": FrameSampling.all,
    }
    return rules[sampling["sampling"]]()


class ExtractCodecPrimitives(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensExtractCodecPrimitives",
            display_name="Extract Codec Primitives",
            category=CATEGORY,
            description="Sees the video as a codec does: for each 16x16 block of a sampled frame, where it was in the"
            " frame sampled before (motion vector) and how badly that predicts it (cost).",
            search_aliases=["motion vectors", "motion", "residual", "optical flow", "block matching", "codec lens"],
            inputs=[
                SampledVideoSocket.Input("frames", tooltip="From Sample Video."),
                io.Combo.Input(
                    "vectors",
                    options=list(VECTORS),
                    default="search",
                    tooltip="search: our own block search between sampled frames, works for every video. bitstream: the"
                    " vectors that the file's encoder stored (H.264, MPEG-4 part 2, MPEG-2), chained from sample to"
                    " sample; they cost no search, but an encoder picks vectors that are cheap to store, not always"
                    " true motion.",
                ),
            ],
            outputs=[
                PrimitivesSocket.Output(
                    "primitives",
                    tooltip="Motion vectors in pixels and costs in summed grey levels, for the nodes below.",
                )
            ],
        )

    @classmethod
    def execute(cls, frames: SampledImages, vectors) -> io.NodeOutput:
        video, progress = frames.video, host.node_progress()
        sheets = ContactSheets(len(sampled_times(video)), video.size, lambda data: host.keep_for_page(data, ".jpg"))
        primitives = extract(video, vectors, frames=sheets.passing(video.frames(CHUNK, progress)), progress=progress)
        arrays = (primitives.mv, primitives.cost, primitives.sad, primitives.valid)
        motion, (rows, columns) = motion_bytes(primitives)
        arrows = {"file": host.keep_for_page(motion, ".bin"), "rows": rows, "columns": columns}
        PAGE_FILES[video] = {"strip": sheets.to_json(), "motion": arrows}
        return io.NodeOutput(CodecPrimitives(primitives, tuple(map(torch.from_numpy, arrays))))


GAMMA_TOOLTIP = (
    "The cost above which a frame cannot be predicted well and becomes a whole picture. auto: found so that the median"
    " group holds 8 predicted frames in this video. scaled: AdaCodec's published value carried to this size (40 grey"
    " levels per colour sample). value: the number in gamma_value."
)


def gamma_inputs(options=("auto", "scaled", "value")):
    return [
        io.Combo.Input("gamma", options=list(options), default=options[0], tooltip=GAMMA_TOOLTIP),
        io.Float.Input(
            "gamma_value",
            default=31457280.0,
            min=0.0,
            max=1e12,
            step=100000.0,
            advanced=True,
            tooltip="Used where gamma is 'value'. In grey levels summed over all colour samples of a frame, as the cost"
            " is: 40 * 512 * 512 * 3 by default. Read good values off Draw Plan's cost curve.",
        ),
    ]


def cap_input(tooltip="At most this many predicted frames in a row; then a whole picture comes anyway (AdaCodec: 16)."):
    return io.Int.Input("cap", default=CAP, min=0, max=100000, tooltip=tooltip)


class PlanGOP(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensPlanGOP",
            display_name="Plan GOP",
            category=CATEGORY,
            description="Decides which frames a model needs as whole pictures (I) and for which a compact change is"
            " enough (P), and counts the visual tokens that this costs.",
            search_aliases=[
                "gop",
                "group of pictures",
                "keyframes",
                "i frames",
                "token budget",
                "adacodec",
                "codec lens",
            ],
            inputs=[
                PrimitivesSocket.Input("primitives", tooltip="From Extract Codec Primitives."),
                io.DynamicCombo.Input(
                    "policy",
                    options=[
                        io.DynamicCombo.Option("adaptive", [*gamma_inputs(), cap_input()]),
                        io.DynamicCombo.Option(
                            "budget",
                            [
                                io.Int.Input(
                                    "budget",
                                    default=2048,
                                    min=1,
                                    max=10000000,
                                    tooltip="Never spend more prompt tokens than this: visual, times, markers. First"
                                    " gamma rises (at most twice as high), then whole groups are dropped evenly over"
                                    " time.",
                                ),
                                *gamma_inputs(),
                                cap_input(),
                            ],
                        ),
                        io.DynamicCombo.Option("fixed", [cap_input("Predicted frames after each whole picture.")]),
                        io.DynamicCombo.Option(
                            "frames",
                            [
                                io.String.Input(
                                    "frames",
                                    default="0",
                                    tooltip="The whole pictures, as positions among the sampled frames: 0, 12, 30. The"
                                    " first frame always is one.",
                                )
                            ],
                        ),
                        io.DynamicCombo.Option("streaming", [*gamma_inputs(("scaled", "value")), cap_input()]),
                    ],
                    tooltip="adaptive: a whole picture where prediction fails. budget: the same within a number of"
                    " tokens. fixed: at regular distance. frames: where you say. streaming: adaptive decided frame by"
                    " frame without reading ahead.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=DEFAULT_MODE,
                    tooltip=f"Whose tokens are counted. A predicted frame becomes, by mode: {modes_in_words(MODES)}.",
                ),
                io.Boolean.Input(
                    "start_at_cuts",
                    default=False,
                    advanced=True,
                    tooltip="Also make the first sampled frame of each shot a whole picture. Most cuts cost enough to"
                    " become one anyway; this is for fixed groups, tight budgets, and cuts between similar pictures."
                    " Hard cuts are found at the video's own frame rate, which decodes all of it once.",
                ),
                io.Boolean.Input(
                    "clear_pictures",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Take no whole picture from a black frame or from the middle of a fade or dissolve where a"
                    " clear one follows within the group: that one is taken. Off is the published rule. For adaptive"
                    " and budget.",
                ),
                io.String.Input(
                    "pinned",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Frames that you decide yourself, as positions among the sampled frames: 12 is a whole"
                    " picture whatever it costs, -12 is a predicted frame. Click frames of the timeline to fill it.",
                ),
            ],
            outputs=[
                PlanSocket.Output("plan", tooltip="The decisions, for Draw Plan, Plan Info and Select Frames."),
                io.Int.Output("tokens", tooltip="Visual tokens that the plan costs in this mode."),
                io.Int.Output("prompt_tokens", tooltip="The same with time stamps and markers: what a budget limits."),
            ],
            is_output_node=True,
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, primitives: CodecPrimitives, policy, mode, start_at_cuts, clear_pictures=True, pinned=""
    ) -> io.NodeOutput:
        found = primitives.primitives
        pins = whole_numbers(pinned)
        rule = {"cap": policy.get("cap", CAP), "budget": policy.get("budget"), "clear": clear_pictures}
        rule["pinned"] = [number for number in pins if number >= 0]
        rule["released"] = [-number for number in pins if number < 0]
        if "gamma" in policy:
            rule["gamma"] = policy["gamma_value"] if policy["gamma"] == "value" else policy["gamma"]
        if "frames" in policy:
            rule["frames"] = whole_numbers(policy["frames"])
        cuts = cuts_of(found.video.source, host.node_progress()).cuts if start_at_cuts else ()
        decided = planning.plan(found, policy["policy"], cuts=cuts, mode=mode, **rule)
        shown = timeline_data(decided, cuts, rule["cap"]) | {
            "settings": {
                **policy,
                "mode": mode,
                "start_at_cuts": start_at_cuts,
                "clear_pictures": clear_pictures,
                "pinned": pinned,
            },
        }
        return io.NodeOutput(decided, int(decided.tokens.sum()), decided.prompt_tokens, ui={"codeclens_plan": [shown]})


def whole_numbers(words: str) -> list[int]:
    try:
        return [int(word) for word in words.replace(",", " ").split()]
    except ValueError:
        raise InputError(f"the list of frames is {words!r}; give whole numbers, for example 0, 12, 30") from None


def timeline_data(plan: GopPlan, cuts=(), cap: int | None = None) -> dict:
    """What the timeline on a node shows of a plan, and what it takes to plan again in the page."""
    small = plan.primitives.small if plan.primitives else None
    unclear = () if small is None else unclear_frames(small)
    shown = {"name": plan.video.name, **plan_data(plan), **PAGE_FILES.get(plan.video, {})}
    known = known_cuts(plan.video.source)
    shown["marks"] = [] if known is None else marks_data(plan.video.source, known)
    return shown | replan_data(plan, cuts, unclear, cap)


class DrawPlan(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensDrawPlan",
            display_name="Draw Plan",
            category=CATEGORY,
            description="Draws the plan over time: thumbnails, whole and predicted frames with the reason of each, the"
            " prediction cost against gamma, and the tokens spent against plain video.",
            search_aliases=["gop", "timeline", "plot", "codec lens"],
            inputs=[
                frames_input("the plan"),
                PlanSocket.Input("plan", tooltip="From Plan GOP."),
                width_input("Width of the picture in pixels."),
                io.Boolean.Input(
                    "cuts",
                    default=True,
                    tooltip="Also mark cuts, fades, dissolves and wipes, here and on the plan's timelines. They are"
                    " found at the video's own frame rate, so this decodes all of it once more; switch it off for very"
                    " long videos.",
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="The picture, shown on the node as well.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, plan: GopPlan, width, cuts, frames: SampledImages | None = None) -> io.NodeOutput:
        source = with_frames(plan, frames).video.source
        found = cuts_of(source, host.node_progress()) if cuts else None
        picture = host.image(timeline_view(plan, source, found, width, host.node_progress()))
        shown = host.shown_pictures(picture, cls)
        if found is not None and plan.video in PAGE_FILES:
            strip = PAGE_FILES[plan.video]["strip"]["files"][0]
            shown["codeclens_marks"] = [{"strip": strip, "marks": marks_data(source, found)}]
        return io.NodeOutput(picture, ui=shown)


class DrawMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensDrawMotion",
            display_name="Draw Motion",
            category=CATEGORY,
            description="Draws what the codec sees in one sampled frame: where each block came from, how well that"
            " predicts the frame, and what is left over.",
            search_aliases=["motion vectors", "optical flow", "residual", "heat map", "codec lens"],
            inputs=[
                frames_input("what was extracted"),
                PrimitivesSocket.Input("primitives", tooltip="From Extract Codec Primitives."),
                io.Combo.Input(
                    "picture",
                    options=list(PICTURES),
                    default="all",
                    tooltip="motion: an arrow for each block, coloured by direction. prediction: frame, prediction and"
                    " residual side by side. residual: what prediction leaves over, as a heat map. all: one sheet.",
                ),
                io.Int.Input(
                    "position",
                    default=-1,
                    min=-1,
                    max=1000000,
                    tooltip="Which sampled frame, counted from 0 (0 itself has nothing before it). -1: the frame that"
                    " moves most.",
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="The picture, shown on the node as well.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, primitives: CodecPrimitives, picture, position, frames=None) -> io.NodeOutput:
        found = primitives.primitives
        source = (found.video if frames is None else frames.video).source
        position = most_moving(found) if position < 0 else position
        drawn = host.image(motion_view(found, source, position, picture, host.node_progress()))
        return io.NodeOutput(drawn, ui=host.shown_pictures(drawn, cls))


class SelectFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensSelectFrames",
            display_name="Select Frames",
            category=CATEGORY,
            description="Takes frames out of a sampled video as images: the whole pictures of a plan, the frames it"
            " keeps, or a list. Times and source frame numbers come along.",
            search_aliases=["keyframes", "extract frames", "codec lens"],
            inputs=[
                SampledVideoSocket.Input(
                    "frames", optional=True, tooltip="The sampled video. Not needed with a plan, which knows its video."
                ),
                PlanSocket.Input(
                    "plan",
                    optional=True,
                    tooltip="The plan whose frames are taken. Not needed for a list of positions or times.",
                ),
                io.DynamicCombo.Input(
                    "which",
                    options=[
                        io.DynamicCombo.Option("I frames", []),
                        io.DynamicCombo.Option("kept frames", []),
                        io.DynamicCombo.Option(
                            "positions",
                            [
                                io.String.Input(
                                    "positions",
                                    default="0, 1, 2",
                                    tooltip="Positions among the sampled frames, counted from 0.",
                                )
                            ],
                        ),
                        io.DynamicCombo.Option(
                            "times",
                            [
                                io.String.Input(
                                    "times",
                                    default="0.0, 1.0",
                                    tooltip="Seconds on the video's own clock: the frame on screen at each, sampled or"
                                    " not.",
                                )
                            ],
                        ),
                    ],
                    tooltip="I frames and kept frames need a plan; positions and times are lists that you give.",
                ),
                io.Boolean.Input(
                    "full_size",
                    default=True,
                    tooltip="On: in the video's own size. Off: in the size sampled, as a model would see them.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The frames as one batch, in order of time."),
                io.String.Output("times", tooltip="Their presentation times in seconds, as a JSON list."),
                io.String.Output("numbers", tooltip="Their frame numbers in the source, as a JSON list."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, which, full_size, frames: SampledImages | None = None, plan=None) -> io.NodeOutput:
        if frames is None and (plan is None or plan.video is None):
            raise InputError("Select Frames has neither a sampled video nor a plan made from one; connect either")
        video = plan.video if frames is None else frames.video
        sampling = FrameSampling.at_times(selected_times(video, which, plan))
        taken = video.source.read(sampling, None if full_size else video.size, host.node_progress())
        numbers = json.dumps(taken.index.tolist())
        times = json.dumps([round(seconds, 6) for seconds in taken.pts.tolist()])
        images = host.images(taken.rgb)
        return io.NodeOutput(images, times, numbers, ui=host.shown_pictures(images, cls))


def sampled_times(video: SampledVideo) -> np.ndarray:
    """float64 [T]: presentation times in seconds of the frames that are sampled."""
    first, last = video.source.window()
    inside = video.source.timeline().pts[first : last + 1]
    return inside[video.sampling.select(inside)]


def selected_times(video: SampledVideo, which: dict, plan: GopPlan | None) -> list[float]:
    """Presentation times in seconds of the frames that Select Frames was asked for."""
    if which["which"] == "times":
        try:
            return [float(word) for word in which["times"].replace(",", " ").split()]
        except ValueError:
            raise InputError(f"the list of times is {which['times']!r}; give seconds, for example 0.0, 2.5") from None
    if which["which"] == "positions":
        sampled = sampled_times(video)
        chosen = whole_numbers(which["positions"])
        if wrong := [position for position in chosen if not 0 <= position < len(sampled)]:
            raise InputError(f"position {wrong[0]} is not a sampled frame; give positions from 0 to {len(sampled) - 1}")
        return sampled[chosen].tolist()
    if plan is None:
        raise InputError(f"selecting {which['which']} needs a plan; connect Plan GOP")
    chosen = plan.keep & (plan.kind == 1) if which["which"] == "I frames" else plan.keep
    return plan.pts[chosen].tolist()


class SplitAtCuts(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensSplitAtCuts",
            display_name="Split at Cuts",
            category=CATEGORY,
            description="Finds the hard cuts of a video at its own frame rate and gives each shot as a video of its"
            " own. What follows runs once for each shot.",
            search_aliases=["shot", "scene cut", "scene detection", "split video", "codec lens"],
            inputs=[
                io.Video.Input("video", tooltip="The video to split. A trim set before is honoured."),
                io.Float.Input(
                    "shortest",
                    default=0.0,
                    min=0.0,
                    max=3600.0,
                    step=0.1,
                    tooltip="A shot that would be shorter (in seconds) is joined to a neighbour. 0 keeps all.",
                ),
                io.Boolean.Input(
                    "at_fades",
                    default=False,
                    tooltip="Also split in the middle of each fade, dissolve and wipe, not only at hard cuts.",
                ),
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Video.Output("shots", is_output_list=True, tooltip="One video for each shot, in order."),
                io.String.Output(
                    "report",
                    tooltip="JSON: frame numbers that start a new shot, and the spans of fades, dissolves and wipes.",
                ),
                io.String.Output("text", tooltip="The same in words, with times in seconds."),
            ],
        )

    @classmethod
    def execute(cls, video, shortest, at_fades) -> io.NodeOutput:
        source, _ = host.video_source(video)
        found = cuts_of(source, host.node_progress())
        parts = [host.part_of(video, shot) for shot in shots(source, found, shortest, at_fades)]
        words = cuts_in_words(source, found)
        return io.NodeOutput(parts, json.dumps(found.to_json()), words, ui=host.shown(words, cls.hidden.unique_id))


class PlanInfo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensPlanInfo",
            display_name="Plan Info",
            category=CATEGORY,
            description="The plan as JSON text: I and P, the reason of each whole picture, times, frame numbers, costs,"
            " and the tokens of every mode beside both baselines.",
            search_aliases=["gop", "json", "export plan", "codec lens"],
            inputs=[PlanSocket.Input("plan", tooltip="From Plan GOP.")],
            outputs=[io.String.Output("json", tooltip="One JSON object; `codeclens plan --json` writes the same.")],
        )

    @classmethod
    def execute(cls, plan: GopPlan) -> io.NodeOutput:
        return io.NodeOutput(json.dumps(plan.to_json(), indent=1))


NODES = [
    SampleVideo,
    ExtractCodecPrimitives,
    PlanGOP,
    DrawPlan,
    DrawMotion,
    SelectFrames,
    SplitAtCuts,
    PlanInfo,
]
