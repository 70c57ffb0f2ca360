"""Layers whose weights stay as they lie in the GGUF file.

A namespace like ``torch.nn`` for the ``operations=`` argument of the models. Build on the meta device, then give every
weight to ``load`` as a ``StoredTensor``; nothing is copied unless the device differs.
"""

import torch
import torch.nn.functional as F

from ... import kernels
from .float8 import float8_linear, float8_rows
from .model_file import FLOAT8, FLOATS, StoredTensor


class _StoredWeight(torch.nn.Module):
    """A module with one weight in ggml's blocks.

    ``weight`` is uint8 [rows, row_bytes] when ``weight_type`` is a block type ("Q4_K"), else a float tensor in the
    dtype of the file, of which 8-bit floats are to be multiplied by ``scale``.
    """

    weight_type = "F32"
    scale = 1.0
    int8 = False

    def load(self, stored: StoredTensor, device=None) -> None:
        """Take ``stored`` as the weight: a view of the file on the CPU, a copy on any other device.

        Vectors are float32 here, whatever float type the file gives them.
        """
        data = stored.data.float() if len(stored.shape) == 1 else stored.data
        self.weight = torch.nn.Parameter(data.to(device), requires_grad=False)
        self.weight_type, self.scale = stored.type, stored.scale

    def product(self, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """``states`` [..., in] times ``weight``, stored as this module's is, and ``bias`` added."""
        bias = None if bias is None else bias.to(states.dtype)
        if self.weight_type in FLOAT8:
            return float8_linear(states, weight, self.scale, bias)
        if self.weight_type not in FLOATS:
            int8 = self.int8 and not states.requires_grad
            return kernels.quantized_linear(states, weight, self.weight_type, bias, int8)
        one_row = states.numel() == states.shape[-1] and states.device.type == "cpu"
        if one_row and weight.dtype != states.dtype:
            return kernels.quantized_linear(states, weight.view(torch.uint8), self.weight_type, bias)
        return F.linear(states, weight.to(states.dtype), bias)


class _StoredTable(_StoredWeight):
    """A weight of which only parts are asked for."""

    device = None

    def stay(self, device: torch.device | str) -> None:
        """Keep the table where it is and compute on ``device``, as llama.cpp does: only parts asked for travel.

        It is no parameter from here on, so a tied table is moved once, as the head's weight.
        """
        table = self.weight.data
        del self.weight
        self.weight, self.device = table, device


class GGUFOperations:
    """``Linear``, ``Experts``, ``Embedding``, ``LayerNorm`` and ``RMSNorm`` over stored weights of any ggml type."""

    class Linear(_StoredWeight):
        """``x W^T + b``. Quantised products go through the kernels; float weights are used in the input's dtype.

        ``int8``: products with blocks round the activations to 8 bits, unless gradients flow to them.
        """

        def __init__(self, in_features: int, out_features: int, bias: bool = True, device=None, dtype=None):
            super().__init__()
            self.in_features, self.out_features = in_features, out_features
            self.weight = torch.nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
            self.bias = torch.nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return self.apply_to(states, self.weight, self.bias)

        def apply_to(self, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            """The product with ``weight``, this module's or a copy of it on the device of ``states``."""
            return self.product(states, weight, bias)

    class Experts(_StoredTable):
        """As many matrices of one shape; a product takes one of them."""

        def __init__(self, count: int, in_features: int, out_features: int, device=None, dtype=None):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(count, out_features, in_features, device=device, dtype=dtype))

        def forward(self, states: torch.Tensor, expert: int) -> torch.Tensor:
            """``states`` [n, in] times the transposed matrix of ``expert``."""
            return self.product(states, self.weight[expert].to(states.device))

    class Embedding(_StoredTable):
        """Gathers rows and turns only those into numbers of ``dtype`` (float32 by default)."""

        def __init__(self, num_embeddings: int, embedding_dim: int, device=None, dtype=None):
            super().__init__()
            self.dtype = dtype or torch.float32
            self.weight = torch.nn.Parameter(torch.empty(num_embeddings, embedding_dim, device=device, dtype=dtype))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            if self.device is None:
                return self.gather(ids)
            return self.gather(ids.to(self.weight.device)).to(self.device)

        def gather(self, ids: torch.Tensor) -> torch.Tensor:
            """The rows ``ids``, on the table's device."""
            if self.weight_type in FLOAT8:
                return float8_rows(ids, self.weight, self.scale, self.dtype)
            rows = F.embedding(ids, self.weight)
            if self.weight_type in FLOATS:
                return rows.to(self.dtype)
            return kernels.dequantize(rows, self.weight_type, self.dtype)

    class LayerNorm(_StoredWeight):
        """LayerNorm (arXiv 1607.06450) in the weights' float32, whatever the input's dtype."""

        def __init__(self, width: int, eps: float = 1e-5, device=None, dtype=None):
            super().__init__()
            self.eps = eps
            self.weight = torch.nn.Parameter(torch.empty(width, device=device, dtype=dtype))
            self.bias = torch.nn.Parameter(torch.empty(width, device=device, dtype=dtype))

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return self.apply_to(states, self.weight, self.bias)

        def apply_to(self, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            """The norm with ``weight`` and ``bias``, this module's or copies on the device of ``states``."""
            return F.layer_norm(states.to(weight.dtype), weight.shape, weight, bias, self.eps).to(states.dtype)

    class RMSNorm(_StoredWeight):
        """RMSNorm (arXiv 1910.07467) in the weights' float32, whatever the input's dtype."""

        def __init__(self, width: int, eps: float = 1e-6, device=None, dtype=None):
            super().__init__()
            self.eps = eps
            self.weight = torch.nn.Parameter(torch.empty(width, device=device, dtype=dtype))
            self.bias = None

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return self.apply_to(states, self.weight, None)

        def apply_to(self, states: torch.Tensor, weight: torch.Tensor, bias: None) -> torch.Tensor:
            """The norm with ``weight``, this module's or a copy on the device of ``states``."""
            return F.rms_norm(states.to(weight.dtype), weight.shape, weight, self.eps).to(states.dtype)
