"""What must stand in the topics when all is done: an event-by-event reference, and the verdict.

Written apart from the engine: plain Python bookkeeping and the wire layout spelled out. Only the
arithmetic of one update is the bundle's own graph, run for one event at a time, since the states
are compared bit for bit. The order of clicks against purchases within a partition is read off the
changelog's `applied` records.
"""

from __future__ import annotations

import json
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort

from stream.contracts import EVENT_TYPES, event_hash, item_hash
from stream.core.bundle import Bundle
from tests.chaos.shop import PARTITIONS, Shop

APPLIED_KEY = b"\xff\x00applied"
RING = 50
HEADER = struct.Struct("<BBHBBHIIqqf")
ENTRY = struct.Struct("<QIIB")
IMPRESSION = EVENT_TYPES["impression"]


class Reference:
    """The state of one user, event by event."""

    def __init__(self, bundle: Bundle, session: Any) -> None:
        self._bundle, self._session = bundle, session
        self._row = {item: row for row, item in enumerate(bundle.item_ids)}
        self.vector = np.zeros(bundle.manifest.state.size, np.int8)
        self.scale = np.float32(0)
        self.newest_ms = 0
        self.events = 0
        self.ring: deque[tuple[int, int, int, int]] = deque(maxlen=RING)
        self.remembered = 0

    def fold(self, event: dict[str, Any]) -> None:
        item, time_ms = item_hash(str(event["item_id"])), event["event_time_ms"]
        named = event_hash(event["event_id"])
        if any(old[0] == item and old[2] == named for old in self.ring):
            return
        kind = EVENT_TYPES[event["type"]]
        gap_s = (time_ms - self.newest_ms) / 1000 if self.newest_ms else 0.0
        (following,) = self._session.run(
            None,
            {
                "state": (self.vector.astype(np.float32) * self.scale)[None],
                "item_table": self._bundle.embeddings,
                "item_row": np.array([self._row.get(str(event["item_id"]), 0)]),
                "event_type": np.array([int(kind)]),
                "gap_s": np.array([gap_s], np.float32),
            },
        )
        self.scale = np.abs(following[0]).max() / np.float32(127)
        divisor = self.scale if self.scale > 0 else np.float32(1)
        self.vector = np.rint(following[0] / divisor).astype(np.int8)
        self.newest_ms = max(self.newest_ms, time_ms)
        self.events += 1
        if kind != IMPRESSION:
            self.ring.append((item, time_ms // 1000, named, int(kind)))
            self.remembered += 1

    def encode(self) -> bytes:
        """The changelog value: the ring's slots are filled round and round."""
        head = self.remembered % RING
        entries = list(self.ring)
        if len(entries) == RING:
            entries = entries[RING - head :] + entries[: RING - head]
        header = HEADER.pack(
            2,
            1,
            len(self.vector),
            len(entries),
            head,
            0,
            self._bundle.version,
            self.events,
            self.newest_ms,
            0,
            self.scale,
        )
        return header + self.vector.tobytes() + b"".join(ENTRY.pack(*entry) for entry in entries)


@dataclass
class Verdict:
    """What was found, and what is wrong with it.

    Attributes
    ----------
    wrong_states : users whose newest changelog record is not bit for bit the reference's
    unreflected_events : good events without a list of theirs whose cause is at or after them
    missing_dead_letters : bad records that are not in the dead letters as they were sent
    unapplied : source partitions whose end was not reached by the applied offsets
    owners : most workers that owned one partition, one after the other
    """

    events: int = 0
    bad_records: int = 0
    users: int = 0
    owners: int = 0
    lists: int = 0
    wrong_states: int = 0
    unreflected_events: int = 0
    missing_dead_letters: int = 0
    unapplied: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not (
            self.wrong_states
            or self.unreflected_events
            or self.missing_dead_letters
            or self.unapplied
        )


def check(shop: Shop) -> Verdict:
    """Read every topic of the shop and compare it with the reference."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        shop.bundle.update_onnx, options, providers=["CPUExecutionProvider"]
    )
    verdict = Verdict()
    for partition in range(PARTITIONS):
        _check_partition(shop, partition, session, verdict)
    return verdict


def _check_partition(shop: Shop, partition: int, session: Any, verdict: Verdict) -> None:
    topics = shop.settings.topics
    sources = {topic: shop.read(topic, partition) for topic in (topics.clicks, topics.purchases)}
    events, bad = _sort_out(sources)
    states: dict[bytes, bytes] = {}
    order: list[tuple[str, int]] = []
    reached = dict.fromkeys(sources, 0)
    owners = set()
    for record in shop.read(f"{shop.settings.group}-interests-changelog", partition):
        if record.key() != APPLIED_KEY:
            states[record.key()] = record.value()
            continue
        applied = json.loads(record.value())
        owners.add(applied["owner"])
        for topic, following in applied["next"].items():
            order += [(topic, offset) for offset in range(reached[topic], following)]
            reached[topic] = max(reached[topic], following)
    verdict.owners = max(verdict.owners, len(owners))
    verdict.unapplied += [
        f"{topic}/{partition}" for topic in sources if reached[topic] != len(sources[topic])
    ]
    users: dict[bytes, Reference] = {}
    for at in order:
        if at in events:
            key, event = events[at]
            if key not in users:
                users[key] = Reference(shop.bundle, session)
            users[key].fold(event)
    verdict.events += len(events)
    verdict.bad_records += len(bad)
    verdict.users += len(users)
    verdict.wrong_states += sum(states.get(key) != user.encode() for key, user in users.items())
    verdict.wrong_states += len(states.keys() - users.keys())
    _check_outputs(shop, partition, events, bad, verdict)


def _sort_out(
    sources: dict[str, list[Any]],
) -> tuple[dict[tuple[str, int], tuple[bytes, dict[str, Any]]], dict[tuple[str, int], bytes]]:
    """Good events and bad records by (topic, offset)."""
    events, bad = {}, {}
    for topic, records in sources.items():
        for record in records:
            try:
                event = json.loads(record.value() or b"")
                if event["user_id"].encode() != record.key():
                    raise ValueError("key")
                events[topic, record.offset()] = (record.key(), event)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                bad[topic, record.offset()] = record.value()
    return events, bad


def _check_outputs(
    shop: Shop,
    partition: int,
    events: dict[tuple[str, int], tuple[bytes, dict[str, Any]]],
    bad: dict[tuple[str, int], bytes],
    verdict: Verdict,
) -> None:
    topics = shop.settings.topics
    newest: dict[tuple[bytes, str], int] = {}
    lists = shop.read(topics.recommendations, partition)
    verdict.lists += len(lists)
    for record in lists:
        cause = json.loads(record.value())["cause"]
        assert cause["partition"] == partition
        at = (record.key(), cause["topic"])
        newest[at] = max(newest.get(at, -1), cause["offset"])
    verdict.unreflected_events += sum(
        newest.get((key, topic), -1) < offset for (topic, offset), (key, _) in events.items()
    )
    found = {}
    for record in shop.read(topics.dead_letters, partition):
        headers = dict(record.headers())
        at = (headers["freshet-topic"].decode(), int(headers["freshet-offset"]))
        found[at] = record.value()
    verdict.missing_dead_letters += sum(
        at not in found or (found[at] or b"") != (value or b"") for at, value in bad.items()
    )
