"""One node from VIDEO to text or score, everything between at good defaults.

What a model has seen of a VIDEO is kept for its next question: another preset or rubric does not read the video again.
"""

import json
from typing import NamedTuple
from weakref import WeakKeyDictionary

from comfy_api.latest import io

from ..models.code.answers import find_mentions
from ..models.code.captions import Writing, caption_code, caption_reserve
from ..models.code.pipeline import CodeConfig, encode_planned, most_patches, plan_prompt_tokens, plan_source
from ..models.code.presets import list_presets, read_preset
from ..models.code.visual_code import VisualCode
from ..models.judge.judging import judge_code, rubric_reserve
from ..models.judge.page import judgement_view, worst_frames
from ..models.judge.scoring import expand
from ..models.qwen.branches import ROWS
from ..models.qwen.generate import GREEDY
from ..models.source.reading import FrameSampling
from ..models.video.tokens import DEFAULT_MODE
from ..models.weights import MODE, is_embedded
from . import host
from .judge import GENERATED, judged_data, prompt_text, rubric_file, rubric_input, rubric_of, verdict_ui
from .model_placement import HostedQwen3VL
from .qwen import model_input, model_or_embedded, preferred_sampling, remark, require_vision
from .readings import Readings
from .visual_code import budget_input


class Seen(NamedTuple):
    """The code of a VIDEO, the tokens of the model's context that were left free beside it, and what was read of it."""

    code: VisualCode
    config: CodeConfig
    reserve: int
    readings: Readings

    def leaves(self, reserve: int, model: HostedQwen3VL) -> bool:
        """Whether another question of ``reserve`` tokens finds the code as it would be made for it."""
        if reserve == self.reserve:
            return True
        plan, ready = self.code.plan, model.model
        needed = plan_prompt_tokens(plan, ready, self.config) + reserve
        return bool(plan.keep.all()) and needed <= ready.config.text.context_length


_SEEN: WeakKeyDictionary = WeakKeyDictionary()
"""What models have seen of each VIDEO, by model. The host's cache owns both: an entry goes with either of them."""


def config_for(model: HostedQwen3VL, budget: int = 0) -> CodeConfig:
    """Mode, sampling and size that suit the model: what the embedded one was trained on, Qwen's own for others.

    A ``budget`` above 0 is the prompt tokens of the video at most.
    """
    fps, side = preferred_sampling(model)
    mode = MODE if is_embedded(model.name) else DEFAULT_MODE
    config = CodeConfig(mode=mode, sampling=FrameSampling.by_fps(fps), area=side**2)
    return config.within(budget) if budget else config


def seen(video, model: HostedQwen3VL, reserve: int, budget: int = 0) -> Seen:
    """What ``model`` sees of a VIDEO beside ``reserve`` tokens of question and answer, kept from before or made now."""
    require_vision(model)
    by_model, config = _SEEN.setdefault(video, WeakKeyDictionary()), config_for(model, budget)
    kept = by_model.get(model)
    if kept is None or kept.config != config or not kept.leaves(reserve, model):
        kept = by_model[model] = Seen(encode(video, model, config, reserve), config, reserve, Readings())
    return kept


def encode(video, model: HostedQwen3VL, config: CodeConfig, reserve: int) -> VisualCode:
    """The code of a VIDEO."""
    source, _ = host.video_source(video)
    progress = host.node_progress()
    planned = plan_source(source, config, progress)
    ready = model.for_vision(most_patches(planned.plan))
    return encode_planned(planned, ready, config, reserve=reserve, progress=progress)


def about(model: HostedQwen3VL, code: VisualCode) -> str:
    """A line on what the model was shown, and a word of warning where it is the embedded one."""
    plan = code.plan
    line = f"{len(plan)} frames at {plan.size[1]}x{plan.size[0]}, {code.mode}, {code.token_count} visual tokens"
    return line + remark(model)


class CaptionAVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensCaptionAVideo",
            display_name="Caption a Video",
            category="CodecLens",
            description="From a video to a caption, or to a prompt for a video model, in one node: which frames, which"
            " plan and which tokens are chosen to suit the model. The text appears while it is written.",
            search_aliases=[
                "caption", "video caption", "describe video", "qwen", "vlm", "prompt from video", "video to text",
                "image to prompt", "codec lens",
            ],
            is_output_node=True,
            inputs=[
                io.Video.Input("video", tooltip="The video to caption. A trim set before is honoured."),
                model_input(),
                io.Combo.Input(
                    "preset",
                    options=list(list_presets(host.user_folder("presets"))),
                    default="plain",
                    tooltip="What to write: a plain or dense caption, a prompt for Wan, LTX or HunyuanVideo, tags. Put"
                    " your own presets into the user folder codeclens/presets. The embedded model knows only plain.",
                ),
                io.Int.Input(
                    "max_tokens",
                    default=512,
                    min=1,
                    max=32768,
                    advanced=True,
                    tooltip="Length of the caption at most; a token is about three quarters of an English word.",
                ),
                io.String.Input(
                    "instructions",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="Added to the preset's text: a style, a language, words to use or to avoid.",
                ),
                budget_input(
                    "Prompt tokens of the video at most, stamps and markers included: a smaller number answers"
                    " sooner and shows less. Its first pictures are always whole. 0 leaves it to the plan."
                ),
            ],
            outputs=[
                io.String.Output("text", tooltip="The caption."),
                io.String.Output("report", tooltip="JSON: pictures shown, tokens, seconds, what was left out."),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, preset, **others):
        return list_presets(host.user_folder("presets"))[preset].read_text(encoding="utf-8")

    @classmethod
    def execute(cls, video, preset, max_tokens, model=None, instructions="", budget=0) -> io.NodeOutput:
        model = model_or_embedded(model)
        chosen = read_preset(list_presets(host.user_folder("presets"))[preset])
        writing = Writing(GREEDY, max_tokens, False, instructions)
        room = caption_reserve(model.model.tokenizer, chosen, writing)
        kept = seen(video, model, room, budget)
        code, readings = kept.code, kept.readings
        live = host.LiveAnswers(cls.hidden.unique_id)
        live.clip(code.name, about(model, code))
        live.begin(preset)
        reading = readings.reading(model, code, room, live.progress)
        found = caption_code(code, model.model, chosen, writing, reading=reading, on_text=live, progress=live.progress)
        live.end(found.answer, find_mentions(found.text, code))
        report = json.dumps(found.answer.report(code), indent=1)
        return io.NodeOutput(found.text, report, ui=live.ui(f"{found.text}\n\n{about(model, code)}"))


class JudgeAVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensJudgeAVideo",
            display_name="Judge a Video",
            category="CodecLens",
            description="From a video to a score in one node: frames, plan and tokens are chosen to suit the model, and"
            " a rubric of questions is scored from the probabilities of the replies.",
            search_aliases=["judge", "score", "rate", "video quality", "rank", "reward", "codec lens"],
            is_output_node=True,
            inputs=[
                io.Video.Input("video", tooltip="The video to judge. A trim set before is honoured."),
                model_input(),
                rubric_input(
                    "What is asked; see Judge Video. Your own are files in the user folder codeclens/rubrics."
                ),
                prompt_text("What the video was made from, for vqascore, unifiedreward and prompt_adherence."),
            ],
            outputs=[
                io.Float.Output("score", tooltip="0 to 1, the weighted mean of the questions."),
                io.String.Output("report", tooltip="One line for each question, the lowest marked."),
                io.Image.Output("picture", tooltip="The scores as bars."),
                io.String.Output("json", tooltip="Scores, probabilities and off-list mass of every question."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, rubric, **others):
        return rubric_file(rubric).read_text(encoding="utf-8")

    @classmethod
    def execute(cls, video, rubric, model=None, prompt="") -> io.NodeOutput:
        model = model_or_embedded(model)
        asked = expand(model.for_reading(GENERATED), rubric_of(rubric), prompt)
        reserve, progress = rubric_reserve(model.model.tokenizer, asked), host.node_progress()
        kept = seen(video, model, reserve)
        code, readings = kept.code, kept.readings
        reading = readings.reading(model, code, reserve + ROWS, progress)
        found = judge_code(code, model.model, asked, reading=reading, progress=progress)
        words = found.verdict.in_words()
        source = code.plan.video.source
        picture = host.image(judgement_view(found, source))
        shown = f"{words}\n\n{about(model, code)}"
        return io.NodeOutput(
            found.verdict.score,
            words,
            picture,
            json.dumps(found.to_json(), indent=1),
            ui=verdict_ui(shown, judged_data(found, worst_frames(found, source, 1)[0])),
        )


NODES = [CaptionAVideo, JudgeAVideo]
