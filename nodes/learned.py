"""Nodes that train a learned code for a model, and load one.

Socket of this family:
    CODECLENS_LEARNED_CODE  :class:`Loaded`, a learned code's file; it is read for the model that uses it
"""

import os
from pathlib import Path
from typing import NamedTuple

import torch
from comfy_api.latest import io
from PIL import Image

from ..models.code.learned.changes import REFERENCES
from ..models.code.learned.learned_code import NETWORKS, LearnedCode, read_code, read_header
from ..models.code.modes.pictures import BATCH_PATCHES
from ..models.dataset.items import find_items
from ..models.errors import InputError
from ..models.training.checkpoints import CHECKPOINT
from ..models.training.learned.clips import RenderedClips, VideoClips, read_pairs
from ..models.training.learned.trainer import PICTURE, LearnedConfig, network_for, train_code
from ..models.weights import NAME, embedded_code
from . import host
from .model_placement import HostedQwen3VL
from .qwen import model_input, model_or_embedded, require_vision

LearnedCodeSocket = io.Custom("CODECLENS_LEARNED_CODE")

CATEGORY = "CodecLens/code"
RENDERED = "rendered"
EMBEDDED = {mode: f"{NAME}: {mode} (embedded)" for mode in NETWORKS if embedded_code(mode) is not None}


class Loaded(NamedTuple):
    """The file of a learned code."""

    path: Path

    def for_model(self, model) -> LearnedCode:
        """The code, ready for ``model``; raises InputError where it was trained for another."""
        return read_code(self.path, model)


class LoadLearnedCode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensLoadLearnedCode",
            display_name="Load Learned Code",
            category=CATEGORY,
            description="Loads what Train Learned Code wrote: the weights that turn predicted frames into a few tokens."
            " They belong to one model and are refused by any other.",
            search_aliases=["ptoken", "delta", "adacodec", "cope", "lora", "codec lens"],
            inputs=[
                io.Combo.Input(
                    "code",
                    options=[*EMBEDDED.values(), *host.files_ending(".safetensors")],
                    tooltip="A .safetensors file from ComfyUI's input or output folder. Train Learned Code writes them"
                    " to output/codeclens/codes.",
                ),
            ],
            outputs=[
                LearnedCodeSocket.Output("learned", tooltip="For Encode Video, in the mode that it was trained for."),
                io.String.Output("info", tooltip="JSON: mode, model, settings and training of the code."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, code):
        return code if code in EMBEDDED.values() else os.path.getmtime(host.chosen_file(code))

    @classmethod
    def execute(cls, code) -> io.NodeOutput:
        mode = next((mode for mode, name in EMBEDDED.items() if name == code), None)
        path = embedded_code(mode) if mode else Path(host.chosen_file(code))
        return io.NodeOutput(Loaded(path), read_header(path).in_words())


class TrainLearnedCode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        default = LearnedConfig()

        def count(name, value, most, tooltip, least=0, **options):
            return io.Int.Input(name, default=value, min=least, max=most, tooltip=tooltip, **options)

        return io.Schema(
            node_id="CodecLensTrainLearnedCode",
            display_name="Train Learned Code",
            category=CATEGORY,
            description="Trains a network that turns predicted frames into a few tokens for your model, on your own"
            " clips and without labels. The model itself stays as it is. Cancel keeps the last step; the same name and"
            " inputs go on from there.",
            search_aliases=["ptoken", "delta", "adacodec", "cope", "lora", "train", "finetune", "codec lens"],
            is_output_node=True,
            inputs=[
                model_input(),
                io.String.Input(
                    "folder",
                    default="input",
                    tooltip="Folder of clips under ComfyUI's input or output folder, such as input/my clips: any videos"
                    " like those that the code is for. rendered draws clips of moving figures, for the embedded model.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(NETWORKS),
                    tooltip="ptoken (AdaCodec): the model's own vision tower reads motion and residual, with trained"
                    " adapters. delta (CoPE-VideoLM): a small network of its own, quicker, without the tower.",
                ),
                io.String.Input(
                    "name", default="my code", tooltip="Everything goes to output/codeclens/codes/ under this name."
                ),
                count(
                    "align_steps",
                    default.align_steps,
                    1_000_000,
                    "Steps of the first stage, which needs no labels: the tokens learn to say what the tower would see."
                    " The papers take 100,000 and more.",
                ),
                count(
                    "answer_steps",
                    default.answer_steps,
                    1_000_000,
                    "Steps of the second stage: an adapter of the language model learns to read the tokens, from"
                    " the model's own answers to whole frames, or from questions. 0 leaves it out.",
                ),
                count("rows", default.rows, 256, "Stretches of clips in a step.", 1),
                io.String.Input(
                    "questions",
                    default="",
                    optional=True,
                    tooltip="A .jsonl file in the input folder with questions and answers for the second stage, a line"
                    ' each: {"clip": "a.mp4", "question": "...", "answer": "..."}. Empty: the model answers itself.',
                ),
                count(
                    "side",
                    default.side,
                    2048,
                    "Whole pictures have about side x side pixels, in the clip's shape. Train at the size you will use;"
                    " 512 makes 256 tokens, and 16 for a predicted frame. The embedded model: 256.",
                    64,
                    step=32,
                    advanced=True,
                ),
                io.Float.Input(
                    "fps",
                    default=default.fps,
                    min=0.1,
                    max=60.0,
                    step=0.1,
                    advanced=True,
                    tooltip="Frames sampled each second. The embedded model: 4.",
                ),
                count("frames", default.frames, 64, "Most frames of a stretch.", 2, advanced=True),
                count("window", 1, 32, "Most frames fused into one set of tokens.", 1, advanced=True),
                io.Combo.Input(
                    "reference",
                    options=list(REFERENCES),
                    advanced=True,
                    tooltip="What a change is taken against: the sampled frame before (previous), the last whole"
                    " picture (whole), or each block against the better of the frames before and after (both), as in"
                    " a B frame.",
                ),
                count("rank", default.rank, 128, "Rank of the language model's adapter.", advanced=True),
                io.Boolean.Input(
                    "tune",
                    default=False,
                    advanced=True,
                    tooltip="Train the network in the second stage as well. The papers keep it frozen there.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=default.lr,
                    min=1e-6,
                    max=1e-2,
                    step=1e-6,
                    round=1e-7,
                    advanced=True,
                    tooltip="Of both stages. Lower it if training stops because the loss is not a number.",
                ),
                count(
                    "seed",
                    0,
                    0xFFFFFFFF,
                    "Weights and clips are drawn from it: the same seed and inputs give the same code on one device.",
                    control_after_generate=io.ControlAfterGenerate.fixed,
                ),
            ],
            outputs=[
                LearnedCodeSocket.Output("learned", tooltip="For Encode Video."),
                io.Image.Output("losses", tooltip="The losses of both stages, step by step."),
                io.String.Output("path", tooltip="Where the code is; Load Learned Code lists it."),
            ],
        )

    @classmethod
    def execute(
        cls, folder, mode, name, align_steps, answer_steps, rows, side, fps, frames, window, reference, rank, tune,
        learning_rate, seed, model=None, questions="",
    ) -> io.NodeOutput:  # fmt: skip
        model = model_or_embedded(model)
        require_vision(model)
        out = host.inside(host.output_folder() / "codeclens" / "codes" / _plain(name), "name")
        clips = _clips(folder, questions.strip(), fps, side)
        config = LearnedConfig(
            mode=mode, network=network_for(mode, model.model.config.vision), side=side, fps=fps, frames=frames,
            window=window, reference=reference, align_steps=align_steps, answer_steps=answer_steps, rows=rows,
            lr=learning_rate, answer_lr=learning_rate, rank=rank, tune=tune, seed=seed,
        )  # fmt: skip
        with torch.inference_mode(False), torch.enable_grad():
            # Weights that were loaded in inference mode take no part in gradients: the same files are mapped once more.
            mine = HostedQwen3VL(*(str(file.path) for file in _files(model)))
            ready = mine.for_both(max(BATCH_PATCHES, 8 * frames * side**2 // 256), 64 * frames * rows)
            written = train_code(
                out, config, ready, clips, resume=(out / CHECKPOINT).exists(), name=_plain(name),
                progress=host.node_progress(),
            )  # fmt: skip
        picture = Image.open(out / PICTURE).convert("RGB")
        words = "\n".join([str(written), *dict.fromkeys(clips.warnings)])
        return io.NodeOutput(Loaded(written), host.image(picture), str(written), ui={"text": (words,)})


def _clips(folder: str, questions: str, fps: float, side: int) -> VideoClips | RenderedClips:
    """What the inputs of a node name."""
    if folder.strip() == RENDERED:
        return RenderedClips(fps, side)
    paths = [item.path for item in find_items(host.dataset_folder(folder), images=False)]
    asked = questions and host.inside(host.input_folder() / questions, "questions")
    return VideoClips(paths, fps, side, read_pairs(asked) if asked else None)


def _files(model: HostedQwen3VL) -> list:
    """The language model's file and its tower's; one that holds both stands for both."""
    files = list(model.model.files)
    return files if len(files) > 1 else files * 2


def _plain(name: str) -> str:
    """The name of a folder; raises InputError for one that is none."""
    name = name.strip()
    if not name or name.startswith(".") or any(sign in name for sign in '/\\:*?"<>|\0'):
        raise InputError(f"name is {name[:60]!r}; a plain name of a folder is needed, such as 'my code'")
    return name


NODES = [LoadLearnedCode, TrainLearnedCode]
