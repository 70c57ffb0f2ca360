"""GGUF block types in torch, each a class that reads like its bit layout (ggml-common.h, ggml-quants.c).

Values are computed in float32 in the order ggml computes them, so they equal gguf-py's bit for bit.
"""

import torch
from torch import Tensor

FORMATS: dict[str, type["BlockFormat"]] = {}
PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class BlockFormat:
    """A block of `weights` numbers kept in `size` bytes. Subclasses register under their ggml name."""

    weights: int
    size: int

    def __init_subclass__(cls, weights: int, size: int):
        cls.weights, cls.size = weights, size
        FORMATS[cls.__name__] = cls

    @staticmethod
    def parts(block: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Take uint8 [n, size] apart: a weight is `scale * code - minimum`.

        Returns codes, 8-bit [n, weights]; scales, float32 [n, groups]; and minimums like the scales, or None.
        """
        raise NotImplementedError

    @classmethod
    def values(cls, block: Tensor) -> Tensor:
        """uint8 [n, size] -> float32 [n, groups, weights / groups]."""
        codes, scale, minimum = cls.parts(block)
        product = scale[..., None] * codes.unflatten(1, (scale.shape[1], -1))
        return product if minimum is None else product - minimum[..., None]


def half(block: Tensor, offset: int) -> Tensor:
    """The float16 at byte `offset` of every block, as float32 [n, 1]."""
    return block[:, offset : offset + 2].view(torch.float16).float()


def nibbles(packed: Tensor, run: int) -> Tensor:
    """uint8 [n, m] -> [n, 2 m]: of every `run` bytes first the low halves, then the high halves."""
    packed = packed.unflatten(1, (-1, run))
    return torch.stack((packed & 15, packed >> 4), 2).flatten(1)


def crumbs(packed: Tensor, run: int) -> Tensor:
    """uint8 [n, m] -> [n, 4 m]: of every `run` bytes first their lowest two bits, then the next two, and so on."""
    packed = packed.unflatten(1, (-1, run))
    return torch.stack((packed & 3, (packed >> 2) & 3, (packed >> 4) & 3, packed >> 6), 2).flatten(1)


def bit_planes(packed: Tensor) -> Tensor:
    """uint8 [n, m] -> 0 or 1 [n, 8 m]: bit 0 of every byte, then bit 1 of every byte, and so on."""
    return torch.stack([(packed >> bit) & 1 for bit in range(8)], 1).flatten(1)


def bits(packed: Tensor) -> Tensor:
    """uint8 [n, m] -> 0 or 1 [n, 8 m]: the bits of each byte, lowest first."""
    return torch.stack([(packed >> bit) & 1 for bit in range(8)], 2).flatten(1)


def signed(codes: Tensor, offset: int) -> Tensor:
    """Unsigned codes as int8, shifted down by `offset`."""
    return codes.view(torch.int8) - offset


class Q4_0(BlockFormat, weights=32, size=18):
    @staticmethod
    def parts(block):
        return signed(nibbles(block[:, 2:], 16), 8), half(block, 0), None


class Q4_1(BlockFormat, weights=32, size=20):
    @staticmethod
    def parts(block):
        return nibbles(block[:, 4:], 16), half(block, 0), -half(block, 2)


class Q5_0(BlockFormat, weights=32, size=22):
    @staticmethod
    def parts(block):
        return signed(nibbles(block[:, 6:], 16) | bits(block[:, 2:6]) << 4, 16), half(block, 0), None


class Q5_1(BlockFormat, weights=32, size=24):
    @staticmethod
    def parts(block):
        return nibbles(block[:, 8:], 16) | bits(block[:, 4:8]) << 4, half(block, 0), -half(block, 2)


class Q8_0(BlockFormat, weights=32, size=34):
    @staticmethod
    def parts(block):
        return block[:, 2:].view(torch.int8), half(block, 0), None


class Q2_K(BlockFormat, weights=256, size=84):
    @staticmethod
    def parts(block):
        scales = block[:, :16]
        return crumbs(block[:, 16:80], 32), half(block, 80) * (scales & 15), half(block, 82) * (scales >> 4)


class Q3_K(BlockFormat, weights=256, size=110):
    @staticmethod
    def parts(block):
        scale = signed(nibbles(block[:, 96:104], 8) | crumbs(block[:, 104:108], 4) << 4, 32)
        codes = signed(crumbs(block[:, 32:96], 32) | bit_planes(block[:, :32]) << 2, 4)
        return codes, half(block, 108) * scale, None


def scales_and_minimums(packed: Tensor) -> tuple[Tensor, Tensor]:
    """The 8 six-bit scales and 8 six-bit minimums of a Q4_K or Q5_K block: uint8 [n, 12] -> two uint8 [n, 8].

    The first four of each sit in the low six bits of their byte; the last four keep their low half in bytes 8 to 11
    (scale in the low nibble, minimum in the high one) and their top two bits above the first four.
    """
    scale, minimum, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    return (
        torch.cat((scale & 63, rest & 15 | scale >> 2 & 48), 1),
        torch.cat((minimum & 63, rest >> 4 | minimum >> 2 & 48), 1),
    )


class Q4_K(BlockFormat, weights=256, size=144):
    @staticmethod
    def parts(block):
        scale, minimum = scales_and_minimums(block[:, 4:16])
        return nibbles(block[:, 16:], 32), half(block, 0) * scale, half(block, 2) * minimum


class Q5_K(BlockFormat, weights=256, size=176):
    @staticmethod
    def parts(block):
        scale, minimum = scales_and_minimums(block[:, 4:16])
        codes = nibbles(block[:, 48:], 32) | bit_planes(block[:, 16:48]) << 4
        return codes, half(block, 0) * scale, half(block, 2) * minimum


class Q6_K(BlockFormat, weights=256, size=210):
    @staticmethod
    def parts(block):
        codes = signed(nibbles(block[:, :128], 64) | crumbs(block[:, 128:192], 32) << 4, 32)
        return codes, half(block, 208) * block[:, 192:208].view(torch.int8), None


def iq4_levels(codes: Tensor) -> Tensor:
    """Four-bit codes through the non-linear table of the IQ4 types, as int8."""
    levels = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
    return torch.tensor(levels, dtype=torch.int8, device=codes.device)[codes.int()]


class IQ4_NL(BlockFormat, weights=32, size=18):
    @staticmethod
    def parts(block):
        return iq4_levels(nibbles(block[:, 2:], 16)), half(block, 0), None


class IQ4_XS(BlockFormat, weights=256, size=136):
    @staticmethod
    def parts(block):
        scale = signed(nibbles(block[:, 4:8], 1) | crumbs(block[:, 2:4], 1) << 4, 32)
        return iq4_levels(nibbles(block[:, 8:], 16)), half(block, 0) * scale, None


def block_shape(qtype: str) -> tuple[int, int]:
    """How many weights one block of `qtype` holds and how many bytes it takes.

    Raises ValueError for a type that no reader here knows.
    """
    if qtype in FORMATS:
        return FORMATS[qtype].weights, FORMATS[qtype].size
    if qtype in PLAIN:
        return 1, PLAIN[qtype].itemsize
    import gguf

    known = gguf.GGMLQuantizationType.__members__.get(qtype)
    if known is None or known not in gguf.quants._type_traits:
        raise ValueError(f"dequantize: qtype is {qtype!r}; wanted one of {', '.join((*FORMATS, *PLAIN))}.")
    return gguf.GGML_QUANT_SIZES[known]


def check_blocks(op: str, blocks: Tensor, qtype: str) -> None:
    """Raise ValueError, in one sentence, unless `blocks` holds whole rows of `qtype` blocks."""
    weights, size = block_shape(qtype)
    if blocks.dtype != torch.uint8:
        raise ValueError(f"{op}: blocks is {blocks.dtype}; wanted the raw {qtype} bytes as torch.uint8.")
    if blocks.dim() == 0 or blocks.shape[-1] % size:
        length = blocks.shape[-1] if blocks.dim() else 0
        raise ValueError(
            f"{op}: a row of blocks is {length} bytes; wanted a multiple of {size}, the bytes of one {qtype} block."
        )
    if not blocks.is_contiguous():
        raise ValueError(f"{op}: blocks is not contiguous; wanted rows of {qtype} blocks back to back.")
    aligned = PLAIN[qtype].itemsize if qtype in PLAIN else 2
    if blocks.storage_offset() % aligned:
        raise ValueError(
            f"{op}: blocks starts {blocks.storage_offset()} bytes into its storage; wanted a multiple of {aligned}."
        )


def dequantize(blocks: Tensor, qtype: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """The numbers that GGUF blocks stand for, computed in float32 and then cast.

    Args:
        blocks: uint8 [..., row_bytes], whole rows as the file stores them, on any device.
        qtype: ggml's name of the type, such as "Q4_K".
        dtype: floating dtype of the result.

    Returns `dtype` [..., columns]. Q4_0 to Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS, F32, F16 and BF16 are computed where
    `blocks` lives; any other type that the gguf library reads goes through numpy on the CPU.
    Raises ValueError for an unknown type or bytes that are not whole, contiguous rows of it.
    """
    check_blocks("dequantize", blocks, qtype)
    if qtype in PLAIN:
        return blocks.view(PLAIN[qtype]).to(dtype)
    weights, size = block_shape(qtype)
    shape = (*blocks.shape[:-1], blocks.shape[-1] // size * weights)
    if qtype not in FORMATS:
        return gguf_values(blocks, qtype).to(blocks.device, dtype).view(shape)
    return FORMATS[qtype].values(blocks.view(-1, size)).to(dtype).view(shape)


def gguf_values(blocks: Tensor, qtype: str) -> Tensor:
    """float32 [rows, columns] by the gguf library, for the types without a class above."""
    import gguf

    rows = blocks.reshape(-1, blocks.shape[-1]).cpu().numpy()
    return torch.from_numpy(gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[qtype]))
