"""The `applied` record: what a changelog partition's states reflect, and who may write next.

In and out: its JSON form. It is the last record of every changelog record batch, under a key that
no user_id can have (0xFF is not UTF-8), so that states and offsets are appended together or not.
"""

from __future__ import annotations

import msgspec

from stream.errors import StateError

APPLIED_KEY = b"\xff\x00applied"
FORMAT = 2
_READ = (1, FORMAT)  # 1 had no `keyed_by`


class Applied(msgspec.Struct, frozen=True):
    """Offsets reflected in the states, and the right under which the record was written.

    Attributes
    ----------
    next : source topic -> offset of the first event that is not in the states
    producer_id, epoch : -1 where there is none: a broker without fencing, or a log not yet claimed
    owner : token of the worker process that wrote it
    keyed_by : fingerprint of the secret that made the states' keys; empty where they are user ids
    """

    next: dict[str, int] = {}
    producer_id: int = -1
    epoch: int = -1
    owner: str = ""
    keyed_by: str = ""
    format: int = FORMAT


class _AnyFormat(msgspec.Struct):
    format: int


NOTHING_APPLIED = Applied()

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Applied).decode
_decode_format = msgspec.json.Decoder(_AnyFormat).decode


def encode_applied(record: Applied) -> bytes:
    return _encode(record)


def check_keys(record: Applied, keyed_by: str, topic: str, partition: int) -> None:
    """Refuse states that are kept under other keys than ours.

    Raises
    ------
    StateError : naming the setting
    """
    if record.owner and record.keyed_by != keyed_by:
        theirs = "another secret" if record.keyed_by else "no secret"
        ours = "one" if not record.keyed_by else "a different one" if keyed_by else "none"
        raise StateError(
            f"changelog {topic}, partition {partition}: its users' keys were made with {theirs} "
            f"and this worker has {ours}, so it would find nobody. Set the secret as it was "
            f"(FRESHET_PRIVACY_SECRET, or privacy.secret_file), or start a new group "
            f"(FRESHET_GROUP) to fold the events again"
        )


def decode_applied(value: bytes | None, topic: str, partition: int) -> Applied:
    """Read an `applied` record of changelog `topic`, `partition`.

    Raises
    ------
    StateError : a format that this version does not know, or no such record at all
    """
    where = f"changelog {topic}, partition {partition}"
    try:
        found = _decode_format(value or b"").format
        if found in _READ:
            return _decode(value or b"")
    except msgspec.DecodeError as exc:
        raise StateError(
            f"{where}: its `applied` record cannot be read ({exc}). Something else wrote to this "
            f"topic; restore it, or delete it to start with empty states"
        ) from exc
    raise StateError(
        f"{where}: its `applied` record has format {found}, this version reads "
        f"{', '.join(map(str, _READ))}. Run the "
        f"version that wrote it, or delete the topic to start with empty states"
    )
