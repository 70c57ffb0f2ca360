"""Nodes that load Qwen3-VL or Qwen3.5 and use it alone: describe images, generate text.

Socket of this family:
    CODECLENS_QWEN3VL  :class:`codeclens.nodes.model_placement.HostedQwen3VL`, the model and the host's handles on it
"""

import functools
import os
from dataclasses import replace

from comfy_api.latest import io

from ..models.code.conversation import REASONING_TOKENS, Conversation, answer_tokens, default_sampling, will_reason
from ..models.code.encoding import encode_images
from ..models.errors import InputError
from ..models.qwen import Qwen3VL
from ..models.qwen.generate import GREEDY, SamplingParams
from ..models.qwen.loading import MissingTower
from ..models.qwen.preprocessing import fit_picture
from ..models.qwen.tokenizer import typed
from ..models.video.gop import GopPlan
from ..models.weights import FPS, NAME, SIDE, embedded_pair, is_embedded
from . import host
from .model_placement import HostedQwen3VL

Qwen3VLSocket = io.Custom("CODECLENS_QWEN3VL")

CATEGORY = "CodecLens/qwen"
AUTO, NONE = "auto", "none (text only)"
EMBEDDED = f"{NAME} (embedded)"
SOURCES = (
    "Files: huggingface.co/Qwen/Qwen3-VL-2B-Instruct-GGUF (also 4B, 8B, 32B, and Thinking), or"
    " huggingface.co/unsloth/Qwen3.5-2B-GGUF (also 0.8B, 4B, 9B, 27B). Take one model, Q4_K_M for instance, and one"
    " mmproj of the same size into models/text_encoders or models/LLM."
)


EMBEDDED_NOTE = f"{NAME} comes with the pack and knows only clips drawn by CodecLens; connect Load Qwen3-VL for others."


def model_input():
    """The socket through which a model enters a node; :func:`model_or_embedded` reads it."""
    return Qwen3VLSocket.Input(
        "model", optional=True, tooltip=f"From Load Qwen3-VL / Qwen3.5. Not connected: {EMBEDDED_NOTE}"
    )


@functools.lru_cache(maxsize=1)
def embedded_model() -> HostedQwen3VL:
    """The embedded model, loaded once; the host moves and frees its weights like any other's."""
    return HostedQwen3VL(*map(str, embedded_pair()))


def model_or_embedded(model: HostedQwen3VL | list | None) -> HostedQwen3VL:
    """The model that a node was given, of a list the first; the embedded one where none is connected."""
    if isinstance(model, list):
        model = model[0]
    return model or embedded_model()


def preferred_sampling(model: HostedQwen3VL | None) -> tuple[float, int]:
    """Frames a second and side in pixels: what the embedded model learned from, Qwen's own for every other."""
    return (FPS, SIDE) if model is not None and is_embedded(model.name) else (2.0, 512)


def remark(model: HostedQwen3VL) -> str:
    """What nodes add to the text they show, not to their outputs, where the embedded model wrote it."""
    return f"\n\n{EMBEDDED_NOTE}" if is_embedded(model.name) else ""


def sampling_warnings(model: HostedQwen3VL, plan: GopPlan) -> tuple[str, ...]:
    """A sentence where the embedded model is shown something else than the pictures that it learned from."""
    if not is_embedded(model.name):
        return ()
    height, width = plan.size
    fps = (len(plan) - 1) / max(float(plan.pts[-1] - plan.pts[0]), 1e-6)
    if height * width < 2 * SIDE**2 and FPS / 2 < fps < 2 * FPS:
        return ()
    return (
        f"{NAME} knows only clips drawn by CodecLens, at {SIDE}x{SIDE} and {FPS:g} frames a second; this one is sampled"
        f" at {width}x{height} and {fps:.3g}: connect the model to Sample Video, with sampling auto and side 0",
    )


def writing_inputs() -> list:
    """The inputs of a node that writes: length, seed, sampling, thinking."""
    return [
        io.Int.Input(
            "max_tokens",
            default=0,
            min=0,
            max=32768,
            tooltip="Length of the answer at most; a token is about three quarters of an English word. 0 leaves room"
            f" for what is asked, and {REASONING_TOKENS} tokens where the model reasons first. The output truncated"
            " says whether the limit cut the answer off.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=io.ControlAfterGenerate.fixed,
            tooltip="The same seed and inputs give the same text on the same device, and nothing is computed again.",
        ),
        io.DynamicCombo.Input(
            "sampling",
            options=[
                io.DynamicCombo.Option(AUTO, []),
                io.DynamicCombo.Option("sample", _sampling_inputs()),
                io.DynamicCombo.Option("greedy", []),
            ],
            tooltip="auto chooses among likely words as the model's makers advise for its kind, with or without"
            " reasoning. sample lets you set how. greedy always takes the likeliest word: steady, but long answers may"
            " start to repeat themselves.",
        ),
        io.Boolean.Input(
            "thinking",
            default=False,
            advanced=True,
            tooltip="Let the model reason before it answers: Qwen3.5 of any size, and Qwen3-VL Thinking, which answers"
            " better so. It takes thousands of tokens. Instruct models have nothing to switch.",
        ),
    ]


def _sampling_inputs() -> list:
    def number(name, default, high, tooltip, low=0.0):
        return io.Float.Input(name, default=default, min=low, max=high, step=0.01, tooltip=tooltip, advanced=True)

    return [
        number("temperature", 0.7, 5.0, "Lower is more predictable, higher more varied. 0 is greedy."),
        io.Int.Input(
            "top_k",
            default=20,
            min=0,
            max=1000,
            advanced=True,
            tooltip="Choose among this many of the likeliest tokens. 0 is all of them.",
        ),
        number("top_p", 0.8, 1.0, "Of these, keep the likeliest that together have this probability. 1 is all."),
        number("min_p", 0.0, 1.0, "Drop tokens less likely than this fraction of the likeliest one. 0 drops none."),
        number("repetition_penalty", 1.0, 3.0, "Above 1, tokens already read or written become less likely.", 0.01),
        number("presence_penalty", 1.5, 5.0, "Subtracted from the logits of tokens already written. 0 is none."),
    ]


def sampling_of(choice: dict, seed: int, model: Qwen3VL, thinking: bool) -> SamplingParams:
    """What the inputs of :func:`writing_inputs` ask for; "auto" is what the makers of ``model`` publish."""
    if choice["sampling"] == AUTO:
        return replace(default_sampling(model, will_reason(model.tokenizer, thinking)), seed=seed)
    if choice["sampling"] == "greedy":
        return GREEDY
    return SamplingParams(seed=seed, **{name: value for name, value in choice.items() if name != "sampling"})


def writing_outputs() -> list:
    """The outputs of a node that writes; see :func:`_answer`."""
    return [
        io.String.Output("text", tooltip="The answer."),
        io.String.Output("reasoning", tooltip="What a Thinking model wrote before it; empty for other models."),
        io.Boolean.Output("truncated", tooltip="True where max_tokens cut the answer off."),
    ]


def require_vision(model: HostedQwen3VL) -> None:
    """Raise where ``model`` cannot see."""
    if model.vision is None:
        raise InputError(
            f"{model.name} was loaded without an mmproj file and cannot see; put it beside the model, or choose it"
        )


class LoadQwen3VL(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        files = host.model_files()
        towers = [name for name in files if "mmproj" in os.path.basename(name).lower()]
        models = [name for name in files if name not in towers]
        return io.Schema(
            node_id="CodecLensLoadQwen3VL",
            display_name="Load Qwen3-VL / Qwen3.5",
            category=CATEGORY,
            description="Loads Qwen3-VL or Qwen3.5 from two GGUF files, the language model and its vision tower"
            " (mmproj), or from the .safetensors file of a text encoder that holds both. Nothing else is needed."
            " Weights stay as they are stored; ComfyUI loads, offloads and frees them like any model.",
            search_aliases=[
                "qwen",
                "qwen3.5",
                "qwen35",
                "qwen3vl",
                "vlm",
                "llm",
                "caption",
                "gguf loader",
                "codec lens",
            ],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=[*models, EMBEDDED],
                    tooltip="The language model, a .gguf file from models/text_encoders, models/clip or models/LLM, or"
                    " a .safetensors file there that is a whole Qwen3-VL or Qwen3.5 (bf16, fp16 or fp8). "
                    + SOURCES
                    + " The embedded one has a few million parameters, to try workflows with: it only knows clips of"
                    f" moving figures (codeclens synth), at {SIDE} x {SIDE} pixels and {FPS:g} frames a second.",
                ),
                io.Combo.Input(
                    "mmproj",
                    options=[
                        AUTO,
                        NONE,
                        *sorted(files, key=lambda name: "mmproj" not in os.path.basename(name).lower()),
                    ],
                    default=AUTO,
                    tooltip="The vision tower. auto takes that of a .safetensors file, or finds the .gguf file beside"
                    " the model that fits it, by what the files say about themselves, not by their names; without one"
                    " it loads for text alone. " + SOURCES,
                ),
            ],
            outputs=[
                Qwen3VLSocket.Output(
                    "loaded", display_name="model", tooltip="For Describe Image, Write Text and the video nodes."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, model, mmproj):
        names = [name for name in (model, mmproj) if name not in (AUTO, NONE, EMBEDDED)]
        return [os.path.getmtime(host.model_path(name)) for name in names]

    @classmethod
    def execute(cls, model, mmproj) -> io.NodeOutput:
        if model == EMBEDDED:
            path, tower = embedded_pair()
        else:
            path, tower = host.model_path(model), "auto"
        if mmproj == NONE:
            tower = None
        elif mmproj != AUTO:
            tower = host.model_path(mmproj)
        try:
            return io.NodeOutput(HostedQwen3VL(path, tower))
        except MissingTower:
            return io.NodeOutput(HostedQwen3VL(path, None))


class DescribeImage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensDescribeImage",
            display_name="Describe Image",
            category=CATEGORY,
            description="Asks Qwen3-VL about an image, or about several at once: all images of a batch are shown"
            " together, in order, before the question. The text appears in the node while it is written.",
            search_aliases=[
                "qwen",
                "vlm",
                "caption",
                "vqa",
                "image to text",
                "interrogate",
                "prompt from image",
                "codec lens",
            ],
            inputs=[
                model_input(),
                io.Image.Input("images", tooltip="One image, or a batch to be seen together."),
                io.String.Input(
                    "question",
                    default="Describe this image.",
                    multiline=True,
                    tooltip="What you want to know, or what the description is for. Images are numbered in their order:"
                    " 'What changed from the first image to the second?'",
                ),
                *writing_inputs(),
                io.Int.Input(
                    "image_tokens",
                    default=1024,
                    min=64,
                    max=16384,
                    step=64,
                    advanced=True,
                    tooltip="Largest number of tokens for one image. A token sees 32 x 32 pixels, so 1024 tokens see"
                    " 1024 x 1024; larger images are scaled down. More shows finer detail and takes longer.",
                ),
            ],
            outputs=writing_outputs(),
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, images, question, max_tokens, seed, sampling, thinking, image_tokens, model=None) -> io.NodeOutput:
        model = model_or_embedded(model)
        require_vision(model)
        pictures = [fit_picture(rgb, image_tokens) for rgb in host.pixels(images)]
        patches = max(rgb.shape[0] * rgb.shape[1] // 256 for rgb in pictures)
        seen = encode_images(pictures, model.for_vision(patches), host.node_progress())
        return _answer(cls, model, seen, question, "", max_tokens, seed, sampling, thinking)


class GenerateText(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensGenerateText",
            display_name="Write Text (Qwen3-VL)",
            category=CATEGORY,
            description="Lets Qwen3-VL write text: rewrite a prompt, translate, make a list. The text appears in the"
            " node while it is written.",
            search_aliases=["qwen", "llm", "generate text", "prompt enhancer", "chat", "rewrite prompt", "codec lens"],
            inputs=[
                model_input(),
                io.String.Input("prompt", multiline=True, tooltip="What the model is to do, and with which text."),
                io.String.Input(
                    "system",
                    multiline=True,
                    optional=True,
                    default="",
                    tooltip="Standing instructions: role, tone, format. Leave it empty for none.",
                ),
                *writing_inputs(),
            ],
            outputs=writing_outputs(),
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, prompt, max_tokens, seed, sampling, thinking, model=None, system="") -> io.NodeOutput:
        model = model_or_embedded(model)
        return _answer(cls, model, [], prompt, system, max_tokens, seed, sampling, thinking)


def _answer(cls, model, seen, question, system, max_tokens, seed, sampling, thinking) -> io.NodeOutput:
    max_tokens = max_tokens or answer_tokens(model.model.tokenizer, thinking)
    live = host.LiveAnswers(cls.hidden.unique_id)
    live.clip(seen=remark(model).strip())
    live.begin(question)
    tokens = sum(len(picture) for picture in seen) + len(model.model.tokenizer.encode(typed(system + question)))
    answer = Conversation(model.for_reading(tokens + max_tokens), seen, system).ask(
        question,
        sampling=sampling_of(sampling, seed, model.model, thinking),
        max_tokens=max_tokens,
        thinking=thinking,
        on_text=live,
        progress=live.progress,
    )
    live.end(answer)
    return io.NodeOutput(answer.text, answer.reasoning, answer.truncated, ui=live.ui(answer.text))


NODES = [LoadQwen3VL, DescribeImage, GenerateText]
