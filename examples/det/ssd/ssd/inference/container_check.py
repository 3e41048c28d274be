"""Check that a video file is complete: walk over the elements of its container without decoding.

FFmpeg skips damaged parts of a file, and ends at the end of a truncated file, without an error that OpenCV reports.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

# Top-level boxes of MP4 and MOV files.
_BOXES = set(b"ftyp styp moov mdat moof mfra sidx ssix prft meta uuid udta pdin pnot wide free skip".split())
# Element ids of Matroska and WebM, RFC 9559.
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0xAF, 0x5854, 0xEC, 0xBF}


class _DamagedError(Exception):
    """An element of the container is not valid, or ends behind its parent."""


class ContainerCheck(NamedTuple):
    """Result of the check of a video file.

    is_damaged: True if the file is truncated or damaged. None if the container is not supported, or was not completed
        by its writer and stores no sizes.
    counts_frames: True if the container stores the exact number of frames, rather than only a duration
    """

    is_damaged: bool | None
    counts_frames: bool = False


def check_container(path: Path) -> ContainerCheck:
    """Check that a video file is not truncated or damaged. Damage inside of frames is not noticed.

    Supports the containers MP4 and MOV, AVI, Matroska and WebM, and MPEG transport streams.
    Raises OSError if the file cannot be read.
    """
    with open(path, "rb") as file:
        size, head = os.fstat(file.fileno()).st_size, file.read(12)
        file.seek(0)
        is_iso = head[4:8] in _BOXES
        try:
            if is_iso:
                return ContainerCheck(is_damaged=False, counts_frames=b"moof" not in _walk_boxes(file, size))
            if head[:4] == b"RIFF" and head[8:] == b"AVI ":
                return ContainerCheck(_check_chunks(file, end=size))
            if head[:4] == b"\x1a\x45\xdf\xa3":
                return ContainerCheck(_check_elements(file, end=size))
        except _DamagedError:
            return ContainerCheck(is_damaged=True, counts_frames=is_iso)
    return ContainerCheck(_check_transport_stream(path) if size else None)


def _walk_boxes(file: BinaryIO, file_size: int) -> set[bytes]:
    """Walk over the top-level boxes of an ISO base media file (ISO/IEC 14496-12). Returns the kinds of the boxes."""
    kinds, position = set(), 0
    while position + 8 <= file_size:
        file.seek(position)
        size, kind = struct.unpack(">I4s", file.read(8))
        kinds.add(kind)
        if kind not in _BOXES or size == 0:  # data that a camera appended, or a box that lasts until the end
            return kinds
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        if size < 8:
            raise _DamagedError
        position += size
    if position > file_size:
        raise _DamagedError
    return kinds


def _check_transport_stream(path: Path) -> bool | None:
    """Return True if a packet of an MPEG transport stream does not start with a sync byte, or is cut off.

    Returns None if the file is not a transport stream.
    """
    content = np.memmap(path, mode="r")
    for length, offset in ((188, 0), (192, 4)):  # .ts, and .m2ts with the time of arrival before each packet
        sync = content[offset::length] == 0x47
        if len(sync) >= 5 and sync[:5].all():
            return len(content) % length != 0 or not sync.all()
    return None


def _check_chunks(file: BinaryIO, end: int) -> bool | None:
    """Walk over the chunks of an AVI file up to the position `end`. Returns False if all chunks are valid.

    Returns None if a list has the size 0, because its writer was stopped.
    """
    while (position := file.tell()) + 8 <= end:
        kind, size = struct.unpack("<4sI", file.read(8))
        if not all(0x20 <= byte < 0x7F for byte in kind):
            raise _DamagedError
        chunk_end = position + 8 + size
        if kind in (b"RIFF", b"LIST"):
            if size == 0:
                return None
            list_kind = file.read(4)
            if chunk_end > end:
                raise _DamagedError
            if list_kind in (b"AVI ", b"AVIX", b"movi", b"rec ") and _check_chunks(file, chunk_end) is None:
                return None
        if chunk_end > end:
            raise _DamagedError
        file.seek(chunk_end + size % 2)
    return False


def _check_elements(file: BinaryIO, end: int, allowed: set[int] | None = None) -> bool | None:
    """Walk over the elements of a Matroska file up to the position `end`. Returns False if all elements are valid.

    allowed: valid ids; None for all
    Returns None if an element has an unknown size, as in live recordings.
    """
    while file.tell() < end:
        element = _read_number(file, max_bytes=4, keep_marker=True)
        size = _read_number(file, max_bytes=8, keep_marker=False)
        if size < 0:
            return None
        element_end = file.tell() + size
        if element_end > end or (allowed and element not in allowed):
            raise _DamagedError
        if element in (_SEGMENT, _CLUSTER):
            inside = _check_elements(file, element_end, allowed=_IN_CLUSTER if element == _CLUSTER else None)
            if inside is None:
                return None
        file.seek(element_end)
    return False


def _read_number(file: BinaryIO, max_bytes: int, keep_marker: bool) -> int:
    """Read an EBML number of variable length (RFC 8794). Returns -1 for a size in which all bits are set: unknown."""
    first = file.read(1)
    length = 9 - first[0].bit_length() if first else 9
    rest = file.read(length - 1)
    if length > max_bytes or len(rest) < length - 1:
        raise _DamagedError
    number = int.from_bytes(first + rest, "big")
    value = number - (1 << 7 * length)  # the marker bit in front of the value
    if keep_marker:
        return number
    return -1 if value == (1 << 7 * length) - 1 else value
