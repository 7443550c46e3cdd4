"""The job that every engine runs, in the parts that are the same for all Python ones.

In: clicks as JSON, keyed by user_id. State: `interest = interest * 0.9 + item vector`, 64 float32,
one changelog record of its bytes. Out: one record of 200 B per event that echoes the event's offset
and carries two stamps, so that outputs can be matched to events. The Java peer does the same by
hand.

Knows no broker client.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

DIM = 64
DECAY = np.float32(0.9)
OUTPUT_BYTES = 200
PARTITIONS = 4
SPEC_VARIABLE = "BENCH_JOB"


class Spec(msgspec.Struct, frozen=True):
    """What a job's process is told, as JSON in one environment variable.

    `run` is unique to this run of this job; every topic, group and application name begins with it.
    """

    run: str
    bootstrap: str
    source: str
    output: str
    changelog: str
    vectors: str
    folder: str
    users: int
    low_latency: bool = False
    bundle: str | None = None

    @classmethod
    def from_environment(cls) -> Spec:
        """Read the specification that the harness left for this process."""
        return msgspec.json.decode(os.environ[SPEC_VARIABLE], type=cls)

    def environment(self) -> dict[str, str]:
        """Make the environment of a job's process."""
        return {**os.environ, SPEC_VARIABLE: msgspec.json.encode(self).decode()}


class Click(msgspec.Struct):
    """The two fields that the job needs; the others are parsed and passed over."""

    user_id: str
    item_id: str


_CLICKS = msgspec.json.Decoder(list[Click])


def decode_clicks(values: Sequence[bytes]) -> list[Click]:
    """Decode a batch of clicks in one parse."""
    return _CLICKS.decode(b"[" + b",".join(values) + b"]")


def read_vectors(path: str | Path) -> NDArray[np.float32]:
    """Read the item vectors, float32 [items, DIM]; item `i<row>` has row `row`."""
    return np.fromfile(path, dtype="<f4").reshape(-1, DIM)


def rows_by_item(count: int) -> dict[str, int]:
    """Map external item ids to rows of the item vectors."""
    return {f"i{row}": row for row in range(count)}


def now_us() -> int:
    """Microseconds on the one clock that all processes of the machine share."""
    return time.time_ns() // 1000


def output_values(offsets: Sequence[int], picked_us: int, sent_us: int) -> list[bytes]:
    """Make one 200 B output per event: its offset, when it was picked up, when it was sent on."""
    table = np.zeros((len(offsets), OUTPUT_BYTES // 8), dtype="<i8")
    table[:, 0] = offsets
    table[:, 1] = picked_us
    table[:, 2] = sent_us
    raw = table.tobytes()
    return [raw[at : at + OUTPUT_BYTES] for at in range(0, len(raw), OUTPUT_BYTES)]


def read_output(value: bytes) -> tuple[int, int, int]:
    """Read an output: source offset, picked up and sent on, both in microseconds."""
    offset, picked_us, sent_us = np.frombuffer(value, dtype="<i8", count=3).tolist()
    return offset, picked_us, sent_us


class Interests:
    """Interest vectors by key, folded in batches: the vectorised state of the Python jobs."""

    def __init__(self, vectors: NDArray[np.float32], capacity: int = 1024) -> None:
        self.keys: list[bytes] = []
        self._vectors = vectors
        self._slot_by_key: dict[bytes, int] = {}
        self._matrix = np.zeros((capacity, DIM), dtype=np.float32)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes held by the matrix."""
        return self._matrix.nbytes

    def slots(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Slots of `keys`, int64 [n]; unseen keys get new zero vectors."""
        known = self._slot_by_key
        found: list[Any] = [known.get(key) for key in keys]
        if None in found:
            for position, key in enumerate(keys):
                if found[position] is None:
                    slot = known.get(key)
                    if slot is None:
                        slot = known[key] = len(self.keys)
                        self.keys.append(key)
                    found[position] = slot
            if len(self.keys) > len(self._matrix):
                larger = np.zeros((2 * len(self.keys), DIM), dtype=np.float32)
                larger[: len(self._matrix)] = self._matrix
                self._matrix = larger
        return np.array(found, dtype=np.int64)

    def fold(self, keys: Sequence[bytes], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Fold one event per key, in order; answer the touched slots, int64 [touched].

        Several events of one key are folded one after the other: round r takes every key's r-th
        event.
        """
        slots = self.slots(keys)
        order = np.argsort(slots, kind="stable")
        ordered = slots[order]
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        rank = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.append(starts, len(ordered))))
        matrix = self._matrix
        for turn in range(int(rank.max()) + 1):
            chosen = order[rank == turn]
            here = slots[chosen]
            matrix[here] = matrix[here] * DECAY + self._vectors[rows[chosen]]
        return ordered[starts]

    def encoded(self, slots: NDArray[np.int64]) -> list[bytes]:
        """Bytes of the vectors in `slots`, as the changelog has them."""
        raw = self._matrix[slots].tobytes()
        width = DIM * 4
        return [raw[at : at + width] for at in range(0, len(raw), width)]

    def load(self, keys: list[bytes], values: list[bytes | None]) -> None:
        """Take vectors from the changelog; a later one of the same key wins, nothing is deleted."""
        pairs = zip(keys, values, strict=True)
        newest = {key: value for key, value in pairs if value is not None}
        if newest:
            slots = self.slots(list(newest))
            self._matrix[slots] = np.frombuffer(b"".join(newest.values()), "<f4").reshape(-1, DIM)
