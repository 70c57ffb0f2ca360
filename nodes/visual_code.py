"""Nodes that show a planned video to Qwen3-VL and talk about it.

Socket of this family:
    CODECLENS_VISUAL_CODE  :class:`EncodedVideo`, the tokens of a video
"""

import json
from dataclasses import replace
from typing import NamedTuple

import torch
from comfy_api.latest import io

from ..models.code.answers import find_mentions
from ..models.code.captions import Writing, caption_code, caption_reserve
from ..models.code.conversation import Answer, Conversation, answer_tokens
from ..models.code.encoding import encode_images
from ..models.code.layout import prompt_tokens, question_tokens
from ..models.code.modes import ENCODERS, STAMPS
from ..models.code.pipeline import CodeConfig, encode_plan, most_patches
from ..models.code.presets import list_presets, read_preset
from ..models.code.visual_code import VisualCode
from ..models.drawing.code import code_view
from ..models.errors import InputError
from ..models.qwen.preprocessing import fit_picture
from ..models.source.reading import FrameSampling
from ..models.video.tokens import DEFAULT_MODE, MODES, modes_in_words
from . import host
from .learned import LearnedCodeSocket
from .model_placement import HostedQwen3VL
from .qwen import (
    model_input,
    model_or_embedded,
    remark,
    require_vision,
    sampling_of,
    sampling_warnings,
    writing_inputs,
)
from .readings import Readings
from .video import PlanSocket, frames_input, timeline_data, width_input, with_frames

VisualCodeSocket = io.Custom("CODECLENS_VISUAL_CODE")

CATEGORY = "CodecLens/code"


class EncodedVideo(NamedTuple):
    """A code, again its tensors, for the host's cache to see, and what models have read of it."""

    code: VisualCode
    tensors: tuple[torch.Tensor, ...]
    readings: Readings


def budget_input(tooltip: str):
    """Prompt tokens of a video at most; 0 leaves them to the node."""
    return io.Int.Input("budget", default=0, min=0, max=1000000, optional=True, advanced=True, tooltip=tooltip)


def code_input(name: str = "code"):
    return VisualCodeSocket.Input(name, tooltip="From Encode Video. It is encoded once, however often it is asked.")


def report_output():
    return io.String.Output(
        "report",
        tooltip="JSON: each picture shown with kind, time and tokens; tokens of every mode; seconds of reading, vision,"
        " prefill and decoding; tokens per second; what was left out.",
    )


class EncodeVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensEncodeVideo",
            display_name="Encode Video",
            category=CATEGORY,
            description="Turns a planned video into the visual tokens that Qwen3-VL reads: whole pictures where the"
            " plan says so, small ones elsewhere. Questions and captions then use this one encoding.",
            search_aliases=["qwen", "vlm", "visual tokens", "vision encoder", "codec lens"],
            inputs=[
                model_input(),
                frames_input("the plan"),
                PlanSocket.Input("plan", tooltip="From Plan GOP: which frames are whole pictures."),
                io.Combo.Input(
                    "mode",
                    options=list(ENCODERS),
                    default=DEFAULT_MODE,
                    tooltip=f"What a predicted frame becomes. {modes_in_words(ENCODERS)}. cells chooses its pictures"
                    " itself: of the plan it takes which frames are kept.",
                ),
                io.Int.Input(
                    "reserve",
                    default=2048,
                    min=64,
                    max=131072,
                    advanced=True,
                    tooltip="Tokens of the model's context to leave free for question and answer. If the video does not"
                    " fit beside them, whole groups are dropped evenly over time, and the report says so.",
                ),
                io.Combo.Input(
                    "stamps",
                    options=["auto", *STAMPS],
                    default="auto",
                    advanced=True,
                    tooltip="Where times are written: before every picture, before whole pictures, or once a"
                    " second; auto is once a second for cells, else every. A stamp costs about 7 tokens; without"
                    " them the model cannot say when something happens.",
                ),
                io.Boolean.Input(
                    "pair_thumbnails",
                    default=False,
                    advanced=True,
                    tooltip="Show two neighbouring small pictures as one native pair: half their tokens, less exact"
                    " times.",
                ),
                io.Float.Input(
                    "drop",
                    default=0.0,
                    min=0.0,
                    max=0.95,
                    step=0.05,
                    advanced=True,
                    tooltip="Drop this fraction of the tokens of whole pictures that changed least since the one before"
                    " (Efficient Video Sampling). Saves reading time, not encoding time.",
                ),
                budget_input(
                    "For cells: prompt tokens of the video at most, stamps and markers included; the cells that"
                    " changed most are sent. 0: about a sixth of the cells of native pairs."
                ),
                LearnedCodeSocket.Input(
                    "learned",
                    optional=True,
                    tooltip="From Load Learned Code or Train Learned Code, for the modes ptoken and delta.",
                ),
                io.Int.Input(
                    "window",
                    default=1,
                    min=1,
                    max=64,
                    optional=True,
                    advanced=True,
                    tooltip="For ptoken and delta: predicted frames that share one set of tokens. More saves tokens and"
                    " blurs times.",
                ),
                io.Boolean.Input(
                    "adaptive_window",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="For ptoken and delta: fuse more frames where little changes and fewer where much does, so"
                    " many as window on average.",
                ),
            ],
            outputs=[
                VisualCodeSocket.Output(
                    "code", tooltip="For Caption Video, Ask Video, Frames from Answer and Draw Code."
                ),
                io.Int.Output("tokens", tooltip="Visual tokens of the code."),
                io.Int.Output("prompt_tokens", tooltip="The same with time stamps and markers."),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, plan, mode, reserve, stamps, pair_thumbnails, drop, model=None, frames=None, budget=0, learned=None,
        window=1, adaptive_window=False,
    ):  # fmt: skip
        model = model_or_embedded(model)
        require_vision(model)
        plan = with_frames(plan, frames)
        config = CodeConfig(
            mode=mode, stamps=stamps, pair_thumbnails=pair_thumbnails, drop=drop, budget=budget or None, window=window,
            adaptive=adaptive_window,
        )  # fmt: skip
        ready = model.for_vision(most_patches(plan))
        if MODES[mode].trained:
            if learned is None:
                raise InputError(f"mode is {mode}, which needs trained weights; connect Load Learned Code at learned")
            config = replace(config, learned=learned.for_model(ready))
        code = encode_plan(plan, ready, config, reserve=reserve, progress=host.node_progress())
        code = replace(code, warnings=(*code.warnings, *sampling_warnings(model, plan)))
        tensors = tuple(tensor for segment in code for tensor in (segment.embeds, segment.deepstack))
        spent = {segment.index[0]: len(segment) for segment in code}
        shown = timeline_data(code.plan) | {
            "tokens_per_frame": [spent.get(index, 0) for index in code.plan.index.tolist()],
            "tokens": code.token_count,
            "prompt_tokens": code.prompt_tokens,
            "warnings": list(code.warnings),
        }
        encoded = EncodedVideo(code, tensors, Readings())
        return io.NodeOutput(encoded, code.token_count, code.prompt_tokens, ui={"codeclens_plan": [shown]})


class CaptionVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensCaptionVideo",
            display_name="Caption Video",
            category=CATEGORY,
            description="Writes a caption of an encoded video. The text appears in the node while it is written.",
            search_aliases=[
                "video caption",
                "describe video",
                "prompt from video",
                "video to text",
                "qwen",
                "vlm",
                "codec lens",
            ],
            inputs=[
                model_input(),
                code_input(),
                io.Combo.Input(
                    "preset",
                    options=list(list_presets(host.user_folder("presets"))),
                    default="plain",
                    tooltip="What to write: a plain or dense caption, a prompt for a video model, tags, alternative"
                    " text, JSON. Presets are small JSON files; put your own into user/codeclens/presets.",
                ),
                io.String.Input(
                    "instructions",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Added to the preset's text: a style, a language, words to use or to avoid.",
                ),
                *writing_inputs(),
            ],
            outputs=[
                io.String.Output("text", tooltip="The caption."),
                io.String.Output("reasoning", tooltip="What a Thinking model wrote before it; empty for other models."),
                io.Boolean.Output("truncated", tooltip="True where max_tokens cut the caption off."),
                report_output(),
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, preset, **others):
        return list_presets(host.user_folder("presets"))[preset].read_text(encoding="utf-8")

    @classmethod
    def execute(cls, code, preset, max_tokens, seed, sampling, thinking, model=None, instructions="") -> io.NodeOutput:
        model = model_or_embedded(model)
        chosen = read_preset(list_presets(host.user_folder("presets"))[preset])
        writing = Writing(
            sampling_of(sampling, seed, model.model, thinking), max_tokens or None, thinking, instructions
        )
        room = caption_reserve(model.model.tokenizer, chosen, writing)
        reading = code.readings.reading(model, code.code, room, host.node_progress())
        live = host.LiveAnswers(cls.hidden.unique_id)
        live.clip(code.code.name, seen_words(code.code) + remark(model))
        live.begin(preset)
        answer = caption_code(
            code.code, model.model, chosen, writing, reading=reading, on_text=live, progress=live.progress
        ).answer
        live.end(answer, find_mentions(answer.text, code.code))
        report = json.dumps(answer.report(code.code), indent=1)
        return io.NodeOutput(answer.text, answer.reasoning, answer.truncated, report, ui=live.ui(answer.text))


class AskVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensAskVideo",
            display_name="Ask Video",
            category=CATEGORY,
            description="Asks questions about an encoded video. The model reads the video once for all of them, so ten"
            " questions cost little more than one. Takes lists: every video is asked every question.",
            search_aliases=["qwen", "vlm", "vqa", "question answering", "video qa", "codec lens"],
            is_input_list=True,
            inputs=[
                model_input(),
                code_input(),
                io.String.Input(
                    "questions",
                    default="What happens in this video?",
                    multiline=True,
                    tooltip="One question a line. Times in the answers are seconds of the video.",
                ),
                io.Boolean.Input(
                    "follow_up",
                    default=False,
                    tooltip="Off: each question is asked on its own. On: they are one conversation, each question after"
                    " the answer before.",
                ),
                *writing_inputs(),
            ],
            outputs=[
                io.String.Output("answers", is_output_list=True, tooltip="The answers as a list, in order."),
                io.String.Output("transcript", tooltip="Questions and answers as one text."),
                io.Boolean.Output("truncated", tooltip="True where max_tokens cut any answer off."),
                report_output(),
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, code, questions, follow_up, max_tokens, seed, sampling, thinking, model=None) -> io.NodeOutput:
        model = model_or_embedded(model)
        asker, lines = _list_asker(cls, model, seed, sampling, max_tokens, thinking), _lines(questions)
        answers, reports = [], []
        for video in code:
            room = asker.room(model, lines)
            conversation = video.readings.reading(model, video.code, room, host.node_progress())
            asker.live.clip(video.code.name, seen_words(video.code) + remark(model))
            for line in lines:
                answer = asker(conversation if follow_up[0] else conversation.fork(), line, video.code)
                answers.append(answer)
                reports.append({"file": video.code.name, "question": line, **answer.report(video.code)})
        return io.NodeOutput(
            [answer.text for answer in answers],
            asker.live.transcript,
            any(answer.truncated for answer in answers),
            json.dumps(reports, indent=1),
            ui=asker.live.ui(asker.live.transcript),
        )


class AskImages(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensAskImages",
            display_name="Ask Images",
            category=CATEGORY,
            description="Shows several images to Qwen3-VL, numbered, and asks questions about them. They are read once"
            " for all questions.",
            search_aliases=["qwen", "vlm", "compare images", "multi image", "vqa", "codec lens"],
            is_input_list=True,
            inputs=[
                model_input(),
                io.Image.Input("images", tooltip="Batches and lists of images, of any sizes, in order."),
                io.String.Input(
                    "questions",
                    default="What changes from image 1 to image 2?",
                    multiline=True,
                    tooltip="One question a line. Images are called 'Image 1', 'Image 2' and so on.",
                ),
                *writing_inputs(),
                io.Int.Input(
                    "image_tokens",
                    default=512,
                    min=64,
                    max=16384,
                    step=64,
                    advanced=True,
                    tooltip="Largest number of tokens for one image, 32 x 32 pixels each; larger images are scaled"
                    " down.",
                ),
            ],
            outputs=[
                io.String.Output("answers", is_output_list=True, tooltip="The answers as a list, in order."),
                io.String.Output("transcript", tooltip="Questions and answers as one text."),
                io.Boolean.Output("truncated", tooltip="True where max_tokens cut any answer off."),
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, images, questions, max_tokens, seed, sampling, thinking, image_tokens, model=None
    ) -> io.NodeOutput:
        model, lines = model_or_embedded(model), _lines(questions)
        require_vision(model)
        pictures = [fit_picture(rgb, image_tokens[0]) for batch in images for rgb in host.pixels(batch)]
        patches = max(rgb.shape[0] * rgb.shape[1] // 256 for rgb in pictures)
        segments = encode_images(pictures, model.for_vision(patches), host.node_progress())
        parts = [part for number, picture in enumerate(segments, 1) for part in (f"Image {number}: ", picture)]
        numbers = sum(len(model.model.tokenizer.encode(part)) for part in parts if isinstance(part, str))
        shown = prompt_tokens(segments, model.model.tokenizer) + numbers
        asker = _list_asker(cls, model, seed, sampling, max_tokens, thinking)
        ready = model.for_reading(shown + asker.room(model, lines))
        conversation = Conversation(ready, parts)
        conversation.read(host.node_progress())
        asker.live.clip("", f"{len(pictures)} images, {sum(map(len, segments))} visual tokens{remark(model)}")
        answers = [asker(conversation.fork(), line) for line in lines]
        truncated = any(answer.truncated for answer in answers)
        transcript = asker.live.transcript
        return io.NodeOutput([answer.text for answer in answers], transcript, truncated, ui=asker.live.ui(transcript))


class FramesFromAnswer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensFramesFromAnswer",
            display_name="Frames from Answer",
            category=CATEGORY,
            description="Finds the times and frame numbers that an answer names ('at 3.5 seconds', 'frame 48',"
            " '2.0 - 4.5 seconds') and takes those frames out of the video.",
            search_aliases=["timestamp", "grounding", "moment retrieval", "codec lens"],
            inputs=[
                code_input(),
                frames_input("the code"),
                io.String.Input("answer", force_input=True, tooltip="The text, for instance from Ask Video."),
                io.Boolean.Input(
                    "full_size",
                    default=True,
                    tooltip="On: in the video's own size. Off: in the size the model saw.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    tooltip="The frames as one batch, in order of time, each once. Nodes after it do not run where the"
                    " answer names none.",
                ),
                io.String.Output("times", tooltip="Their presentation times in seconds, as a JSON list."),
                io.String.Output("numbers", tooltip="Their frame numbers in the source, as a JSON list."),
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, code, answer, full_size, frames=None) -> io.NodeOutput:
        mentions = find_mentions(answer, code.code)
        if not mentions:
            words = "The answer names no time or frame within the video, so there are no frames; ask 'when'."
            return io.NodeOutput(host.blocked(), "[]", "[]", ui=host.shown(words, cls.hidden.unique_id))
        named = {index for mention in mentions for index in mention.frames}
        times = {index: pts for s in code.code for index, pts in zip(s.index, s.pts, strict=True)}
        sampling = FrameSampling.at_times(sorted(times[index] for index in named))
        size = None if full_size else code.code.plan.size
        taken = with_frames(code.code.plan, frames).video.source.read(sampling, size, host.node_progress())
        seconds = json.dumps([round(moment, 6) for moment in taken.pts.tolist()])
        images = host.images(taken.rgb)
        shown = host.shown_pictures(images, cls)
        return io.NodeOutput(images, seconds, json.dumps(taken.index.tolist()), ui=shown)


class DrawCode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensDrawCode",
            display_name="Draw Code",
            category=CATEGORY,
            description="Draws what the model sees of a video, in the order in which it reads it: whole pictures and"
            " small ones to one scale, the times it reads, the tokens of each, and what pruning left out.",
            search_aliases=["visual tokens", "contact sheet", "what the model sees", "codec lens"],
            inputs=[
                code_input(),
                frames_input("the code"),
                width_input(
                    "Width of the picture in pixels; it becomes as high as the code needs. Long videos show"
                    " more in a wider one."
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="The picture, shown on the node as well.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, code, width, frames=None) -> io.NodeOutput:
        source = with_frames(code.code.plan, frames).video.source
        picture = host.image(code_view(code.code, source, width, host.node_progress()))
        return io.NodeOutput(picture, ui=host.shown_pictures(picture, cls))


class _Asker:
    """Asks with one node's settings; the node shows all questions and answers so far while the last one is written."""

    def __init__(self, cls, model, seed, sampling, max_tokens, thinking):
        self.live = host.LiveAnswers(cls.hidden.unique_id)
        self.options = {
            "sampling": sampling_of(sampling, seed, model, thinking),
            "max_tokens": max_tokens or answer_tokens(model.tokenizer, thinking),
            "thinking": thinking,
            "on_text": self.live,
            "progress": self.live.progress,
        }

    def room(self, model: HostedQwen3VL, questions: list[str]) -> int:
        """Tokens of all questions and their answers, at most."""
        tokenizer = model.model.tokenizer
        return sum(question_tokens(tokenizer, question) + self.options["max_tokens"] for question in questions)

    def __call__(self, conversation: Conversation, question: str, code: VisualCode | None = None) -> Answer:
        self.live.begin(question)
        answer = conversation.ask(question, **self.options)
        self.live.end(answer, find_mentions(answer.text, code) if code else ())
        return answer


def seen_words(code: VisualCode) -> str:
    """What a model is shown of a video, in a line."""
    plan = code.plan
    kept = int(plan.keep.sum())
    frames = f"{kept} frames" if kept == len(plan) else f"{kept} of {len(plan)} frames"
    return f"{frames} at {plan.size[1]}x{plan.size[0]}, {code.mode}, {code.token_count} visual tokens"


def _list_asker(cls, model, seed, sampling, max_tokens, thinking) -> _Asker:
    """The asker of a node that takes lists, of which settings use the first item."""
    choice = {name: values[0] for name, values in sampling.items()}
    return _Asker(cls, model.model, seed[0], choice, max_tokens[0], thinking[0])


def _lines(questions: list[str]) -> list[str]:
    lines = [line.strip() for text in questions for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError("there is no question; write one a line")
    return lines


NODES = [EncodeVideo, DrawCode, CaptionVideo, AskVideo, AskImages, FramesFromAnswer]
