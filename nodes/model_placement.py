"""A model under ComfyUI's memory manager: quantised weights that the host loads, offloads and frees.

Weights are ordinary uint8 parameters in GGUF's blocks, on layers that the host's own caster moves
(``comfy.ops.CastWeightBiasOp``). So partial offloading, pinning and dynamic VRAM move the quantised bytes, and no
format of the host's has to be taught GGUF: a ``comfy_kitchen`` layout would give the same paging, but dequantises a
whole matrix for every operation it was not taught, the token embedding's lookup among them.

The vision tower attends as the host does on its GPU: flash, xformers, SDPA with the host's order of kernels, or slices
that fit memory where SDPA has no fused kernel. The language model stays with SDPA: the host's functions know neither
causality without an n x n mask nor the log-sum-exp by which a chunk is merged with what was read before.
"""

import os
from pathlib import Path

import comfy.model_patcher
import comfy.ops
import comfy.sd1_clip
import torch
from comfy.ldm.modules.attention import optimized_attention

from ..models.qwen import Qwen3VL, load_qwen3vl
from ..models.qwen.attention import attention
from ..models.qwen.operations import GGUFOperations
from ..models.qwen.placement import compute_dtype, reading_bytes, seeing_bytes
from . import host


class _Managed(comfy.ops.CastWeightBiasOp):
    """A layer whose weight may be elsewhere when it is needed."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        comfy.ops.run_every_op()
        if not self.comfy_cast_weights:
            return super().forward(states)
        bias_dtype = None if self.bias is None else self.bias.dtype
        # The stored dtype is asked for, so the caster moves bytes and converts nothing.
        weight, bias, stream = comfy.ops.cast_bias_weight(
            self, dtype=self.weight.dtype, device=states.device, bias_dtype=bias_dtype, offloadable=True
        )
        result = self.apply_to(states, weight, bias)
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return result


class HostOperations:
    """The layers of :class:`GGUFOperations`, managed by the host."""

    class Linear(_Managed, GGUFOperations.Linear):
        pass

    class LayerNorm(_Managed, GGUFOperations.LayerNorm):
        pass

    class RMSNorm(_Managed, GGUFOperations.RMSNorm):
        pass

    Embedding = GGUFOperations.Embedding
    Experts = GGUFOperations.Experts


def host_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool) -> torch.Tensor:
    """Full attention [B, H, n, d] through the function that the host chose at its start; ``causal`` is False here.

    Sage attention, which rounds to 8 bits, is asked to make way for SDPA: the tower's features are to be exact.
    """
    return optimized_attention(
        query,
        key,
        value,
        query.shape[1],
        skip_reshape=True,
        skip_output_reshape=True,
        low_precision_attention=False,
    )


class HostedQwen3VL:
    """What the loader node hands on: the model, and the host's handles on its two halves.

    Ask for :meth:`for_vision` or :meth:`for_reading` before using either half; each returns the
    :class:`codeclens.models.qwen.Qwen3VL`, ready on its device.
    """

    def __init__(self, path: str, mmproj: str | None):
        device, offload_device = host.text_encoder_devices()
        dtype = compute_dtype(device)
        # On a CPU the host takes slices, where SDPA has a fused kernel.
        attend = attention if device.type == "cpu" else host_attention
        self.name = os.path.basename(path)
        self.model: Qwen3VL = load_qwen3vl(
            path,
            mmproj,
            operations=HostOperations,
            dtype=dtype,
            attend_vision=attend,
            tokenizers=Path(comfy.sd1_clip.__file__).parent / "text_encoders",
        )
        self.model.device = device
        if device.type == "cpu":
            self.model.round_activations()
        self.text = _patcher(self.model, self.model.text, device, offload_device)
        self.vision = None
        if self.model.vision is not None:
            self.vision = _patcher(self.model, self.model.vision, device, offload_device)

    @property
    def patcher(self):
        """The larger half, by which the host's cache knows that this is a model."""
        return self.text

    def get_models(self) -> list:
        """Both handles, for the host to know what the running prompt uses."""
        return [self.text] if self.vision is None else [self.text, self.vision]

    def is_dynamic(self) -> bool:
        """Whether the host pages the weights, so that its cache need not drop them under memory pressure."""
        return self.text.is_dynamic()

    def for_vision(self, patches: int) -> Qwen3VL:
        """Load the vision tower, with room to encode ``patches`` at once."""
        memory = seeing_bytes(self.model.config.vision, patches, self.model.dtype)
        host.load_models([self.vision], memory)
        return self.model

    def for_reading(self, tokens: int, int8_cache: bool = False) -> Qwen3VL:
        """Load the language model, with room for ``tokens`` read and written."""
        memory = reading_bytes(self.model.config.text, tokens, self.model.dtype, int8_cache)
        host.load_models([self.text], memory)
        return self.model

    def for_both(self, patches: int, tokens: int) -> Qwen3VL:
        """Load both halves, for vision and text by turns."""
        config, dtype = self.model.config, self.model.dtype
        memory = max(seeing_bytes(config.vision, patches, dtype), reading_bytes(config.text, tokens, dtype))
        host.load_models([self.vision, self.text], memory)
        return self.model


def _patcher(model: Qwen3VL, half: torch.nn.Module, device, offload_device):
    for layer in half.modules():
        if isinstance(layer, (GGUFOperations.Embedding, GGUFOperations.Experts)):
            layer.stay(device)
    return comfy.model_patcher.CoreModelPatcher(half, load_device=device, offload_device=offload_device)
