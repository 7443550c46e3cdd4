"""Kafka's compressions undone, up to a limit. In: a payload. Out: bytes, or that they are too many.

Memory stays near the limit whatever the payload claims. Knows nothing of records.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import cramjam
import lz4.frame
import zstandard

_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16
_MAX_WINDOW_BYTES: Final = 32 << 20  # zstd takes this much at once, for levels above 19


class TooLargeError(Exception):
    """The payload unpacks to more than the limit."""


def unpacked(codec: int, payload: memoryview, limit: int) -> bytes:
    """What a payload unpacks to.

    Parameters
    ----------
    codec : as in the attributes of a record batch, 1 to 4
    limit : bytes

    Raises
    ------
    TooLargeError : it would be more than `limit`
    Exception : of any kind, by codec: the payload is damaged
    """
    found = _CODECS[codec](payload, limit)
    if len(found) > limit:
        raise TooLargeError
    return found


def _gzip(payload: memoryview, limit: int) -> bytes:
    return gzip.GzipFile(fileobj=BytesIO(payload)).read(limit + 1)


def _snappy(payload: memoryview, limit: int) -> bytes:
    """Snappy's own format, or the Java library's of blocks, each with its length before it."""
    if bytes(payload[: len(_XERIAL)]) != _XERIAL:
        return _snappy_block(payload, limit)
    found = bytearray()
    at = _XERIAL_HEADER_BYTES
    while at < len(payload):
        (size,) = struct.unpack_from(">i", payload, at)
        at += 4
        if not 0 < size <= len(payload) - at:
            raise ValueError("a snappy block is longer than what there is")
        found += _snappy_block(payload[at : at + size], limit - len(found))
        at += size
    return bytes(found)


def _snappy_block(block: memoryview, limit: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(block) > limit:
        raise TooLargeError
    return bytes(cramjam.snappy.decompress_raw(block))


def _lz4(payload: memoryview, limit: int) -> bytes:
    decompressor = lz4.frame.LZ4FrameDecompressor()
    found: bytes = decompressor.decompress(payload, max_length=limit + 1)
    if len(found) <= limit and not decompressor.eof:
        raise EOFError("the lz4 frame ends early")
    return found


def _zstd(payload: memoryview, limit: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    return decompressor.stream_reader(payload, read_across_frames=True).read(limit + 1)


_CODECS: Final[dict[int, Callable[[Any, int], bytes]]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
