"""Motion vectors as the encoder wrote them: H.264, MPEG-4 part 2 and MPEG-2, through FFmpeg's exported vectors.

What FFmpeg exports (libavutil/motion_vector.h), and what follows from it:

* One entry for each partition of an inter macroblock, skipped ones included. A macroblock of a P frame that has none is
  therefore intra; of a B frame it may also be predicted in direct mode, so it is unknown.
* No entry says which reference picture it points to, only past or future. It is taken to be the nearest reference
  picture in that direction that was decoded before. H.264 may point further back: of the last four in the past the one
  is taken whose pixels fit best at the vector. For the future direction the nearest stays an assumption.
* Skipped and direct macroblocks of H.264 B frames come out as two zero vectors, whatever their motion is, and so do all
  macroblocks of MPEG-4 part 2 B frames: such a block of a B frame is unknown.
* A frame without any entry may be all intra, all still, or (the last frame of a file) not exported: unknown, unless its
  type is I.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..progress import Progress, no_progress
from ..source.colour import side_data
from ..source.containers import ContainerReader
from ..source.info import Losses
from ..source.reading import Frames, VideoSource
from .motion import predict
from .primitives import BLOCK, Primitives

CODECS = ("h264", "mpeg4", "mpeg2video")

PAST_REFERENCES = 4
"""Past reference pictures of H.264 among which the pixels decide."""

CLEARLY_BETTER = 0.8
"""Fraction of the nearest picture's difference that a farther one must stay below to be taken for the reference."""

FARTHEST_REFERENCE = 32
"""Frames to search for a reference: H.264 keeps at most 16 of them (ITU-T H.264, A.3.1)."""

ASSUMED_FRACTION = 0.25
"""Fraction of a chain's frames in which a block may continue as before without a vector of its own."""

PAST, FUTURE = 0, 1


@dataclass(frozen=True, slots=True)
class CodedFrame:
    """One coded frame of h x w pixels, on macroblocks of 16 x 16; Hb = ceil(h / 16), Wb = ceil(w / 16).

    Attributes:
        index: frame number in the source.
        pts: presentation time in seconds.
        type: 'I', 'P' or 'B'; '?' for anything else.
        size: bytes of its packet.
        mv: float32 [2, Hb, Wb, 2] coded pixels (dx, dy), quarter or half ones included: the block at (x, y) matches
            (x + dx, y + dy) in its past ([0]) or future ([1]) reference; 0 where not known. Of several partitions the
            one nearest to their mean.
        known: bool [2, Hb, Wb], True where ``mv`` was written by the encoder, a written zero included.
        intra: bool [Hb, Wb], True where the block has no reference.
        block: uint8 [Hb, Wb, 2], (width, height) of the smallest partition, 0 where none is known.
        reference: int64 [2, Hb, Wb], frame numbers that the vectors point to; -1 where there is none.
    """

    index: int
    pts: float
    type: str
    size: int
    mv: np.ndarray
    known: np.ndarray
    intra: np.ndarray
    block: np.ndarray
    reference: np.ndarray

    @property
    def unknown(self) -> np.ndarray:
        """bool [Hb, Wb]: neither a vector nor intra."""
        return ~(self.known.any(axis=0) | self.intra)


def read_bitstream(
    source: VideoSource,
    first: int | None = None,
    last: int | None = None,
    progress: Progress = no_progress,
    losses: Losses | None = None,
) -> Iterator[CodedFrame]:
    """Yield the coded frames numbered first..last (the trim window if not given) in presentation order.

    Frames lost to damage are left out and counted in ``losses``. Raises InputError, in one line that names the codec,
    where its vectors cannot be read; the caller then searches for motion in the pixels.
    """
    check_codec(source)
    window = source.window(progress)
    references = References(source)
    first = window[0] if first is None else first
    last = window[1] if last is None else last
    reader, pts = source.reader, source.timeline().pts
    sizes = np.zeros(len(pts), np.int64)
    shown = reader.table.number >= 0
    sizes[reader.table.number[shown]] = reader.table.size[shown]
    brightness: dict[int, np.ndarray] = {}
    for number, frame in reader.decode_frames(first, last, losses or Losses(), {"flags2": "+export_mvs"}):
        progress(number - first, last - first + 1)
        coded = _coded_frame(frame, number, float(pts[number]), int(sizes[number]), source.info.codec, references)
        if source.info.codec == "h264":
            picture = _brightness(frame)
            near = {n: brightness[n] for n in references.past(number) if n in brightness}
            _settle_references(coded, picture, {n: b for n, b in near.items() if b.shape == picture.shape})
            if references.usable[number]:
                brightness[number] = picture
                brightness = {n: brightness[n] for n in sorted(brightness)[-PAST_REFERENCES - 1 :]}
        yield coded


def check_codec(source: VideoSource) -> None:
    """Raise InputError unless the vectors of ``source`` can be read."""
    if not isinstance(source.reader, ContainerReader) or source.info.codec not in CODECS:
        raise InputError(
            f"{source.info.name} is {source.info.codec}, whose motion vectors cannot be read from the bitstream "
            "(those of H.264, MPEG-4 part 2 and MPEG-2 can); search for motion instead"
        )


class References:
    """Which frames a frame is most likely predicted from."""

    def __init__(self, source: VideoSource):
        source.timeline()
        table = source.reader.table
        shown = table.number >= 0
        number = table.number[shown]
        self.usable, self.decoded_at = np.empty(len(number), bool), np.empty(len(number), np.int64)
        self.usable[number] = table.reference[shown]
        self.decoded_at[number] = np.arange(len(number))
        if table.counted and not self.usable.all():
            raise InputError(
                f"{source.info.name} gives no presentation times for its B frames, so that its motion vectors cannot "
                "be ordered; search for motion instead"
            )

    def of(self, number: int) -> np.ndarray:
        """int64 [2]: the nearest past and future reference frames decoded before frame ``number``, -1 for none."""
        return np.array([(self._near(number, step) + [-1])[0] for step in (-1, 1)], np.int64)

    def past(self, number: int) -> list[int]:
        """The nearest past reference frames decoded before frame ``number``, nearest first."""
        return self._near(number, -1)[:PAST_REFERENCES]

    def _near(self, number, step):
        end = min(max(number + step * (FARTHEST_REFERENCE + 1), -1), len(self.usable))
        others = range(number + step, end, step)
        return [n for n in others if self.usable[n] and self.decoded_at[n] < self.decoded_at[number]]


def _coded_frame(frame, number, pts, size, codec, references) -> CodedFrame:
    rows, columns = -(-frame.height // BLOCK), -(-frame.width // BLOCK)
    mv = np.zeros((2, rows, columns, 2), np.float32)
    known = np.zeros((2, rows, columns), bool)
    block = np.zeros((rows, columns, 2), np.uint8)
    kind = "?IPB"[frame.pict_type] if frame.pict_type < 4 else "?"
    exported = side_data(frame, "MOTION_VECTORS")
    if exported is not None:
        _fill(exported.to_ndarray(), mv, known, block)
    if kind == "B" and codec != "mpeg2video":
        known &= ~(known.all(axis=0) & (mv == 0).all(axis=(0, 3))) & (codec == "h264")
    intra = np.full((rows, columns), kind == "I")
    if exported is not None and kind == "P":
        intra = ~known.any(axis=0)
    reference = np.full((2, rows, columns), -1, np.int64)
    if kind != "I":
        reference[:] = references.of(number)[:, None, None]
    return CodedFrame(number, pts, kind, size, mv, known, intra, block, reference)


def _brightness(frame) -> np.ndarray:
    """The first plane of a decoded frame, [h, w], without copying it."""
    plane = frame.planes[0]
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.dtype("<u2")
    rows = np.frombuffer(plane, kind).reshape(-1, plane.line_size // np.dtype(kind).itemsize)
    return rows[: frame.height, : frame.width]


def _settle_references(coded: CodedFrame, picture: np.ndarray, candidates: dict[int, np.ndarray]):
    """Point each past vector of ``coded`` to the candidate whose pixels, 16 of each block, fit it best."""
    where = np.flatnonzero(coded.known[PAST])
    if len(candidates) < 2 or not len(where):
        return
    rows, columns = np.divmod(where, coded.intra.shape[1])
    offset = np.arange(2, BLOCK, 4)
    y = (rows[:, None] * BLOCK + offset)[:, :, None]
    x = (columns[:, None] * BLOCK + offset)[:, None, :]
    height, width = picture.shape
    here = picture[y.clip(0, height - 1), x.clip(0, width - 1)].astype(np.int32)
    motion = np.rint(coded.mv[PAST].reshape(-1, 2)[where]).astype(np.int64)[:, :, None, None]
    y, x = (y + motion[:, 1]).clip(0, height - 1), (x + motion[:, 0]).clip(0, width - 1)
    numbers = sorted(candidates, reverse=True)
    error = np.stack([np.abs(candidates[n][y, x] - here).sum(axis=(1, 2)) for n in numbers]).astype(np.float64)
    error[1:] /= CLEARLY_BETTER
    coded.reference[PAST].reshape(-1)[where] = np.array(numbers)[error.argmin(axis=0)]


def _fill(vectors, mv, known, block):
    """Spread FFmpeg's vectors over the macroblock grid."""
    rows, columns = known.shape[1:]
    y, x = vectors["dst_y"] // BLOCK, vectors["dst_x"] // BLOCK
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns) & (vectors["motion_scale"] > 0)
    vectors, y, x = vectors[inside], y[inside], x[inside]
    direction = np.where(vectors["source"] < 0, PAST, FUTURE)
    cell = (direction * rows + y) * columns + x
    value = np.stack([vectors["motion_x"], vectors["motion_y"]], axis=1) / vectors["motion_scale"][:, None]
    area = vectors["w"].astype(np.float64) * vectors["h"]
    total = np.bincount(cell, area, known.size)
    mean = np.stack([np.bincount(cell, area * value[:, i], known.size) for i in (0, 1)], axis=1)
    mean /= np.maximum(total, 1)[:, None]
    farthest_first = np.argsort(-np.abs(value - mean[cell]).sum(axis=1), kind="stable")
    mv.reshape(-1, 2)[cell[farthest_first]] = value[farthest_first]
    known.reshape(-1)[cell] = True
    largest_first = np.argsort(-area, kind="stable")
    block[y[largest_first], x[largest_first]] = np.stack([vectors["w"], vectors["h"]], axis=1)[largest_first]


def bitstream_primitives(
    source: VideoSource, frames: Frames, lambda_: float = 4.0, progress: Progress = no_progress
) -> Primitives:
    """Motion from each sampled frame to the one before it, chained over all coded frames in between.

    A block's vector over d frames is taken as an even motion of 1 / d of it per frame. From the centre of every block
    of a sample the motion is followed backwards frame by frame up to the sample before; a vector that spans several
    frames also serves those of them where the block has none. A block without any goes on as in the frame after, in at
    most a quarter of the frames. The pixels then decide: a block takes the vector of a direct neighbour that predicts
    it better, and (0, 0) where that does. ``valid`` is False where vectors were missing for longer, and where (0, 0)
    beats a vector of more than a pixel: a cut, a wrong reference picture or a lost frame. ``mv`` is 0 there.

    Args:
        source: what ``frames`` were read from.
        frames: samples, [T, H, W, 3] with H and W multiples of 16.
        lambda_: weight of |dx| + |dy| in ``cost`` (AdaCodec, arXiv 2606.02569).
        progress: called for every coded frame.

    Raises:
        InputError: as ``read_bitstream``.
    """
    height, width = frames.rgb.shape[1:3]
    grid = SampleGrid(source, (height, width))
    count, rows, columns = len(frames), height // BLOCK, width // BLOCK
    mv = np.zeros((count, rows, columns, 2), np.int16)
    valid = np.zeros((count, rows, columns), bool)
    for position, velocities in _between_samples(source, frames.index, progress):
        mv[position], valid[position] = grid.follow(velocities)
    sad = np.zeros((count, rows, columns), np.float32)
    for position in range(1, count):
        pair = frames.rgb[position], frames.rgb[position - 1]
        mv[position], valid[position], sad[position] = _believable(*pair, mv[position], valid[position])
    cost = (sad + lambda_ * np.abs(mv).sum(axis=3, dtype=np.float32)).astype(np.float32)
    reference = np.arange(-1, count - 1, dtype=np.int64)
    size = (height, width)
    return Primitives(mv, reference, cost, sad, valid, frames.index, frames.pts, size, "bitstream")


def _believable(current, reference, mv, valid):
    """(mv, valid, sad) of one frame after comparing each vector with its neighbours' and with (0, 0)."""
    height, width = current.shape[:2]
    rows, columns = valid.shape
    y, x = np.mgrid[0:rows, 0:columns] * BLOCK
    low = np.stack([-x, -y], axis=2)
    high = low + [width - BLOCK, height - BLOCK]
    best, sad = mv, block_sad(current, reference, mv)
    edged = np.pad(np.where(valid[..., None], mv, 0), ((1, 1), (1, 1), (0, 0)), mode="edge")
    for down, right in ((0, 1), (2, 1), (1, 0), (1, 2)):
        other = edged[down : down + rows, right : right + columns].clip(low, high)
        other_sad = block_sad(current, reference, other)
        better = other_sad < sad
        best, sad = np.where(better[..., None], other, best), np.where(better, other_sad, sad)
    still = block_sad(current, reference, np.zeros_like(mv))
    valid = valid & ((sad <= still) | (np.abs(mv).max(axis=2) <= 1))
    moving = valid & (sad < still)
    return np.where(moving[..., None], best, 0), valid, np.where(moving, sad, still)


@dataclass(frozen=True, slots=True)
class Velocity:
    """Motion of one coded frame per frame of time; towards the past, in coded pixels.

    Attributes:
        step: float32 [Hb, Wb, 2].
        known: bool [Hb, Wb].
    """

    step: np.ndarray
    known: np.ndarray


def _between_samples(source, index, progress) -> Iterator[tuple[int, list[Velocity | None]]]:
    """Yield (position of a sample, velocities of its frame and of those back to the sample before, newest first)."""
    last = source.window()[1]
    waiting: list[CodedFrame] = []
    position = 1
    for coded in read_bitstream(source, int(index[0]), last, progress):
        waiting.append(coded)
        # The next anchor's vectors span the B frames before it, so a sample is not chained before that is there.
        while position < len(index) and coded.index >= index[position] and coded.type != "B":
            yield position, _velocities(waiting, int(index[position - 1]), int(index[position]))
            waiting = [frame for frame in waiting if frame.index > index[position]]
            position += 1
        if position == len(index):
            return
    while position < len(index):
        yield position, _velocities(waiting, int(index[position - 1]), int(index[position]))
        position += 1


def _velocities(coded: list[CodedFrame], older: int, newer: int) -> list[Velocity | None]:
    """Velocity of frames newer .. older + 1, each filled up from later frames whose vectors span it; None if lost."""
    by_number: dict[int, Velocity] = {}
    spanning: dict[int, list[Velocity]] = {}
    for frame in sorted(coded, key=lambda frame: -frame.index):
        velocity = _velocity(frame)
        nearest = int(frame.reference[PAST].max())
        for number in range(frame.index - 1, nearest if nearest >= 0 else frame.index, -1):
            spanning.setdefault(number, []).append(velocity)
        for later in reversed(spanning.pop(frame.index, [])):
            if later.known.shape != velocity.known.shape:
                continue
            fill = ~velocity.known & later.known
            velocity.step[fill] = later.step[fill]
            velocity.known[fill] = True
        by_number[frame.index] = velocity
    return [by_number.get(number) for number in range(newer, older, -1)]


def _velocity(frame: CodedFrame) -> Velocity:
    step = np.zeros((*frame.intra.shape, 2), np.float32)
    known = np.zeros(frame.intra.shape, bool)
    for direction in (FUTURE, PAST):
        here = frame.known[direction] & (frame.reference[direction] >= 0)
        step[here] = frame.mv[direction][here] / (frame.index - frame.reference[direction][here])[:, None]
        known |= here
    return Velocity(step, known)


class SampleGrid:
    """The blocks of a sampled picture, found again in the coded one: scaled, and turned back by the orientation."""

    def __init__(self, source: VideoSource, size: tuple[int, int]):
        coded_height, coded_width = source.info.coded_size
        height, width = size
        self.limit = np.array([coded_width, coded_height], np.float64)
        y, x = np.mgrid[BLOCK / 2 : height : BLOCK, BLOCK / 2 : width : BLOCK]
        self.centres = np.stack([x, y], axis=2)
        self.size = np.array([width, height], np.float64)
        orientation = source.reader.orientation
        self.transpose = orientation.transpose
        self.sign = np.where([orientation.flip_columns, orientation.flip_rows], -1.0, 1.0)
        shown = self.limit[::-1] if self.transpose else self.limit
        self.scale = shown / self.size

    def follow(self, velocities: list[Velocity | None]) -> tuple[np.ndarray, np.ndarray]:
        """Chained motion of every block, int16 [Hb, Wb, 2] pixels of the sample, and where it may be believed."""
        at = self._to_coded(self.centres)
        start = at.copy()
        step = np.zeros_like(at)
        assumed, unstarted = np.zeros(at.shape[:2]), np.zeros(at.shape[:2])
        for number, velocity in enumerate(velocities, 1):
            own = np.zeros(at.shape[:2], bool)
            if velocity is not None:
                rows, columns = velocity.known.shape
                x = (at[..., 0] // BLOCK).astype(np.int64).clip(0, columns - 1)
                y = (at[..., 1] // BLOCK).astype(np.int64).clip(0, rows - 1)
                own = velocity.known[y, x]
                step[own] = velocity.step[y, x][own]
            assumed += ~own
            # Frames before the first known vector of the chain move as that one does.
            frames = np.where(own, 1 + unstarted, 1)[..., None]
            unstarted = np.where(own | (assumed < number), 0, assumed)
            at = (at + step * frames).clip(0, self.limit)
        mv = self._shown_vector(at - start)
        low, high = BLOCK / 2 - self.centres, self.size - BLOCK / 2 - self.centres
        mv = np.rint(mv.clip(low, high)).astype(np.int16)
        return mv, assumed <= ASSUMED_FRACTION * len(velocities)

    def _to_coded(self, points):
        flipped = np.where(self.sign < 0, self.size - points, points) * self.scale
        return flipped[..., ::-1] if self.transpose else flipped.copy()

    def _shown_vector(self, vector):
        turned = vector[..., ::-1] if self.transpose else vector
        return turned / self.scale * self.sign


def block_sad(current: np.ndarray, reference: np.ndarray, mv: np.ndarray) -> np.ndarray:
    """float32 [H/16, W/16]: sum of absolute differences of each 16 x 16 x 3 block at ``mv`` (inside the picture)."""
    moved = predict(reference, mv)
    apart = np.maximum(current, moved) - np.minimum(current, moved)
    rows = apart.reshape(len(mv), BLOCK, mv.shape[1], BLOCK * 3).sum(axis=1, dtype=np.uint16)
    return rows.sum(axis=2, dtype=np.float32)
