"""The `applied` record: what a changelog partition's states reflect, and who may write next.

In and out: its JSON form. It is the last record of every changelog record batch, under a key that
no user_id can have (0xFF is not UTF-8), so that states and offsets are appended together or not.
"""

from __future__ import annotations

import msgspec

from stream.errors import StateError

APPLIED_KEY = b"\xff\x00applied"
FORMAT = 1


class Applied(msgspec.Struct, frozen=True):
    """Offsets reflected in the states, and the right under which the record was written.

    Attributes
    ----------
    next : source topic -> offset of the first event that is not in the states
    producer_id, epoch : -1 where there is none: a broker without fencing, or a log not yet claimed
    owner : token of the worker process that wrote it
    """

    next: dict[str, int] = {}
    producer_id: int = -1
    epoch: int = -1
    owner: str = ""
    format: int = FORMAT


class _AnyFormat(msgspec.Struct):
    format: int


NOTHING_APPLIED = Applied()

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Applied).decode
_decode_format = msgspec.json.Decoder(_AnyFormat).decode


def encode_applied(record: Applied) -> bytes:
    return _encode(record)


def decode_applied(value: bytes | None, topic: str, partition: int) -> Applied:
    """Read an `applied` record of changelog `topic`, `partition`.

    Raises
    ------
    StateError : a format that this version does not know, or no such record at all
    """
    where = f"changelog {topic}, partition {partition}"
    try:
        found = _decode_format(value or b"").format
        if found == FORMAT:
            return _decode(value or b"")
    except msgspec.DecodeError as exc:
        raise StateError(
            f"{where}: its `applied` record cannot be read ({exc}). Something else wrote to this "
            f"topic; restore it, or delete it to start with empty states"
        ) from exc
    raise StateError(
        f"{where}: its `applied` record has format {found}, this version reads {FORMAT}. Run the "
        f"version that wrote it, or delete the topic to start with empty states"
    )
