"""Random GGUF weights like a trained layer's, for every block type."""

import gguf
import torch
from codeclens.kernels import block_shape

PYTHON_QUANTISERS = {"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0"}
HALF_SCALES = {
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,),
}  # fmt: skip


def quantized_weight(qtype: str, rows: int, columns: int, seed: int) -> torch.Tensor:
    """uint8 [rows, row_bytes]: normal weights where gguf-py can quantise, else random codes under small scales."""
    generator = torch.Generator().manual_seed(seed)
    if qtype in PYTHON_QUANTISERS:
        weight = torch.randn(rows, columns, generator=generator).mul(0.05).numpy()
        return torch.from_numpy(gguf.quants.quantize(weight, gguf.GGMLQuantizationType[qtype])).view(torch.uint8)
    weights, size = block_shape(qtype)
    blocks = torch.randint(0, 256, (rows, columns // weights, size), dtype=torch.uint8, generator=generator)
    for offset in HALF_SCALES.get(qtype, (0,)):
        scales = torch.empty(rows, columns // weights, 1).uniform_(1e-4, 3e-4, generator=generator)
        blocks[..., offset : offset + 2] = scales.half().view(torch.uint8)
    return blocks.view(rows, -1)
