"""What a text model keeps of the rows it has read: keys and values, or the state of a recurrent layer.

Keys and values lie in one buffer per layer with many readers. Rows are only ever appended, so caches that share a
prefix share the buffer that holds it. A fork costs nothing until two of them write to the same row; only then is the
shared prefix copied. A recurrent layer's state stands for all rows before it and cannot be cut to fewer, so there is no
way back in a cache but a fork kept from before. The cache knows nothing of positions or tokens, only of rows.
"""

from __future__ import annotations

import copy
import weakref

import torch

from .attention import Attention

BLOCK = 32


class Cache:
    """What every layer keeps of the rows that a text model has read.

    ``length`` is the number of rows that are valid in all layers. A forward pass calls :meth:`append` once per layer
    of attention, :meth:`keep` once per recurrent layer, and then :meth:`advance`; a pass that is interrupted before
    ``advance`` leaves the cache as it was.

    Buffers are allocated at the first append, on the device and in the dtype of the keys, so that layers may live on
    different devices. ``capacity`` rows are allocated at once; beyond it a layer grows by a quarter and at least by
    ``chunk`` rows, one layer at a time, so that growing never needs a second copy of the whole cache.

    With ``int8`` rows are kept as ggml's Q8_0 keeps weights: 32 numbers as int8 with one float16 scale, amax / 127, so
    that no number moves by more than 1/250 of the largest beside it. Memory is 0.53 of bfloat16. It saves memory, not
    time: each append returns the layer's rows in the dtype of the new keys again.
    """

    def __init__(self, layers: int, capacity: int = 0, chunk: int = 256, int8: bool = False):
        self.length = 0
        self.capacity = capacity
        self.chunk = chunk
        self.int8 = int8
        self._states: dict[int, tuple[torch.Tensor, ...]] = {}
        self._new_states: dict[int, tuple[torch.Tensor, ...]] = {}
        self._buffers = _Buffers(layers)
        self._buffers.readers.add(self)

    def append(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write ``key`` and ``value`` [kv_heads, n, head_dim] after the valid rows of ``layer``.

        Returns all keys and all values of the layer, each [kv_heads, length + n, head_dim] with contiguous rows.
        Without ``int8`` they are views of the buffer: the next append may write after them, never into them.
        """
        start, stop = self.length, self.length + key.shape[1]
        rows, scales = self.reserve(layer, key), self._buffers.scales[layer]
        if scales is None:
            rows[0, :, start:stop] = key
            rows[1, :, start:stop] = value
            return _restored(rows, None, stop, key.dtype)
        for plane, new in enumerate((key, value)):
            blocks = new.float().unflatten(-1, (-1, BLOCK))
            scale = (blocks.abs().amax(-1) / 127).half().clamp_(min=2**-24)
            rows[plane, :, start:stop] = (blocks / scale[..., None]).round_().clamp_(-127, 127).flatten(-2)
            scales[plane, :, start:stop] = scale
        return _restored(rows, scales, stop, key.dtype)

    def attend(self, layer: int, query, key, value, attend: Attention) -> torch.Tensor:
        """Append ``key`` and ``value`` and let ``query`` [heads, n, head_dim] attend to all rows; of its shape."""
        key, value = self.append(layer, key, value)
        return attend(query[None], key[None], value[None], causal=True)[0]

    def rows(self, layer: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Keys and values [kv_heads, length, head_dim] of a layer in ``dtype``; None where it holds none."""
        rows, scales = self._buffers.rows[layer], self._buffers.scales[layer]
        if rows is None or not self.length:
            return None
        return _restored(rows, scales, self.length, dtype)

    def reserve(self, layer: int, like: torch.Tensor) -> torch.Tensor:
        """Make room in ``layer`` for as many rows as ``like`` [kv_heads, n, head_dim] has, after the valid ones.

        Returns the buffer [2, kv_heads, capacity, head_dim] of keys and values, for whoever writes the rows himself.
        """
        if any(reader.length > self.length for reader in self._buffers.readers if reader is not self):
            self._leave(self.length)
        self._make_room(layer, self.length + like.shape[1], like)
        return self._buffers.rows[layer]

    def state(self, layer: int) -> tuple[torch.Tensor, ...] | None:
        """What a recurrent ``layer`` kept after the valid rows; None before the first."""
        return self._states.get(layer)

    def keep(self, layer: int, state: tuple[torch.Tensor, ...]) -> None:
        """Take the state of a recurrent ``layer`` after the rows of this pass; it is valid from :meth:`advance` on.

        The tensors are shared with forks, so nobody may write into them afterwards.
        """
        self._new_states[layer] = state

    def advance(self, n: int) -> None:
        """Count the ``n`` rows that every layer has just read as valid, and the states kept after them."""
        self.length += n
        self._states = self._states | self._new_states
        self._new_states = {}

    def fork(self) -> Cache:
        """Return a cache that holds the same rows and goes its own way from there; also a snapshot to come back to.

        Both share memory. While no other living cache holds the row to be written, writing is in place: many questions
        asked one after the other on one video need one buffer. Otherwise the writer first copies its rows.
        """
        other = copy.copy(self)
        other._new_states = {}
        self._buffers.readers.add(other)
        return other

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All buffers and the own states; what forks share is in the list of each of them."""
        states = (tensor for state in self._states.values() for tensor in state)
        held = (*self._buffers.rows, *self._buffers.scales, *states)
        return [tensor for tensor in held if tensor is not None]

    @property
    def nbytes(self) -> int:
        """Bytes of :attr:`tensors`."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def _make_room(self, layer: int, stop: int, like: torch.Tensor) -> None:
        buffers = self._buffers
        old = buffers.rows[layer]
        room = 0 if old is None else old.shape[2]
        if stop <= room:
            return
        capacity = max(self.capacity, stop if room == 0 else max(stop, room + room // 4))
        capacity = -(-capacity // self.chunk) * self.chunk
        heads, _, head_dim = like.shape
        # planes (key, value) x heads x rows x head_dim: one head's rows are contiguous, as attention reads them
        buffers.rows[layer] = like.new_empty((2, heads, capacity, head_dim), dtype=torch.int8 if self.int8 else None)
        if self.int8:
            grown = like.new_empty((2, heads, capacity, head_dim // BLOCK), dtype=torch.float16)
            if old is not None:
                grown[:, :, : self.length] = buffers.scales[layer][:, :, : self.length]
            buffers.scales[layer] = grown
        if old is not None:
            buffers.rows[layer][:, :, : self.length] = old[:, :, : self.length]

    def _leave(self, length: int) -> None:
        shared, own = self._buffers, _Buffers(len(self._buffers.rows))
        for layer, (rows, scales) in enumerate(zip(shared.rows, shared.scales, strict=True)):
            if rows is None:
                continue
            own.rows[layer] = torch.empty_like(rows)
            own.rows[layer][:, :, :length] = rows[:, :, :length]
            if scales is not None:
                own.scales[layer] = torch.empty_like(scales)
                own.scales[layer][:, :, :length] = scales[:, :, :length]
        shared.readers.discard(self)
        own.readers.add(self)
        self._buffers = own


def _restored(rows, scales, stop: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """The first ``stop`` keys and values of a buffer: views of it without ``scales``."""
    if scales is None:
        return rows[0, :, :stop], rows[1, :, :stop]
    blocks = rows[:, :, :stop].unflatten(-1, (-1, BLOCK)) * scales[:, :, :stop, :, None].float()
    keys, values = blocks.flatten(-2).to(dtype)
    return keys, values


class _Buffers:
    """Rows [2, kv_heads, capacity, head_dim] per layer, its scales with int8, and who reads them."""

    def __init__(self, layers: int):
        self.rows: list[torch.Tensor | None] = [None] * layers
        self.scales: list[torch.Tensor | None] = [None] * layers
        self.readers: weakref.WeakSet[Cache] = weakref.WeakSet()
