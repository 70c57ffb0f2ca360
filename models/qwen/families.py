"""The families of language models that can be read, and what is different in each."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import InputError
from .blocks import FeedForward
from .config import Metadata, TextConfig, require_whole_model
from .generate import REASONING, SamplingParams
from .model_file import ModelFile
from .qwen3vl import layers as qwen3vl_layers
from .qwen3vl import metadata as qwen3vl
from .qwen35 import layers as qwen35_layers
from .qwen35 import metadata as qwen35
from .qwen35.experts import MixtureOfExperts


@dataclass(frozen=True, slots=True)
class Family:
    """One family.

    Attributes:
        name: as its makers write it.
        mixer: the class of the attention in a layer of a configuration, by the layer's index.
        read_config: the configuration from a file's metadata.
        tensor_names: the file's name of each module in a layer, where it is the family's own.
        reasoning: how the makers advise to choose the tokens of an answer that begins with reasoning.
        fused_rows: for each matrix that a layer may store in place of several, the rows (start, stop) of these, all by
            the file's names.
        feed_forward: the class of a layer's feed-forward part.
    """

    name: str
    mixer: Callable[[TextConfig, int], type]
    read_config: Callable[[Metadata], TextConfig]
    tensor_names: dict[str, str]
    fused_rows: Callable[[TextConfig, int], dict[str, dict[str, tuple[int, int]]]]
    reasoning: SamplingParams = REASONING
    feed_forward: type = FeedForward


QWEN35_REASONING = replace(REASONING, presence_penalty=1.5)

FAMILIES = {
    "qwen3vl": Family(
        "Qwen3-VL",
        lambda config, index: qwen3vl_layers.SelfAttention,
        qwen3vl.read_config,
        qwen3vl.TENSOR_NAMES,
        qwen3vl.fused_rows,
    ),
    "qwen35": Family(
        "Qwen3.5",
        qwen35_layers.mixer,
        qwen35.read_config,
        qwen35.TENSOR_NAMES,
        qwen35.fused_rows,
        QWEN35_REASONING,
    ),
    "qwen35moe": Family(
        "Qwen3.5 (mixture of experts)",
        qwen35_layers.mixer,
        qwen35.read_config,
        qwen35.TENSOR_NAMES | qwen35.EXPERT_NAMES,
        qwen35.fused_rows,
        QWEN35_REASONING,
        MixtureOfExperts,
    ),
}
"""By the architecture that a file's metadata names."""


def read_text_config(file: ModelFile) -> TextConfig:
    """The language model's configuration; raises InputError where ``file`` is no text model of a family.

    A key of the model that nothing here reads is refused too: it may change what the model computes.
    """
    require_text_model(file)
    metadata = Metadata(file, f"{file.architecture}.")
    config = FAMILIES[file.architecture].read_config(metadata)
    metadata.require_all_read()
    return config


def require_text_model(file: ModelFile) -> None:
    """Raise InputError, saying what ``file`` is, unless it is a language model of one of the families."""
    architecture = file.architecture
    require_whole_model(file)
    if architecture != "clip" and any(name.startswith(("v.", "mm.")) for name in file.tensors):
        raise InputError(
            f"{file.path} is a file of Ollama's, with the vision inside; take the model and its mmproj as the makers "
            "publish them"
        )
    if architecture == "clip":
        raise InputError(f"{file.path} is an mmproj (vision) file; give the language model here and this one as mmproj")
    dense = architecture.removesuffix("moe")
    mixed = architecture not in FAMILIES or dense == architecture and f"{dense}.expert_count" in file.metadata
    if dense in FAMILIES and mixed:
        raise InputError(
            f"{file.path} is a mixture-of-experts {FAMILIES[dense].name}; only the family's dense models are supported"
        )
    if architecture not in FAMILIES:
        known = " or ".join(f"{family.name} ({key!r})" for key, family in FAMILIES.items())
        raise InputError(f"{file.path} is a {architecture[:40]!r} model; a model of {known} is needed")
