"""What the first bits of a coded frame tell without decoding it: above all, from where on decoding is exact.

Leaving frames undecoded must not change those that are decoded, so everything here is what a codec's specification
guarantees. Where a packet cannot be read with certainty, or a codec gives no such guarantee, nothing is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass

H264_SLICES = (1, 2, 5)
"""nal_unit_type of the NAL units that begin a picture (ITU-T H.264, table 7-1)."""

H264_PARAMETERS = (7, 8, 13, 15)
HEVC_PARAMETERS = (32, 33, 34)
"""nal_unit_type of parameter sets: H.264, table 7-1; ITU-T H.265, table 7-1."""

STILLS = ("prores", "dnxhd", "utvideo", "huffyuv", "ffvhuff", "magicyuv", "v210", "rawvideo", "jpeg2000")
"""Codecs whose every frame carries all that it needs."""

MARKED = ("theora", "ffv1")
"""Codecs whose key frames begin anew, and whose decoders refuse anything else in their stead."""


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What one packet holds.

    Attributes:
        shown: False for a frame that only serves as a reference.
        entry: True where decoding begun here gives this frame, and all that are shown after it, as decoding from the
            beginning does.
        reference: False where no other frame is predicted from this one.
        bidirectional: True where frames after this one in presentation may be stored before it.
        setup: parameter sets or the like in this packet, which may change how later frames are decoded.
    """

    shown: bool = True
    entry: bool = False
    reference: bool = True
    bidirectional: bool = True
    setup: bytes = b""


UNCERTAIN = FrameHeader()
"""What is assumed of a packet that cannot be read: it needs all before it, and all after it need it."""


def header_reader(stream) -> Callable[[bytes, bool], FrameHeader]:
    """A function that reads the header of a packet of ``stream``, given its bytes and the container's key flag."""
    codec = stream.codec_context.codec.canonical_name
    extradata = stream.codec_context.extradata or b""
    if codec == "h264":
        # Old x264 coded lossless 4:4:4 in its own way, which it says in the first packet alone.
        if stream.codec_context.profile == "High 4:4:4 Predictive":
            return lambda data, key: UNCERTAIN
        return lambda data, key: _h264(data, avcc_length_bytes(extradata))
    reorders = stream.codec_context.codec.reorder and stream.codec_context.has_b_frames
    if codec == "hevc":
        return lambda data, key: _hevc(data, hvcc_length_bytes(extradata), reorders)
    if codec in _READERS:
        return lambda data, key: _READERS[codec](data)
    if codec in STILLS:
        return lambda data, key: FrameHeader(entry=True, reference=False, bidirectional=False)
    if codec in MARKED:
        return lambda data, key: FrameHeader(entry=key, bidirectional=False)
    return lambda data, key: FrameHeader(bidirectional=reorders)


def avcc_length_bytes(extradata: bytes) -> int:
    """Bytes of the length in front of each NAL unit (avcC, ISO/IEC 14496-15, 5.3.3.1); 0 for start codes."""
    return (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0


def hvcc_length_bytes(extradata: bytes) -> int:
    """Bytes of the length in front of each NAL unit (hvcC, ISO/IEC 14496-15, 8.3.3.1); 0 for start codes."""
    start_code = extradata[:3] in (b"\0\0\1", b"\0\0\0")
    return (extradata[21] & 3) + 1 if len(extradata) > 22 and not start_code else 0


def nal_units(data: bytes, length_bytes: int) -> list[bytes] | None:
    """The NAL units of an access unit; None where ``data`` is not made of whole units and nothing else.

    They are led by ``length_bytes`` bytes of length or, if 0, by start codes. Bytes alone cannot tell which: a unit of
    256 to 511 bytes has a length that resembles a start code.
    """
    units = []
    if not length_bytes:
        before, *parts = data.split(b"\0\0\1")
        units = [part.rstrip(b"\0") for part in parts]
        return units if units and not before.strip(b"\0") and all(units) else None
    at = 0
    while at + length_bytes < len(data):
        end = at + length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
        if not at + length_bytes < end <= len(data):
            return None
        units.append(data[at + length_bytes : end])
        at = end
    return units if units and at == len(data) else None


def _h264(data: bytes, length_bytes: int) -> FrameHeader:
    """ITU-T H.264: only an IDR picture (7.4.1.2.4) makes a decoder forget all before it.

    A recovery point (D.1.8) promises right pictures, too, but the reference lists of a decoder that begins there lack
    pictures that others count.
    """
    units = nal_units(data, length_bytes)
    slices = [unit for unit in units or () if unit[0] & 31 in H264_SLICES]
    if not slices:
        return UNCERTAIN
    return FrameHeader(
        entry=all(unit[0] & 31 == 5 for unit in slices),
        reference=any(unit[0] >> 5 & 3 for unit in slices),
        bidirectional=any(_slice_type(unit) in (None, 1) for unit in slices),
        setup=b"".join(unit for unit in units if unit[0] & 31 in H264_PARAMETERS),
    )


def _slice_type(unit: bytes) -> int | None:
    """slice_type % 5 of an H.264 slice (7.3.3, 7.4.3: 1 is B), None where it is cut off."""
    payload = unit[1:16].replace(b"\0\0\3", b"\0\0")
    bits, at = int.from_bytes(payload, "big"), len(payload) * 8
    value = None
    for _ in ("first_mb_in_slice", "slice_type"):
        zeros = at - (bits & (1 << at) - 1).bit_length()
        at -= 2 * zeros + 1
        if at < 0:
            return None
        value = (bits >> at & (1 << zeros + 1) - 1) - 1
    return value % 5


def _hevc(data: bytes, length_bytes: int, reorders: bool) -> FrameHeader:
    """ITU-T H.265: pictures shown after an IRAP picture (types 16 to 21) use none that is stored before it (8.3.2)."""
    units = nal_units(data, length_bytes)
    kinds = [(unit[0] >> 1 & 63, unit) for unit in units or () if len(unit) > 1 and unit[0] & 1 == unit[1] >> 3 == 0]
    pictures = [kind for kind, _ in kinds if kind < 32]
    if not pictures:
        return UNCERTAIN
    setup = b"".join(unit for kind, unit in kinds if kind in HEVC_PARAMETERS)
    return FrameHeader(entry=all(16 <= kind <= 21 for kind in pictures), bidirectional=reorders, setup=setup)


def _mpeg4(data: bytes) -> FrameHeader:
    """ISO/IEC 14496-2, 6.3.5: vop_coding_type is 0 for I and 2 for B; what leads up to the VOP sets the decoder up."""
    at = data.find(b"\0\0\1\xb6")
    if not 0 <= at < len(data) - 4 or data.find(b"\0\0\1\xb6", at + 4) >= 0:  # DivX packs two into one packet
        return UNCERTAIN
    kind = data[at + 4] >> 6
    setup = data[:at].split(b"\0\0\1\xb3")[0]
    return FrameHeader(entry=kind == 0, reference=kind != 2, bidirectional=kind == 2, setup=setup)


def _mpeg2(data: bytes) -> FrameHeader:
    """ISO/IEC 13818-2, 6.3.9: picture_coding_type is 1 for I and 3 for B.

    Matrices last until the next sequence header (6.3.11), so only a picture that has one with it is an entry.
    """
    at = data.find(b"\0\0\1\0")
    if not 0 <= at < len(data) - 5:
        return UNCERTAIN
    kind = data[at + 5] >> 3 & 7
    headers = data[:at].split(b"\0\0\1\xb8")[0]
    extension = data.find(b"\0\0\1\xb5", at)
    while extension >= 0 and data[extension + 4 : extension + 5] and data[extension + 4] >> 4 != 3:
        extension = data.find(b"\0\0\1\xb5", extension + 4)
    matrices = data[extension : extension + 280] if extension >= 0 else b""
    return FrameHeader(
        entry=kind == 1 and b"\0\0\1\xb3" in headers,
        reference=kind != 3,
        bidirectional=kind == 3,
        setup=headers + matrices,
    )


def _vp8(data: bytes) -> FrameHeader:
    """RFC 6386, 9.1 and 9.3: a key frame resets all but the map of segments, which it must then bring along."""
    if len(data) < 14:
        return UNCERTAIN
    entry = not data[0] & 1
    if entry:
        # colour space, clamping, segmentation_enabled, update_mb_segmentation_map: four even odds (section 7.3).
        segmented, mapped = _even_odds(data[10:14], 4)[2:]
        entry = mapped or not segmented
    return FrameHeader(shown=bool(data[0] >> 4 & 1), entry=bool(entry), bidirectional=False)


def _even_odds(data: bytes, count: int) -> list[bool]:
    """The first flags of a boolean decoder, each of probability 128 / 256 (RFC 6386, section 7.3)."""
    value, span, flags = int.from_bytes(data[:4], "big"), 255, []
    for _ in range(count):
        split = 1 + ((span - 1) * 128 >> 8)
        flag = value >= split << 24
        value, span = (value - (split << 24), span - split) if flag else (value, split)
        while span < 128:
            value, span = value << 1, span << 1
        flags.append(flag)
    return flags


def _vp9(data: bytes) -> FrameHeader:
    """VP9 bitstream specification 0.6, 6.2 and 7.2: a key frame resets everything.

    Several frames in one packet end with an index (annex B); the last of them is shown.
    """
    if not data or data[0] >> 6 != 2:
        return UNCERTAIN
    skip = 5 if data[0] >> 4 & 3 == 3 else 4  # marker, profile, and one bit more for profile 3
    again, inter, shown = (bool(data[0] << skip + n & 0x80) for n in range(3))
    many = data[-1] & 0xE0 == 0xC0
    return FrameHeader(shown=again or many or shown, entry=not again and not inter and shown, bidirectional=False)


def _av1(data: bytes) -> FrameHeader:
    """AV1 bitstream specification, 5.3 to 5.9: a key frame that is shown at once resets everything (7.20)."""
    at, sequence, entry = 0, b"", None
    while at < len(data):
        kind, extended, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        begin = at + 1 + extended
        if not sized:
            return UNCERTAIN
        length = shift = 0
        while begin < len(data):
            length |= (data[begin] & 127) << shift
            begin, shift = begin + 1, shift + 7
            if not data[begin - 1] & 128:
                break
        at = begin + length
        if kind == 1:
            sequence += data[begin:at]
        if kind in (3, 6) and entry is None and begin < len(data):
            entry = data[begin] & 0xF0 == 0x10  # show_existing_frame 0, frame_type 0 (key), show_frame 1
    return FrameHeader(entry=bool(entry and sequence), bidirectional=False, setup=sequence)


def _mjpeg(data: bytes) -> FrameHeader:
    """ISO/IEC 10918-1, B.2.4: tables last until others are defined, so an entry brings its own."""
    tables = b"\xff\xdb" in data and b"\xff\xc4" in data
    return FrameHeader(entry=tables, bidirectional=False)


_READERS = {
    "mpeg4": _mpeg4,
    "mpeg1video": _mpeg2,
    "mpeg2video": _mpeg2,
    "vp8": _vp8,
    "vp9": _vp9,
    "av1": _av1,
    "mjpeg": _mjpeg,
}
