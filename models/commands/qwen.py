"""Commands that look into Qwen3-VL model files: info, trace."""

import torch

from ..errors import InputError
from ..qwen3vl.config import read_text_config, read_vision_config
from ..qwen3vl.gguf import GGUFFile, read_gguf
from ..qwen3vl.loading import find_mmproj, load_qwen3vl
from ..qwen3vl.text import TextModel
from ..qwen3vl.tokenizer import read_tokenizer
from ..qwen3vl.trace import read_inputs, trace, write_outputs
from ..qwen3vl.vision import VisionModel
from ..qwen3vl.weights import text_tensors, vision_tensors


def add_commands(commands) -> None:
    """Add the family's parsers to ``commands``."""
    info = commands.add_parser("info", help="say what a GGUF file is and whether it will load")
    info.add_argument("file", help="a .gguf file: a model, its mmproj, or one part of a split model")
    info.set_defaults(run=run_info)
    tracing = commands.add_parser("trace", help="run a model on given ids and pixels and write every traced tensor")
    tracing.add_argument("--model", required=True, help="the language model's .gguf file")
    tracing.add_argument("--mmproj", help="the vision tower's .gguf file; only needed when the inputs have pictures")
    tracing.add_argument(
        "--inputs",
        required=True,
        help=".npz with input_ids and, if any, pixel_values, image_grid_thw, pixel_values_videos, video_grid_thw, "
        "position_ids, mm_token_type_ids, named and shaped as Hugging Face's processor does",
    )
    tracing.add_argument("--out", required=True, help=".npz to write: logits, txt_layer_i, vis_* in float32")
    tracing.set_defaults(run=run_trace)


def run_info(arguments) -> None:
    """Print what the file is; a file that will not load is an answer, a file that is no GGUF an error."""
    file = read_gguf(arguments.file)
    print(f"{file.path.name}: GGUF, {file.size:,} bytes, architecture {file.architecture!r}")
    if "general.name" in file.metadata:
        print(f"name: {file.metadata['general.name']}")
    counts = ", ".join(f"{count} {name}" for name, count in file.type_counts.most_common())
    print(f"tensors: {len(file.tensors)} ({counts})")
    try:
        for line in _describe_vision(file) if file.architecture == "clip" else _describe_text(file):
            print(line)
    except InputError as error:
        print(f"loads: no; {error}")
    else:
        print("loads: yes")


def run_trace(arguments) -> None:
    """Run the given inputs in float32 on the CPU and write the traced tensors."""
    inputs = read_inputs(arguments.inputs)
    model = load_qwen3vl(arguments.model, arguments.mmproj, dtype=torch.float32)
    write_outputs(arguments.out, trace(model, inputs, arguments.inputs))


def _describe_text(file: GGUFFile):
    config = read_text_config(file)
    yield (
        f"text model: {config.layers} layers of width {config.hidden_size}, {config.heads} heads over "
        f"{config.kv_heads} key heads of {config.head_dim}, MLP {config.intermediate_size}, "
        f"{'tied' if config.tied else 'own'} head"
    )
    yield f"context: {config.context_length} tokens, {config.deepstack_layers} DeepStack layers"
    tokenizer = read_tokenizer(file)
    yield f"tokenizer: {tokenizer.size} tokens, {'Thinking' if tokenizer.thinks else 'Instruct'} chat template"
    text_tensors(TextModel(config, device="meta"), file)
    try:
        yield f"mmproj: {find_mmproj(file).path.name}"
    except InputError as error:
        yield f"mmproj: {error}"


def _describe_vision(file: GGUFFile):
    config = read_vision_config(file)
    yield (
        f"mmproj: {config.layers} layers of width {config.hidden_size}, {config.heads} heads, MLP "
        f"{config.intermediate_size}, patches of {config.patch_size}, positions {config.grid_side} x {config.grid_side}"
    )
    layers = ", ".join(str(index) for index in config.deepstack_indexes)
    yield f"fits: language models of width {config.output_size}; DeepStack from layers {layers}"
    vision_tensors(VisionModel(config, device="meta"), file)
