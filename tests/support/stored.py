"""Record batches as a producer would write them, byte by byte, sound ones and others."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cramjam
import lz4.frame
import zstandard
from aiokafka.record.util import calc_crc32c

_PIECE = 1 << 20
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": gzip.compress,
    "snappy": lambda data: bytes(cramjam.snappy.compress_raw(data)),
    "lz4": lambda data: lz4.frame.compress(data, block_linked=False),
    "zstd": zstandard.compress,
}


@dataclass
class Sent:
    """A record; names of headers are text with `surrogateescape`.

    `offset`, from the batch's first, is its place where it is None; `time_ms` is from the batch's.
    """

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    offset: int | None = None
    time_ms: int = 0


SMALLEST_HEADER = b"\0\1"  # no name, and null
TEXT_HEADER = b" " + b"n" * 16 + b" " + b"v" * 16  # lengths of 16 are spaces: all of it is text


def varint(number: int) -> bytes:
    """Zigzag, as Kafka's protocol has it."""
    zigzag = (number << 1) ^ (number >> 63)
    found = bytearray()
    while zigzag >= 0x80:
        found.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*found, zigzag])


def _nullable(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def pack(records: Sequence[Sent]) -> bytes:
    """The records one after the other, not compressed."""
    packed = []
    for number, record in enumerate(records):
        offset = number if record.offset is None else record.offset
        parts = [b"\0", varint(record.time_ms), varint(offset)]
        parts += [_nullable(record.key), _nullable(record.value), varint(len(record.headers))]
        for name, value in record.headers:
            raw = name.encode("utf-8", "surrogateescape")
            parts += [varint(len(raw)), raw, _nullable(value)]
        body = b"".join(parts)
        packed.append(varint(len(body)) + body)
    return b"".join(packed)


def bomb(codec: str, size: int, base: int = 0) -> bytes:
    """A batch of one record, key "u", whose value is `size` zeros; made without taking as much."""
    whole = varint(size) + bytes(size % _PIECE)
    body = b"".join([b"\0", varint(0), varint(0), _nullable(b"u")])
    length = len(body) + len(varint(size)) + size + 1
    first = varint(length) + body + whole
    pieces = [first, *[bytes(_PIECE)] * (size // _PIECE), varint(0)]
    return stored(
        [Sent(None, None)], codec=codec, base=base, spoil=lambda _: _packed(codec, pieces)
    )


def bomb_of_headers(
    count: int,
    base: int = 0,
    records: int = 1,
    header: bytes = SMALLEST_HEADER,
    said: int | None = None,
    attributes: bytes = b"\0",
) -> bytes:
    """A batch by zstd whose records have `count` headers each.

    Parameters
    ----------
    header : each of them, with its lengths
    said : how many records the batch claims to have
    attributes : of a record; aiokafka takes a varint
    """
    packed = []
    for number in range(records):
        numbers = [attributes, varint(0), varint(number)]
        fields = [*numbers, _nullable(b"u"), _nullable(b"x"), varint(count)]
        body = b"".join(fields) + header * count
        packed.append(varint(len(body)) + body)
    sent = [Sent(None, None)] * (said or records)
    return stored(sent, codec="zstd", base=base, records=b"".join(packed))


def _packed(codec: str, pieces: list[bytes]) -> bytes:
    if codec == "gzip":
        packer = zlib.compressobj(wbits=31)
        return b"".join([*map(packer.compress, pieces), packer.flush()])
    if codec == "zstd":
        zstd = zstandard.ZstdCompressor().compressobj()
        return b"".join([*map(zstd.compress, pieces), zstd.flush()])
    if codec == "lz4":
        with lz4.frame.LZ4FrameCompressor(block_linked=False, auto_flush=True) as frame:
            return b"".join([frame.begin(), *map(frame.compress, pieces), frame.flush()])
    blocks = {piece: bytes(cramjam.snappy.compress_raw(piece)) for piece in set(pieces)}
    sized = {piece: struct.pack(">i", len(block)) + block for piece, block in blocks.items()}
    return b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + b"".join(sized[p] for p in pieces)


def stored(
    sent: Sequence[Sent],
    *,
    codec: str = "none",
    base: int = 0,
    timestamp_ms: int = 1_795_000_000_000,
    records: bytes | None = None,
    spoil: Callable[[bytes], bytes] = lambda payload: payload,
) -> bytes:
    """A whole batch with a right checksum.

    Parameters
    ----------
    records : in place of the packed `sent`
    spoil : what happens to the compressed payload
    """
    payload = spoil(_COMPRESS[codec](pack(sent) if records is None else records))
    header = struct.pack(
        ">qiibIhiqqqhii",
        base,
        0,
        0,
        2,
        0,
        CODECS.index(codec),
        len(sent) - 1,
        timestamp_ms,
        timestamp_ms,
        -1,
        -1,
        -1,
        len(sent),
    )
    return seal(bytearray(header + payload))


def seal(batch: bytearray) -> bytes:
    """Put length and checksum right."""
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))
    return bytes(batch)
