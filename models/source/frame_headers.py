"""What the first bits of a coded frame tell without decoding it."""

H264_SLICES = (1, 2, 5)
"""nal_unit_type of the NAL units that begin a picture (ITU-T H.264, table 7-1)."""


def is_shown(codec: str, packet) -> bool:
    """False for a VP8 frame that only serves as a reference (RFC 6386, section 9.1: the show_frame bit)."""
    return codec != "vp8" or bool(bytes(packet)[0] >> 4 & 1)


def is_reference(codec: str, packet, length_bytes: int = 0) -> bool:
    """False where no other frame can be predicted from this one; True where the codec does not tell.

    H.264: the nal_ref_idc of the first slice (7.4.1), NAL units being led by ``length_bytes`` bytes of length or, if 0,
    by start codes. MPEG-4 part 2 and MPEG-2: B pictures are none (ISO/IEC 14496-2, 6.3.5: vop_coding_type;
    13818-2, 6.3.9: picture_coding_type).
    """
    if codec == "h264":
        return _h264_is_reference(bytes(packet), length_bytes)
    if codec in ("mpeg4", "mpeg2video"):
        data = bytes(packet)
        at = data.find(b"\0\0\1\xb6" if codec == "mpeg4" else b"\0\0\1\0")
        if 0 <= at < len(data) - 5:
            return data[at + 4] >> 6 != 2 if codec == "mpeg4" else data[at + 5] >> 3 & 7 != 3
    return True


def is_entry(codec: str, packet, length_bytes: int = 0) -> bool:
    """False for an H.264 picture marked as a key frame from which decoding is exact only some frames later.

    Intra refresh marks such pictures: their recovery point SEI (ITU-T H.264, D.1.8) has a recovery_frame_cnt above 0,
    which its first bit tells.
    """
    if codec == "h264":
        for unit in _h264_units(bytes(packet), length_bytes):
            if unit[0] & 31 == 5:
                return True
            if unit[0] & 31 == 6 and unit[1:2] == b"\x06" and len(unit) > 3:
                return unit[3] >> 7 == 1
    return True


def h264_length_bytes(extradata: bytes | None) -> int:
    """Bytes of the length in front of each NAL unit (avcC, ISO/IEC 14496-15, 5.3.3.1); 0 for start codes."""
    return (extradata[4] & 3) + 1 if extradata and len(extradata) > 4 and extradata[0] == 1 else 0


def _h264_is_reference(data: bytes, length_bytes: int) -> bool:
    for unit in _h264_units(data, length_bytes):
        if unit[0] & 31 in H264_SLICES:
            return unit[0] >> 5 > 0
    return True


def _h264_units(data: bytes, length_bytes: int):
    """The NAL units of an access unit, none of them empty."""
    if not length_bytes or data.startswith((b"\0\0\0\1", b"\0\0\1")):
        yield from (unit for unit in data.split(b"\0\0\1") if unit.strip(b"\0"))
        return
    at = 0
    while at + length_bytes < len(data):
        end = at + length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
        if end > at + length_bytes:
            yield data[at + length_bytes : end]
        at = end
