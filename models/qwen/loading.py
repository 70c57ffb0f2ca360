"""A model from its files: two of GGUF, or .safetensors; pairing, and the short way to a model that is ready to run."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import InputError
from . import config as configuration
from .attention import Attention, attention
from .checkpoint import read_checkpoint
from .config import Qwen3VLConfig, TextConfig
from .families import read_text_config
from .gguf import SPLIT_NAME, architecture_of, read_gguf
from .model_file import ModelFile
from .operations import GGUFOperations
from .text import TextModel
from .tokenizer import Tokenizer, read_tokenizer
from .vision import VisionModel
from .weights import fill, text_tensors, vision_tensors

PRECISIONS = ("BF16", "F16", "F32", "Q8_0")
EXACT_SWITCH = "CODECLENS_EXACT"
"""Environment variable: 1 keeps products on the processor in floats."""


class MissingTower(InputError):
    """No vision tower beside a language model fits it, so it can be loaded for text alone."""


@dataclass(slots=True)
class Qwen3VL:
    """A loaded model. ``vision`` is None without an mmproj file; ``dtype`` is that of states and logits."""

    config: Qwen3VLConfig
    tokenizer: Tokenizer
    text: TextModel
    vision: VisionModel | None
    device: torch.device
    dtype: torch.dtype
    files: tuple[ModelFile, ...]

    def round_activations(self) -> None:
        """Multiply with 8-bit activations from now on: what makes a processor quick, 0.4 to 0.8 % off a product.

        CODECLENS_EXACT=1 in the environment keeps float products.
        """
        exact = os.environ.get(EXACT_SWITCH, "") not in ("", "0")
        for half in (self.text, self.vision):
            for layer in half.modules() if half is not None else ():
                if isinstance(layer, (GGUFOperations.Linear, GGUFOperations.Experts)):
                    layer.int8 = not exact


def load_qwen3vl(
    path: str | Path,
    mmproj: str | Path | None = "auto",
    *,
    operations=None,
    device="cpu",
    dtype: torch.dtype = torch.float32,
    attend_vision: Attention = attention,
    tokenizers: Path | None = None,
) -> Qwen3VL:
    """Load the language model at ``path`` and its vision tower.

    ``mmproj`` is the tower's file, "auto" to find it beside the model by its metadata, or None for text alone; a
    .safetensors file holds both. Weights stay quantised and, on the CPU, in the memory map, unless other ``operations``
    ask for dense ones. The tower attends through ``attend_vision``, always without causality. ``tokenizers`` is where
    the host keeps some, see :func:`.checkpoint.read_checkpoint`. Raises InputError for anything that is not a matching
    pair of one of the families.
    """
    file = read_model(path, tokenizers)
    text_config = read_text_config(file)
    tower = None
    if mmproj is not None:
        tower = find_mmproj(file) if mmproj == "auto" else read_model(mmproj)
        tower = tower.tower or tower
    vision_config = None
    if tower is not None:
        vision_config = configuration.read_vision_config(tower)
        configuration.require_pair(text_config, vision_config, file.path, tower.path)
        configuration.require_same_model(file, tower)
    tokenizer = read_tokenizer(file)
    require_vocabulary(file, text_config, tokenizer)
    made = {"operations": operations, "device": device, "dtype": dtype}
    text = load_text(file, **made)
    vision = load_vision(tower, **made, attend=attend_vision) if tower is not None else None
    files = (file,) if tower is None or tower.path == file.path else (file, tower)
    config = Qwen3VLConfig(text_config, vision_config)
    return Qwen3VL(config, tokenizer, text, vision, torch.device(device), dtype, files)


def read_model(path: str | Path, tokenizers: Path | None = None) -> ModelFile:
    """The file at ``path``, or the parts of a split one, in either format; ``tokenizers`` as for a loaded model."""
    path = Path(path)
    if path.is_dir() or path.suffix.lower() == ".safetensors":
        return read_checkpoint(path, tokenizers)
    return read_gguf(path)


def load_text(file: ModelFile, operations=None, device="cpu", dtype=torch.float32, attend=attention) -> TextModel:
    """The language model of ``file``, built on the meta device and filled."""
    config = read_text_config(file)
    model = TextModel(config, operations or GGUFOperations, device="meta", dtype=dtype, attend=attend)
    fill(model, text_tensors(model, file), device, dtype)
    return model.eval()


def load_vision(file: ModelFile, operations=None, device="cpu", dtype=torch.float32, attend=attention) -> VisionModel:
    """The vision tower of ``file``, built on the meta device and filled."""
    config = configuration.read_vision_config(file)
    model = VisionModel(config, operations or GGUFOperations, device="meta", dtype=dtype, attend=attend)
    fill(model, vision_tensors(model, file), device, dtype)
    return model.eval()


def find_mmproj(file: ModelFile) -> ModelFile:
    """The vision tower that fits the language model ``file``: its own, or one among the GGUF files of its folder.

    Of one tower in several precisions the best is taken. Raises MissingTower where none fits, InputError where
    several towers do (they are listed).
    """
    if file.tower is not None:
        return file.tower
    text = read_text_config(file)
    folder = file.path.parent
    fitting = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".gguf"):
        split = SPLIT_NAME.match(path.name)
        if path == file.path or (split and int(split["part"]) > 1):
            continue
        try:
            if architecture_of(path) != "clip":
                continue
            tower = read_gguf(path)
            vision = configuration.read_vision_config(tower)
            configuration.require_pair(text, vision, file.path, path)
            configuration.require_same_model(file, tower)
        except InputError:
            continue
        fitting.append((vision, str(tower.metadata.get("general.name")), tower))
    if not fitting:
        raise MissingTower(
            f"no mmproj file in {folder} fits {file.path.name} (projector {configuration.PROJECTOR}, width "
            f"{text.hidden_size}, {text.deepstack_layers} DeepStack layers); put it there or name it"
        )
    best = min(_rank_of_precision(tower) for _, _, tower in fitting)
    rivals = [tower for vision, name, tower in fitting if _rank_of_precision(tower) == best]
    if len(rivals) > 1 or len({(vision, name) for vision, name, _ in fitting}) > 1:
        names = ", ".join(tower.path.name for _, _, tower in fitting)
        raise InputError(f"{len(fitting)} mmproj files in {folder} fit {file.path.name}: {names}; name one of them")
    return rivals[0]


def _rank_of_precision(tower: ModelFile) -> int:
    """First the tower as it was trained, in bfloat16; float32 holds no more of it."""
    matrices = Counter(stored.type for stored in tower.tensors.values() if len(stored.shape) > 1)
    kind = matrices.most_common(1)[0][0]
    return PRECISIONS.index(kind) if kind in PRECISIONS else len(PRECISIONS)


def require_vocabulary(file: ModelFile, config: TextConfig, tokenizer: Tokenizer) -> None:
    """Raise InputError where a token of ``file`` has no row in its embedding."""
    used = tokenizer.core.get_vocab_size(with_added_tokens=True)
    if config.vocabulary < used:
        raise InputError(
            f"{file.path} has embeddings of {config.vocabulary} tokens, and {used} tokens; it is damaged, take another"
        )
