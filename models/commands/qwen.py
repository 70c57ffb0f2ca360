"""Commands around Qwen3-VL model files: info, trace, describe."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch

from ...kernels import registry
from ..code.conversation import Conversation
from ..code.encoding import encode_images
from ..errors import InputError, one_line
from ..progress import TerminalProgress
from ..qwen.checkpoint import read_checkpoint
from ..qwen.config import read_vision_config
from ..qwen.families import FAMILIES, read_text_config
from ..qwen.generate import GREEDY
from ..qwen.gguf import read_gguf
from ..qwen.loading import find_mmproj, load_qwen3vl, require_vocabulary
from ..qwen.model_file import ModelFile
from ..qwen.operations import GGUFOperations
from ..qwen.placement import cache_bytes
from ..qwen.preprocessing import resize, smart_resize
from ..qwen.safetensors import read_header, shards
from ..qwen.text import TextModel
from ..qwen.tokenizer import read_tokenizer
from ..qwen.trace import read_inputs, trace, write_outputs
from ..qwen.vision import VisionModel
from ..qwen.weights import text_tensors, vision_tensors
from ..source.pictures import open_picture
from .arguments import whole
from .model import (
    add_answer_options,
    add_model_options,
    load_model,
    print_answer,
    sampling_of,
    warn_of_truncation,
)


def add_commands(commands) -> None:
    """Add the family's parsers to ``commands``."""
    info = commands.add_parser("info", help="say what a model file is and whether it will load")
    info.add_argument("file", help="a .gguf or .safetensors file: a model, its mmproj, or one part of a split model")
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
    _add_describe(commands)


def _add_describe(commands) -> None:
    describing = commands.add_parser("describe", help="ask a model about images, or just ask it")
    describing.add_argument(
        "images", nargs="*", metavar="IMAGE", help="image files, seen together in this order; none to ask about nothing"
    )
    describing.add_argument("question", help="what to ask: 'Describe this image.'")
    add_model_options(describing)
    describing.add_argument("--system", default="", help="standing instructions: role, tone, format")
    describing.add_argument(
        "--image-tokens", type=whole(1, 1 << 16), default=1024, help="tokens for one image at most (1024)"
    )
    describing.add_argument("--greedy", action="store_true", help="take the likeliest token (embedded model: always)")
    add_answer_options(describing)
    describing.add_argument("--device", help="cpu or cuda; by default a GPU where there is one")
    describing.set_defaults(run=run_describe)


def run_describe(arguments) -> None:
    """Print the answer; whether it was cut off is said on standard error."""
    pictures = [_read_picture(path, arguments.image_tokens) for path in arguments.images]
    model = load_model(arguments, sees=bool(pictures), device=arguments.device)
    seen = encode_images(pictures, model, TerminalProgress("seeing"))
    answer = Conversation(model, seen, arguments.system).ask(
        arguments.question,
        sampling=GREEDY if arguments.greedy else sampling_of(arguments, model),
        max_tokens=arguments.max_tokens,
        thinking=arguments.thinking,
        progress=TerminalProgress("read and write"),
    )
    print_answer(answer, arguments)
    warn_of_truncation(answer)


def _read_picture(path: str, most_tokens: int) -> np.ndarray:
    picture = open_picture(path)
    size = smart_resize(*picture.size, most_tokens, path)
    return resize(picture.rgb(size), size)


def run_info(arguments) -> None:
    """Print what the file is and what computes here; a file that will not load is an answer, not an error."""
    path = Path(arguments.file)
    describe = _describe_checkpoint if path.is_dir() or path.suffix.lower() == ".safetensors" else _describe_gguf
    verdict = "loads: yes"
    try:
        for line in describe(path):
            print(one_line(line))
    except _WillNotLoad as error:
        verdict = one_line(f"loads: no; {error}")
    print(one_line(f"on the processor: {registry.current().processor.describe()}"))
    print(verdict)


class _WillNotLoad(Exception):
    """Carries the sentence that says why."""


def _describe_gguf(path: Path):
    file = read_gguf(path)
    yield f"{file.path.name}: GGUF, {file.size:,} bytes, architecture {file.architecture!r}"
    if "general.name" in file.metadata:
        yield f"name: {str(file.metadata['general.name'])[:200]}"
    counts = ", ".join(f"{count} {name}" for name, count in file.type_counts.most_common())
    yield f"tensors: {len(file.tensors)} ({counts})"
    try:
        yield from _describe_vision(file) if file.architecture == "clip" else _describe_text(file)
    except InputError as error:
        raise _WillNotLoad(str(error)) from None


def _describe_checkpoint(path: Path):
    parts = shards(path)
    entries = [entry for part in parts for entry in read_header(part).values()]
    size = sum(part.stat().st_size for part in parts)
    yield f"{parts[0].name}: .safetensors, {size:,} bytes in {len(parts)} file{'s' * (len(parts) > 1)}"
    counts = ", ".join(f"{n} {name}" for name, n in Counter(entry["dtype"] for entry in entries).most_common())
    yield f"tensors: {len(entries)} ({counts})"
    try:
        file = read_checkpoint(path)
        yield from _describe_text(file)
        yield from _describe_vision(file.tower)
    except InputError as error:
        raise _WillNotLoad(str(error)) from None


def run_trace(arguments) -> None:
    """Run the given inputs in float32 on the CPU and write the traced tensors."""
    inputs = read_inputs(arguments.inputs)
    model = load_qwen3vl(arguments.model, arguments.mmproj, dtype=torch.float32)
    write_outputs(arguments.out, trace(model, inputs, arguments.inputs))


def _describe_text(file: ModelFile):
    config = read_text_config(file)
    yield (
        f"text model: {FAMILIES[config.family].name}, {config.layers} layers of width {config.hidden_size}, "
        f"{config.heads} heads over {config.kv_heads} key heads of {config.head_dim}, MLP {config.intermediate_size}, "
        f"{'tied' if config.tied else 'own'} head"
    )
    recurrent = config.layers - sum(map(config.attends, range(config.layers)))
    if recurrent:
        yield f"delta nets: {recurrent} of these layers; only the others keep keys and values"
    if config.draft_layers:
        yield f"skipped: {config.draft_layers} layers more, which draft several tokens at once"
    if experts := getattr(config, "experts", 0):
        sizes = f"{experts} experts of {config.expert_size} and one of {config.shared_expert_size} for all"
        yield f"mixture of experts: a row takes {config.experts_used} of {sizes}"
    yield f"context: {config.context_length} tokens, {config.deepstack_layers} DeepStack layers"
    row = cache_bytes(config, 1, torch.bfloat16) - config.state_bytes
    yield f"a reading keeps: {row / 1024:g} KiB a token, {config.state_bytes / (1 << 20):.1f} MiB at any length"
    tokenizer = read_tokenizer(file)
    kind = "Thinking" if tokenizer.reasons_unasked else "thinking on request" if tokenizer.thinks else "Instruct"
    yield f"tokenizer: {tokenizer.size} tokens, {kind} chat template"
    require_vocabulary(file, config, tokenizer)
    text_tensors(TextModel(config, GGUFOperations, device="meta"), file)
    weights = sum(stored.data.nbytes for stored in file.tensors.values())
    yield f"memory: {weights / (1 << 20):,.1f} MiB of weights, held as they lie in the file"
    try:
        yield f"mmproj: {find_mmproj(file).path.name}"
    except InputError as error:
        yield f"mmproj: {error}"


def _describe_vision(file: ModelFile):
    config = read_vision_config(file)
    yield (
        f"mmproj: {config.layers} layers of width {config.hidden_size}, {config.heads} heads, MLP "
        f"{config.intermediate_size}, patches of {config.patch_size}, positions {config.grid_side} x {config.grid_side}"
    )
    layers = ", ".join(str(index) for index in config.deepstack_indexes)
    deepstack = f"DeepStack from layers {layers}" if layers else "no DeepStack"
    video = config.video
    yield f"a video in native pairs: {video.most_frames} frames and {video.most_pixels:,} pixels in all at most"
    yield f"fits: language models of width {config.output_size}; {deepstack}"
    vision_tensors(VisionModel(config, device="meta"), file)
