"""A learned code: trained weights, what they were trained for, and the file that holds both."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...errors import InputError, one_line
from ...files import writing
from ...qwen.adapters import Adapter, adapted_view
from ...qwen.config import Qwen3VLConfig, VisionConfig
from .changes import REFERENCES
from .delta_encoder import DeltaEncoder
from .p_tokenizer import PTokenizer

FORMAT = "codeclens learned code 1"
NETWORKS = {"ptoken": PTokenizer, "delta": DeltaEncoder}
"""The network of each mode whose code is learned: made from a tower's configuration and the header's ``network``."""

CODE = "code."
ADAPTER = "adapter."
"""What names of tensors begin with: of the network, and of the language model's adapter."""


@dataclass(frozen=True, slots=True)
class Base:
    """What weights are bound to.

    Attributes:
        family: of the language model, such as 'qwen3vl'.
        widths: of the tower: layers, width, width of its tokens, DeepStack levels.
        tower: hash of the tower's vectors (:func:`hash_of`).
        text: hash of the language model's vectors, where an adapter was trained for it; else ''.
    """

    family: str
    widths: tuple[int, int, int, int]
    tower: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself.

    Attributes:
        mode: 'ptoken' or 'delta'.
        base: the model that it was trained for.
        radius: pixels of the motion search to each side; motion is divided by it.
        side: pixels on a side of the pictures that it was trained on, about.
        window: most frames that it was trained to fuse into one set of tokens.
        reference: what changes were taken against (:data:`.changes.REFERENCES`).
        network: arguments of the mode's network.
        rank: of the language model's adapter; 0 where there is none.
        training: what was trained on what, for people to read.
    """

    mode: str
    base: Base
    radius: int = 32
    side: int = 512
    window: int = 1
    reference: str = "previous"
    network: dict = field(default_factory=dict)
    rank: int = 0
    training: dict = field(default_factory=dict)

    def in_words(self) -> str:
        """All of it as JSON text."""
        return json.dumps(asdict(self), indent=1)


@dataclass(eq=False, slots=True)
class LearnedCode:
    """Weights ready to be used with the model that they are bound to.

    Attributes:
        header: what they are for.
        network: of ``NETWORKS``; float32.
        adapter: the language model's (:class:`..qwen.adapters.Adapter`), by the names of its layers with '/' for the
            dots; None where it has none.
        name: of the file, for messages.
    """

    header: Header
    network: torch.nn.Module
    adapter: torch.nn.ModuleDict | None = None
    name: str = "learned code"

    @property
    def fingerprint(self) -> str:
        """Hash of the header and of all weights."""
        return _digest(self.header, self.tensors())

    def tensors(self) -> dict[str, torch.Tensor]:
        """All weights by their names in a file."""
        found = {CODE + name: value.detach() for name, value in self.network.state_dict().items()}
        if self.adapter is not None:
            found |= {ADAPTER + name: value.detach() for name, value in self.adapter.state_dict().items()}
        return found

    def reader_of(self, model):
        """``model`` as it reads this code: with the language model's adapter beside it, where there is one."""
        if self.adapter is None:
            return model
        self.adapter.to(model.device)
        return replace(model, text=adapted_view(model.text, adapters_by_path(self.adapter)))

    def require_model(self, model) -> None:
        """Raise InputError, saying what differs, unless ``model`` is the one that the weights were trained for."""
        mine, its = self.header.base, base_of(model, text=bool(self.header.base.text))
        if mine.family != its.family or mine.widths != its.widths:
            raise InputError(
                f"{self.name} was trained for a {mine.family} tower of {_in_words(mine)}, and the model is "
                f"{its.family} with {_in_words(its)}; load the model that it was trained for"
            )
        if mine.tower != its.tower:
            raise InputError(
                f"{self.name} was trained for the vision tower {mine.tower[:8]}, and the model's is {its.tower[:8]}, "
                "as wide but with other weights; load the model that it was trained for"
            )
        if mine.text and mine.text != its.text:
            raise InputError(
                f"{self.name} holds an adapter for the language model {mine.text[:8]}, and the model's is "
                f"{its.text[:8]}; load the model that it was trained for"
            )


def _in_words(base: Base) -> str:
    layers, width, tokens, levels = base.widths
    return f"{layers} layers of {width}, tokens of {tokens} and {levels} DeepStack levels"


def base_of(model, text: bool = False) -> Base:
    """What weights trained for ``model`` are bound to; with ``text`` the language model too."""
    config: Qwen3VLConfig = model.config
    if config.vision is None or model.vision is None:
        raise InputError("the model was loaded without its mmproj file and cannot see; a learned code needs its tower")
    vision = config.vision
    widths = (vision.layers, vision.hidden_size, vision.output_size, len(vision.deepstack_indexes))
    return Base(config.text.family, widths, hash_of(model.vision), hash_of(model.text) if text else "")


def hash_of(half: torch.nn.Module) -> str:
    """Hash of the vectors (norms and biases) of a tower or a language model.

    Files of one model keep them in float32 at every quantisation of its matrices, so that a code trained on one file
    serves the others; any training of a model moves them.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(half.named_parameters()):
        if parameter.dim() == 1:
            digest.update(name.encode())
            digest.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def make_network(header: Header, vision: VisionConfig) -> torch.nn.Module:
    """A new network of the header's mode for a tower; raises InputError where there is none or it does not fit."""
    if header.mode not in NETWORKS:
        raise InputError(f"the mode {header.mode!r} is not learned; it must be one of {', '.join(NETWORKS)}")
    return NETWORKS[header.mode](vision, **header.network)


def make_adapter(text: torch.nn.Module, rank: int, seed: int = 0) -> torch.nn.ModuleDict:
    """A new adapter for the matrices of a language model's layers, by their names with '/' for the dots."""
    generator, found = torch.Generator().manual_seed(seed), torch.nn.ModuleDict()
    for name, layer in text.named_modules():
        if name.startswith("layers.") and hasattr(layer, "in_features"):
            found[name.replace(".", "/")] = Adapter(layer.in_features, layer.out_features, rank)
            found[name.replace(".", "/")].reset(generator)
    return found


def adapters_by_path(adapter: torch.nn.ModuleDict) -> dict[str, Adapter]:
    """The adapters of a language model by the names of its layers."""
    return {name.replace("/", "."): one for name, one in adapter.items()}


def write_code(code: LearnedCode, path: str | os.PathLike, dtype: torch.dtype = torch.float16) -> None:
    """Write a learned code as .safetensors, whole or not at all; weights are rounded to ``dtype``.

    Raises:
        InputError: a weight is not finite in ``dtype``, or the file cannot be written.
    """
    tensors = {name: value.to("cpu", dtype).contiguous() for name, value in code.tensors().items()}
    wrong = next((name for name, value in tensors.items() if not value.isfinite().all()), None)
    if wrong is not None:
        raise InputError(f"{path} is not written: the weight {wrong!r} is not finite; train again with a lower rate")
    metadata = {"format": FORMAT, "header": json.dumps(asdict(code.header)), "digest": _digest(code.header, tensors)}
    with writing(path) as partial:
        save_file(tensors, partial, metadata=metadata)


def read_code(path: str | os.PathLike, model, adapter: bool = True) -> LearnedCode:
    """The learned code at ``path``, for ``model``; without its ``adapter`` it serves any language model on the tower.

    Raises:
        InputError: ``path`` is no such file, is damaged, or was trained for another model.
    """
    path = Path(path)
    header, tensors = _read(path)
    if not adapter:
        header = replace(header, rank=0, base=replace(header.base, text=""))
    code = LearnedCode(header, torch.nn.Module(), name=path.name)
    code.require_model(model)
    try:
        code.network = make_network(header, model.config.vision)
        own = {name.removeprefix(CODE): value.float() for name, value in tensors.items() if name.startswith(CODE)}
        code.network.load_state_dict(own)
        if header.rank:
            code.adapter = make_adapter(model.text, header.rank)
            given = {name.removeprefix(ADAPTER): value for name, value in tensors.items() if name.startswith(ADAPTER)}
            code.adapter.load_state_dict(given)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not hold the weights that its header names: {one_line(str(error))[:120]}"
        ) from None
    code.network.eval().requires_grad_(False)
    if code.adapter is not None:
        code.adapter.eval().requires_grad_(False)
    return code


def read_header(path: str | os.PathLike) -> Header:
    """What the file at ``path`` says of itself; raises InputError where it is no learned code."""
    return _read(Path(path), weights=False)[0]


def _read(path: Path, weights: bool = True) -> tuple[Header, dict[str, torch.Tensor]]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a file that train-code or Train Learned Code wrote")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(f"{path} is no learned code; give a file that train-code or Train Learned Code wrote")
            tensors = {name: file.get_tensor(name) for name in file.keys()} if weights else {}  # noqa: SIM118
        header = _header(json.loads(metadata["header"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged or no learned code: {one_line(str(error))[:120]}") from None
    if weights and metadata.get("digest") != _digest(header, tensors):
        raise InputError(f"{path} is damaged: its weights are not those that were written; take another copy")
    return header, tensors


def _header(values: dict) -> Header:
    """The header of its JSON values; raises ValueError, KeyError or TypeError for what is none."""
    base = Base(**values.pop("base"))
    base = Base(str(base.family), tuple(int(width) for width in base.widths), str(base.tower), str(base.text))
    header = Header(base=base, **values)
    whole = (header.radius, header.side, header.window, header.rank)
    if len(base.widths) != 4 or not all(isinstance(number, int) and 0 <= number <= 1 << 16 for number in whole):
        raise ValueError("its header holds a number that cannot be")
    if header.reference not in REFERENCES:
        raise ValueError(f"its header names the reference {header.reference!r}")
    if not 1 <= header.radius <= 128 or not isinstance(header.network, dict) or not isinstance(header.training, dict):
        raise ValueError("its header holds a value that cannot be")
    return header


def _digest(header: Header, tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.blake2b(json.dumps(asdict(header), sort_keys=True).encode(), digest_size=16)
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
