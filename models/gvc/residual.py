"""A latent frame's residual in few bytes: 8x8 DCT, dead-zone quantiser, adaptive binary range coder.

GVCC sends the last latent frame's residual as raw 8-bit samples through zlib, which is over 90 % of its I2V bytes. A
transform block that quantises to nothing costs a fraction of a bit here. The coder is LZMA's (32-bit range, carry
propagation), its probabilities are means of a fast and a slow estimate as in VVC, the syntax is that of H.264's CABAC:
per block a coded flag, then in zigzag order significance, last, and magnitude; signs are raw.
"""

import numpy as np

from ..errors import InputError

BLOCK = 8
DEAD_ZONE_ROUNDING = 1 / 3
STEP_CODES = 256
TOP, ONE_BITS, FAST, SLOW = 1 << 24, 15, 4, 7
LARGEST_LEVEL = 1 << 20
MOST_DROPPED = 64
"""Zero bytes that a decoder may read past the end while its code still says something; more than chance drops."""

FREQUENCIES = np.arange(BLOCK)
DCT = np.cos(np.pi * np.outer(FREQUENCIES, 2 * FREQUENCIES + 1) / (2 * BLOCK))
DCT *= np.where(FREQUENCIES, 0.5, 0.125**0.5)[:, None]
ZIGZAG = np.array(sorted(range(BLOCK * BLOCK), key=lambda at: (sum(divmod(at, BLOCK)), at // BLOCK)))
BAND = [min(sum(divmod(int(at), BLOCK)), 9) for at in ZIGZAG]
CODED, SIGNIFICANT, LAST, GREATER = 0, 6, 6 + 30, 6 + 30 + 10
CONTEXTS = GREATER + 3 * 14


def step_size(code: int) -> float:
    """The quantiser's step for a code of 0 to 255: 2^((code - 48) / 8), 1/64 (8 bits of a unit latent) and up."""
    return 2.0 ** ((code - 48) / 8)


def forward_transform(frame: np.ndarray) -> np.ndarray:
    """float [C, H, W] -> zigzag DCT-II coefficients [C, rows, columns, 64], edges replicated to whole blocks."""
    channels, height, width = frame.shape
    padded = np.pad(frame.astype(np.float64), ((0, 0), (0, -height % BLOCK), (0, -width % BLOCK)), mode="edge")
    blocks = padded.reshape(channels, padded.shape[1] // BLOCK, BLOCK, padded.shape[2] // BLOCK, BLOCK)
    spectrum = np.einsum("ki,crisj,lj->crskl", DCT, blocks, DCT)
    return spectrum.reshape(*spectrum.shape[:3], -1)[..., ZIGZAG]


def inverse_transform(coefficients: np.ndarray, height: int, width: int) -> np.ndarray:
    """The inverse of :func:`forward_transform`: float32 [C, H, W]."""
    spectrum = np.empty_like(coefficients)
    spectrum[..., ZIGZAG] = coefficients
    spectrum = spectrum.reshape(*spectrum.shape[:3], BLOCK, BLOCK)
    blocks = np.einsum("ki,crskl,lj->crisj", DCT, spectrum, DCT)
    channels, rows, _, columns, _ = blocks.shape
    return blocks.reshape(channels, rows * BLOCK, columns * BLOCK)[:, :height, :width].astype(np.float32)


def encode_residual(residual: np.ndarray, budget: int) -> bytes:
    """Code a residual as finely as ``budget`` bytes allow; empty if not even the coarsest step helps.

    Args:
        residual: float [C, H, W].
        budget: bytes.

    Returns:
        one byte of step code and the range coder's bytes.
    """
    coefficients = forward_transform(residual)
    coarse, fine, best = STEP_CODES, 0, b""
    while fine < coarse:
        code = (fine + coarse) // 2
        levels = quantise(coefficients, step_size(code))
        packed = _pack_levels(levels, budget - 1) if levels.any() else b""
        if packed is None:
            fine = code + 1
        else:
            coarse, best = code, bytes([code]) + packed if packed else b""
    return best


def quantise(coefficients: np.ndarray, step: float) -> np.ndarray:
    """int64 levels: magnitudes below 2/3 of a step vanish."""
    magnitude = np.minimum(np.floor(np.abs(coefficients) / step + DEAD_ZONE_ROUNDING), LARGEST_LEVEL)
    return (np.sign(coefficients) * magnitude).astype(np.int64)


def decode_residual(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """float32 [C, H, W] from :func:`encode_residual`'s bytes, in time that follows their number.

    Raises:
        InputError: for bytes that claim much more than they hold.
    """
    channels, height, width = shape
    coder = _Decoder(data[1:])
    levels = _code_levels(coder, np.zeros((channels, -(-height // BLOCK), -(-width // BLOCK), BLOCK * BLOCK), np.int64))
    return inverse_transform(levels * step_size(data[0]), height, width)


class _Encoder:
    """LZMA's range encoder over adaptive contexts. ``limit``: give up (``full``) beyond this many bytes."""

    def __init__(self, limit: int):
        self.low, self.range, self.cache, self.pending = 0, 0xFFFFFFFF, 0, 0
        self.out, self.started, self.limit = bytearray(), False, limit
        self.fast, self.slow = [1 << ONE_BITS - 1] * CONTEXTS, [1 << ONE_BITS - 1] * CONTEXTS

    @property
    def full(self) -> bool:
        return len(self.out) + self.pending > self.limit

    def bit(self, context: int, bit: int) -> int:
        bound = (self.range >> ONE_BITS + 1) * (self.fast[context] + self.slow[context])
        if bit:
            self.low += bound
            self.range -= bound
        else:
            self.range = bound
        _adapt(self, context, bit)
        self._shift()
        return bit

    def raw(self, bit: int) -> int:
        self.range >>= 1
        if bit:
            self.low += self.range
        self._shift()
        return bit

    def _shift(self) -> None:
        while self.range < TOP:
            self.range <<= 8
            self._put()

    def _put(self) -> None:
        if self.low < 0xFF000000 or self.low > 0xFFFFFFFF:
            carry = self.low >> 32
            if self.started:
                self.out.append(self.cache + carry & 0xFF)
            self.out += bytes([0xFF + carry & 0xFF]) * self.pending
            self.started, self.pending, self.cache = True, 0, self.low >> 24 & 0xFF
        else:
            self.pending += 1
        self.low = (self.low & 0x00FFFFFF) << 8

    def finish(self) -> bytes:
        for _ in range(5):
            self._put()
        return bytes(self.out).rstrip(b"\0")


class _Decoder:
    """The inverse of :class:`_Encoder`; bytes past the end read as zeros, which the encoder leaves out.

    An encoder leaves out nothing that its code still needs, but for chance: once the bytes have ended and the code is 0
    all bits that follow are 0, and a code that is not 0 long after the end was written by no encoder.
    """

    def __init__(self, data: bytes):
        self.data, self.at = data, 0
        self.range, self.code = 0xFFFFFFFF, 0
        self.fast, self.slow = [1 << ONE_BITS - 1] * CONTEXTS, [1 << ONE_BITS - 1] * CONTEXTS
        for _ in range(4):
            self._pull()

    def bit(self, context: int, _: int) -> int:
        bound = (self.range >> ONE_BITS + 1) * (self.fast[context] + self.slow[context])
        bit = int(self.code >= bound)
        if bit:
            self.code -= bound
            self.range -= bound
        else:
            self.range = bound
        _adapt(self, context, bit)
        self._shift()
        return bit

    def raw(self, _: int) -> int:
        self.range >>= 1
        bit = int(self.code >= self.range)
        if bit:
            self.code -= self.range
        self._shift()
        return bit

    def _shift(self) -> None:
        while self.range < TOP:
            self.range <<= 8
            self._pull()

    @property
    def silent(self) -> bool:
        """Whether all bits that follow are 0."""
        return self.code == 0 and self.at >= len(self.data)

    def _pull(self) -> None:
        if self.code and self.at > len(self.data) + MOST_DROPPED:
            raise InputError(
                f"the tail residual needs more than the {len(self.data)} bytes that it has; no encoder writes that"
            )
        self.code = (self.code << 8 | (self.data[self.at] if self.at < len(self.data) else 0)) & 0xFFFFFFFF
        self.at += 1


def _adapt(coder: _Encoder | _Decoder, context: int, bit: int) -> None:
    """Move the context's probability of 0, in 1/32768, at two speeds; both stay inside 1/128 of the ends."""
    target = 128 if bit else (1 << ONE_BITS) - 128
    coder.fast[context] += (target - coder.fast[context]) >> FAST
    coder.slow[context] += (target - coder.slow[context]) >> SLOW


def _pack_levels(levels: np.ndarray, limit: int) -> bytes | None:
    """The coded bytes, or None if there are more than ``limit``."""
    coder = _Encoder(limit + 8)
    if _code_levels(coder, levels) is None:
        return None
    packed = coder.finish()
    return packed if len(packed) <= limit else None


def _code_levels(coder: _Encoder | _Decoder, levels: np.ndarray) -> np.ndarray | None:
    """Run the syntax over [C, rows, columns, 64]: an encoder reads the levels, a decoder fills them in.

    None if the encoder is full before the end.
    """
    channels, rows, columns, _ = levels.shape
    coded = np.zeros((channels + 1, rows + 1, columns + 1), np.int8)
    present = levels.any(3)
    for channel in range(channels):
        for row in range(rows):
            for column in range(columns):
                if isinstance(coder, _Decoder) and coder.silent:
                    return levels
                neighbours = coded[channel + 1, row, column + 1] + coded[channel + 1, row + 1, column]
                context = CODED + 3 * coded[channel, row + 1, column + 1] + neighbours
                flag = coder.bit(context, int(present[channel, row, column]))
                coded[channel + 1, row + 1, column + 1] = flag
                if flag:
                    block = levels[channel, row, column]
                    block[:] = _code_block(coder, block.tolist())
            if isinstance(coder, _Encoder) and coder.full:
                return None
    return levels


def _code_block(coder: _Encoder | _Decoder, block: list[int]) -> list[int]:
    last = max((at for at, level in enumerate(block) if level), default=0)
    before = 0
    for at in range(BLOCK * BLOCK):
        final = at == BLOCK * BLOCK - 1
        significant = 1
        if not final or before == 0:
            significant = coder.bit(SIGNIFICANT + 3 * BAND[at] + min(before, 2), int(block[at] != 0))
        if not significant:
            block[at] = 0
            continue
        block[at] = _code_level(coder, block[at], BAND[at])
        before = min(before + abs(block[at]), 2)
        if not final and coder.bit(LAST + BAND[at], int(at == last)):
            return block[: at + 1] + [0] * (BLOCK * BLOCK - 1 - at)
    return block


def _code_level(coder: _Encoder | _Decoder, level: int, band: int) -> int:
    """Magnitude 1, 2, ... 14 in unary with contexts, the rest in Exp-Golomb, then the sign."""
    group, magnitude = min(band, 2) * 14, 1
    while magnitude < 15 and coder.bit(GREATER + group + magnitude - 1, int(abs(level) > magnitude)):
        magnitude += 1
    if magnitude == 15:
        magnitude += _code_golomb(coder, abs(level) - 15)
    return -magnitude if coder.raw(int(level < 0)) else magnitude


def _code_golomb(coder: _Encoder | _Decoder, value: int) -> int:
    length = 0
    while length < 24 and coder.raw(int((value + 1) >> length + 1 != 0)):
        length += 1
    found = 1
    for shift in range(length - 1, -1, -1):
        found = found << 1 | coder.raw((value + 1) >> shift & 1)
    return found - 1
