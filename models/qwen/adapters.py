"""Low-rank adapters (LoRA, arXiv 2106.09685): what frozen matrices are trained to do beside themselves."""

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F


class Adapter(torch.nn.Module):
    """``x -> x A^T B^T`` of rank r, to be added to a frozen layer's output. B starts at zero, so nothing changes."""

    def __init__(self, inputs: int, outputs: int, rank: int):
        super().__init__()
        self.down = torch.nn.Parameter(torch.empty(rank, inputs))
        self.up = torch.nn.Parameter(torch.zeros(outputs, rank))

    def reset(self, generator: torch.Generator) -> None:
        """Draw A with a deviation of one over the root of the inputs; B is zero."""
        with torch.no_grad():
            self.down.normal_(0, self.down.shape[1] ** -0.5, generator=generator)
            self.up.zero_()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return F.linear(F.linear(states, self.down.to(states.dtype)), self.up.to(states.dtype))


def adapted(layer: torch.nn.Module, adapter: Adapter, states: torch.Tensor) -> torch.Tensor:
    """The output of a frozen linear ``layer`` with its adapter's added."""
    return layer(states) + adapter(states)


class AdaptedLinear(torch.nn.Module):
    """A frozen linear layer, wherever its weight is, with an adapter."""

    def __init__(self, layer: torch.nn.Module, adapter: Adapter):
        super().__init__()
        self.layer, self.adapter = layer, adapter

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return adapted(self.layer, self.adapter, states)


def adapted_view(model: torch.nn.Module, adapters: Mapping[str, Adapter]) -> torch.nn.Module:
    """``model`` as it computes with ``adapters``, by the names of its linear layers.

    The layers themselves are those of ``model``, which stays as it is, so both may be used side by side and whoever
    moves the weights of one moves those of the other. Quantised blocks could not have an adapter merged into them.
    """
    return _view(model, "", adapters)


def _view(module: torch.nn.Module, path: str, adapters: Mapping[str, Adapter]) -> torch.nn.Module:
    if path in adapters:
        return AdaptedLinear(module, adapters[path])
    prefix = f"{path}." if path else ""
    if not any(name.startswith(prefix) for name in adapters):
        return module
    twin = copy.copy(module)
    twin._modules = {name: _view(child, prefix + name, adapters) for name, child in module._modules.items()}
    hook = module.__dict__.get("_hf_hook")
    if hook is not None:
        _rehook(twin, hook)
    return twin


def _rehook(twin: torch.nn.Module, hook) -> None:
    """accelerate replaces a module's forward by one that is bound to that module: give the twin one of its own."""
    forward = type(twin).forward.__get__(twin)

    def hooked(*args, **kwargs):
        args, kwargs = hook.pre_forward(twin, *args, **kwargs)
        return hook.post_forward(twin, forward(*args, **kwargs))

    twin._old_forward, twin.forward = forward, hooked
