"""The configuration of a model: its fields, and the reading of those that all families have.

What the files do not store is constant over the family and stands here: the ViT's rotary base 1e4, the two frames that
a patch spans, LayerNorm's epsilon 1e-6 (Qwen3-VL technical report, arXiv 2511.21631; Hugging Face ``Qwen3VLConfig``).
"""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from ..errors import InputError
from .model_file import ModelFile
from .rope import Scaling
from .video_limits import MOST, VideoLimits

VISION_ROPE_BASE = 10_000.0
TEMPORAL_PATCH = 2
PROJECTOR = "qwen3vl_merger"
MOST_LAYERS = 512
FEWEST_TENSORS = 6
"""Fewer tensors than a layer of any family has; by it the count of layers is judged before any is searched."""

OWN_HEAD_FROM = 4096
"""Width from which the published models have a head of their own; smaller ones share the embedding's weight."""

SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?B)(?:[ _-]?(A\d+(?:\.\d+)?B))?(?![\w.])", re.IGNORECASE)
"""A model's size in its name: 2B, 30B-A3B."""

PARTIAL_FILES = {
    "adapter": "a LoRA adapter, not a whole model; merge it into its model first",
    "imatrix": "an importance matrix, which quantising reads, not a model",
    "vocab": "a tokenizer without a model",
}
"""What ``general.type`` names that is no model."""
NEUTRAL = {
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "pooling_type": (0,),
    "rope.scaling.attn_factor": (0, 1),
    "rope.scaling.finetuned": (False, True),
    "rope.scaling.yarn_attn_factor": (1,),
    "rope.scaling.yarn_ext_factor": (1,),
    "use_parallel_residual": (False,),
}
"""Keys of a language model that are not read, with the values at which they change nothing."""

UNUSED = ("vocab_size", "image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
"""Keys that never change anything: the tokenizer and the tensors say the same."""


TOWER_NEUTRAL = {
    "has_vision_encoder": (True,),
    "has_audio_encoder": (False,),
    "use_gelu": (True,),
    "use_silu": (False,),
}
"""Keys of a vision tower outside of ``clip.vision.``, with the values at which it is Qwen's."""

TOWER_UNUSED = ("image_size", "projector_type", "image_min_pixels", "image_max_pixels")
"""Keys of a vision tower that change nothing: the position table says its size, and pictures are fitted here."""


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The language model: widths in channels, ``rope_sections`` the frequencies of time, height and width.

    ``rotary_dim`` channels of a head are rotated, from the first on; 0 for all. ``draft_layers`` come after the
    others in the file, draft several tokens at once, and are not read. A family whose layers need more than these adds
    it in a class of its own.
    """

    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context_length: int
    rms_epsilon: float
    rope_base: float
    rope_sections: tuple[int, int, int]
    deepstack_layers: int
    tied: bool
    family: str = "qwen3vl"
    rope_scaling: Scaling | None = None
    rotary_dim: int = 0
    draft_layers: int = 0

    def attends(self, layer: int) -> bool:
        """Whether ``layer`` keeps keys and values of every row."""
        return True

    @property
    def state_bytes(self) -> int:
        """Bytes of what layers keep instead of keys and values, however many rows were read."""
        return 0

    def attention_bytes(self, rows: int, itemsize: int) -> int:
        """Bytes that one layer's attention holds at its widest: queries and keys in float32 while they are rotated."""
        return rows * 3 * 4 * (self.heads + self.kv_heads) * self.head_dim


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The vision transformer; ``grid_side`` is the side of its square position table, in patches.

    ``video`` is how much of one video the makers' processor shows it.
    """

    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    patch_size: int
    merge_size: int
    grid_side: int
    output_size: int
    deepstack_indexes: tuple[int, ...]
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    epsilon: float
    video: VideoLimits = field(default_factory=VideoLimits)

    @property
    def patch_values(self) -> int:
        """The numbers in one patch: 3 colours x 2 frames x side x side."""
        return 3 * TEMPORAL_PATCH * self.patch_size**2


@dataclass(frozen=True, slots=True)
class Qwen3VLConfig:
    """Both halves; ``vision`` is None for a model loaded without its mmproj file."""

    text: TextConfig
    vision: VisionConfig | None


def text_fields(
    get: "Metadata", layers: int, rotary_dim: int | None = None, intermediate_size: int | None = None
) -> dict:
    """The fields of :class:`TextConfig` that every family's file gives under the same keys.

    ``layers`` is their number, ``rotary_dim`` the channels of a head that are rotated, all by default;
    ``intermediate_size`` stands in where the file names none. Raises InputError where a value is missing or cannot be.
    """
    file = get.file
    require_layers(file, "token_embd.weight", "blk.{}.attn_norm.weight", layers)
    heads, kv_heads = get.count("attention.head_count"), get.count("attention.head_count_kv")
    hidden_size = get.count("embedding_length")
    head_dim = get.count("attention.key_length", hidden_size // heads)
    if heads % kv_heads or head_dim % 2 or head_dim < 2 or get.count("attention.value_length", head_dim) != head_dim:
        raise InputError(
            f"{file.path} has {heads} query heads, {kv_heads} key heads and head size {head_dim}; "
            "Qwen has whole groups of query heads and keys as long as values"
        )
    sections = tuple(int(size) for size in get.array("rope.dimension_sections")[:3])
    if get.number("rope.freq_base") <= 1:
        get.refuse("rope.freq_base", "a number above 1")
    rotary_dim = rotary_dim or head_dim
    if get.count("rope.dimension_count", rotary_dim) != rotary_dim:
        get.refuse("rope.dimension_count", str(rotary_dim))
    pairs = rotary_dim // 2
    if len(sections) != 3 or min(sections) < 0 or sum(sections) != pairs:
        raise InputError(f"{file.path} has rope sections {list(sections)}; three that add up to {pairs} are needed")
    tied = "output.weight" not in file.tensors
    if tied and hidden_size >= OWN_HEAD_FROM:
        raise InputError(f"{file.path} lacks 'output.weight', the head that a model of width {hidden_size} has")
    return {
        "layers": layers,
        "hidden_size": hidden_size,
        "intermediate_size": get.count("feed_forward_length", intermediate_size),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "vocabulary": file.tensors["token_embd.weight"].shape[0],
        "context_length": get.count("context_length", most=1 << 31),
        "rms_epsilon": get.number("attention.layer_norm_rms_epsilon"),
        "rope_base": get.number("rope.freq_base"),
        "rope_sections": sections,
        "tied": tied,
        "rope_scaling": rope_scaling(get),
    }


def rope_scaling(get: "Metadata") -> Scaling | None:
    """How the file stretches its rotary embedding; raises InputError for another way than linear and YaRN."""
    factor = get.number("rope.scaling.factor", get.number("rope.scale_linear", 1.0))
    kind = get.value("rope.scaling.type", "linear" if factor != 1 else "none")
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        get.refuse("rope.scaling.type", "'none', 'linear' or 'yarn'")
    if not 1 <= factor <= 1e4:
        get.refuse("rope.scaling.factor", "a number from 1 to 10000")
    length = get.count("rope.scaling.original_context_length", 1 if kind == "linear" else None, most=1 << 31)
    fast, slow = get.number("rope.scaling.yarn_beta_fast", 32.0), get.number("rope.scaling.yarn_beta_slow", 1.0)
    return Scaling(kind, factor, length, fast, slow)


def read_vision_config(file: ModelFile) -> VisionConfig:
    """The vision tower's configuration; raises InputError where ``file`` is not a Qwen3-VL mmproj."""
    require_mmproj(file)
    get = Metadata(file, "clip.vision.")
    layers = get.count("block_count")
    require_layers(file, "v.position_embd.weight", "v.blk.{}.ln1.weight", layers)
    positions = file.tensors["v.position_embd.weight"].shape[0]
    side = math.isqrt(positions)
    if side * side != positions:
        raise InputError(f"{file.path} has {positions} positions; a square number is needed")
    flags = get.array("is_deepstack_layers")
    if len(flags) != layers:
        raise InputError(f"{file.path} marks {len(flags)} layers in is_deepstack_layers and has {layers}")
    hidden_size, heads = get.count("embedding_length"), get.count("attention.head_count")
    if hidden_size % (4 * heads):
        raise InputError(f"{file.path} has width {hidden_size} and {heads} heads; heads of a multiple of 4 are needed")
    if get.count("spatial_merge_size", 2) != 2:
        raise InputError(f"{file.path} merges {get.count('spatial_merge_size')} patches a side; Qwen3-VL merges 2")
    config = VisionConfig(
        layers=layers,
        hidden_size=hidden_size,
        intermediate_size=get.count("feed_forward_length"),
        heads=heads,
        patch_size=get.count("patch_size", most=1 << 8),
        merge_size=2,
        grid_side=side,
        output_size=get.count("projection_dim"),
        deepstack_indexes=tuple(int(index) for index in np.flatnonzero(flags)),
        image_mean=get.colour("image_mean"),
        image_std=get.colour("image_std", least=1e-6),
        epsilon=get.number("attention.layer_norm_epsilon", 1e-6),
        video=VideoLimits(
            **{
                name: get.count(f"video.{name}", default, least=min(default, 1), most=MOST)
                for name, default in asdict(VideoLimits()).items()
            }
        ),
    )
    get.require_all_read({}, TOWER_UNUSED)
    around = Metadata(file, "clip.")
    around.read = {name.removeprefix("clip.") for name in file.metadata if name.startswith("clip.vision.")}
    around.require_all_read(TOWER_NEUTRAL, ("projector_type",))
    return config


def require_mmproj(file: ModelFile) -> None:
    """Raise InputError, saying what ``file`` is, unless it is the vision half of a Qwen3-VL model."""
    require_whole_model(file)
    if file.architecture in ("qwen3vl", "qwen3vlmoe"):
        raise InputError(f"{file.path} is a language model; give its mmproj file ('mmproj-....gguf') as mmproj")
    if file.architecture != "clip":
        raise InputError(f"{file.path} is a {file.architecture[:40]!r} model; the mmproj of a Qwen3-VL model is needed")
    projector = file.metadata.get("clip.projector_type", file.metadata.get("clip.vision.projector_type"))
    if str(projector) != PROJECTOR:
        raise InputError(f"{file.path} has the projector {str(projector)[:40]!r}; Qwen3-VL's is {PROJECTOR!r}")


def require_pair(text: TextConfig, vision: VisionConfig, text_path, vision_path) -> None:
    """Raise InputError, naming both numbers, unless the vision tower was made for the language model."""
    if vision.output_size != text.hidden_size:
        raise InputError(
            f"{vision_path} projects to width {vision.output_size} and {text_path} has width {text.hidden_size}; "
            "take the mmproj of the same model size"
        )
    if len(vision.deepstack_indexes) != text.deepstack_layers:
        raise InputError(
            f"{vision_path} has {len(vision.deepstack_indexes)} DeepStack mergers and {text_path} takes "
            f"{text.deepstack_layers}; take the mmproj of the same model"
        )


def require_same_model(text: ModelFile, tower: ModelFile) -> None:
    """Raise InputError where both files name a size of their model, and not the same: widths of two may be equal."""
    sizes = [model_size(file) for file in (text, tower)]
    if None not in sizes and sizes[0] != sizes[1]:
        raise InputError(
            f"{tower.path} names itself the tower of a {sizes[1]} model and {text.path} itself a {sizes[0]}; "
            "take the mmproj of the same model"
        )


def model_size(file: ModelFile) -> str | None:
    """The size in the model's name, such as '2B' or '30B-A3B'; None where it names none."""
    found = SIZE.search(str(file.metadata.get("general.name", "")))
    return "-".join(part.upper() for part in found.groups() if part) if found else None


def require_whole_model(file: ModelFile) -> None:
    """Raise InputError, saying what ``file`` is, where it is a part of a model or none."""
    kind = str(file.metadata.get("general.type", "model"))
    if kind in PARTIAL_FILES:
        raise InputError(f"{file.path} is {PARTIAL_FILES[kind]}")
    if any(key.startswith("imatrix.") for key in file.metadata):
        raise InputError(f"{file.path} is {PARTIAL_FILES['imatrix']}")


def require_layers(file: ModelFile, table: str, norm: str, layers: int) -> None:
    """Refuse a file without its table or a whole layer before modules are built for a count that may be absurd."""
    most = min(MOST_LAYERS, len(file.tensors) // FEWEST_TENSORS)
    if layers > most:
        raise InputError(
            f"{file.path} says it has {layers} layers; its {len(file.tensors)} tensors are those of {most} at most"
        )
    names = itertools.chain([table], (norm.format(layer) for layer in range(layers)))
    missing = list(itertools.islice((name for name in names if name not in file.tensors), 3))
    if missing:
        raise InputError(f"{file.path} is incomplete: it lacks {', '.join(map(repr, missing))}, of {layers} layers")


class Metadata:
    """Typed reads from a file's metadata under one prefix."""

    def __init__(self, file: ModelFile, prefix: str):
        self.file = file
        self.prefix = prefix
        self.read: set[str] = set()

    def require_all_read(self, neutral: dict = NEUTRAL, unused: Sequence[str] = UNUSED) -> None:
        """Raise InputError for a key under the prefix that was not read and is not known to change nothing."""
        for name, value in self.file.metadata.items():
            key = name.removeprefix(self.prefix)
            if key == name or key in self.read or key in unused:
                continue
            if key not in neutral or not isinstance(value, (bool, int, float)) or value not in neutral[key]:
                raise InputError(
                    f"{self.file.path} has {name} = {str(value)[:40]}, which is not known here and may change what "
                    "the model computes; take another file of this model"
                )

    def has(self, key: str) -> bool:
        return self.prefix + key in self.file.metadata

    def value(self, key: str, default=None):
        self.read.add(key)
        value = self.file.metadata.get(self.prefix + key, default)
        if value is None:
            raise InputError(f"{self.file.path} lacks the metadata key {self.prefix + key!r}")
        return value

    def refuse(self, key: str, wanted: str):
        value = str(self.value(key))[:40]
        raise InputError(f"{self.file.path} has {self.prefix + key} = {value}; {wanted} is needed")

    def count(self, key: str, default: int | None = None, least: int = 1, most: int = 1 << 20) -> int:
        value = self.value(key, default)
        if type(value) is not int or not least <= value <= most:
            self.refuse(key, f"a whole number from {least} to {most}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.value(key, default)
        if type(value) not in (int, float) or not 0 < value < math.inf:
            self.refuse(key, "a positive number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.value(key, default)
        if type(value) is not bool:
            self.refuse(key, "true or false")
        return value

    def array(self, key: str, kinds: str = "biu") -> np.ndarray:
        value = self.value(key)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds:
            self.refuse(key, "an array of " + ("numbers" if kinds == "f" else "whole numbers"))
        return value

    def colour(self, key: str, least: float = -math.inf) -> tuple[float, float, float]:
        values = self.array(key, "f")
        if len(values) != 3 or not np.isfinite(values).all() or min(values) < least:
            self.refuse(key, "one number for each of red, green and blue" + (" above 0" if least > 0 else ""))
        return tuple(float(value) for value in values)
