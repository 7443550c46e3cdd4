"""A worker with a toy engine, for tests and measurements of the Kafka room alone.

    TOY='{"bootstrap": "...", "group": "...", ...}' python -m tests.support.toy

State: `interest = interest * 0.9 + vector of the item`, 64 float32 per user. Output: one record an
event with its topic's number, partition, offset and the epoch it was sent under. `reference` is the
same fold, event by event, of what a topic holds.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from prometheus_client import start_http_server

from stream.config import Batch, Broker, Settings, Topics
from stream.kafka.batches import Records
from stream.kafka.table import InterestTable, Turn
from stream.kafka.transport import BatchApp, run_worker

DIM = 64
PARTITIONS = 4
ITEMS = 5_000
DECAY = np.float32(0.9)
VECTORS = np.random.default_rng(0).standard_normal((ITEMS, DIM)).astype(np.float32)
ECHO = struct.Struct("<hhqh")  # topic's number, partition, offset, epoch


class Spec(msgspec.Struct, frozen=True):
    """What a toy worker is told, as JSON in TOY.

    `fail_at` raises in the engine at that many events, `hang_at` hangs it there; `stop_after` ends
    the worker once so many are acknowledged and prints how long they took. The agent waits `wait_s`
    before its first batch.
    """

    bootstrap: str
    group: str
    sources: tuple[str, ...]
    output: str
    session_timeout_s: float = 2.0
    commit_every_s: float = 0.2
    max_events: int = 2048
    in_flight: int = 8
    fence_refresh_s: float = 3600.0
    output_bytes: int = 14
    fail_at: int = 0
    hang_at: int = 0
    recovery_timeout_s: float = 20.0
    stop_after: int = 0
    wait_s: float = 0.0
    metrics_port: int = 0


class ToyShard:
    """Rows of float32, one a user."""

    def __init__(self, partition: int) -> None:
        self.slots: dict[bytes, int] = {}
        self.users: list[bytes] = []
        self.states: npt.NDArray[np.float32] = np.zeros((1024, DIM), np.float32)

    def __len__(self) -> int:
        return len(self.users)

    @property
    def nbytes(self) -> int:
        return self.states.nbytes

    def slots_of(self, users: Sequence[bytes]) -> npt.NDArray[np.int64]:
        get = self.slots.get
        found = [get(user, -1) for user in users]
        if -1 in found:
            for i, user in enumerate(users):
                if found[i] < 0:
                    slot = get(user)
                    if slot is None:
                        slot = self.slots[user] = len(self.users)
                        self.users.append(user)
                    found[i] = slot
            if len(self.users) > len(self.states):
                more = max(len(self.users), 2 * len(self.states)) - len(self.states)
                self.states = np.concatenate([self.states, np.zeros((more, DIM), np.float32)])
        return np.array(found, np.int64)

    def load(self, keys: list[bytes], values: list[bytes | None]) -> None:
        slots = self.slots_of(keys)
        rows = np.frombuffer(b"".join(v for v in values if v is not None), np.float32)
        self.states[slots] = rows.reshape(len(keys), DIM)

    def fold(self, users: list[bytes], items: npt.NDArray[np.int64]) -> Records:
        """Fold events in order, several of one user too; the changed states."""
        slots = self.slots_of(users)
        order = np.argsort(slots, kind="stable")
        ordered = slots[order]
        first = np.empty(len(ordered), bool)
        first[0] = True
        np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
        starts = np.flatnonzero(first)
        unique = ordered[starts]
        rank = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.append(starts, len(ordered))))
        states = self.states
        for r in range(int(rank.max()) + 1):
            chosen = order[rank == r]
            at = slots[chosen]
            states[at] = states[at] * DECAY + VECTORS[items[chosen]]
        data = states[unique].tobytes()
        width = DIM * 4
        names = self.users
        return Records(
            [names[slot] for slot in unique.tolist()],
            [data[i : i + width] for i in range(0, len(data), width)],
        )


class Event(msgspec.Struct):
    user_id: str
    item_id: int


_decode = msgspec.json.Decoder(list[Event]).decode


class Toy:
    """The app and what it counted."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.app = BatchApp(toy_settings(spec))
        self.interests = InterestTable(self.app, "toy", ToyShard)
        self.folded = 0
        self.acked = 0
        self.started_s = 0.0
        self.app.agent(self.app.batches(*spec.sources), name="update_interests")(self.run)

    async def run(self, batches: Any) -> None:
        await asyncio.sleep(self.spec.wait_s)
        async for turns in self.interests.turns(batches):
            for turn in turns:
                await self.step(turn)

    async def step(self, turn: Turn) -> None:
        batch = turn.batch
        self.started_s = self.started_s or time.perf_counter()
        spec = self.spec
        skip = sum(offset < turn.applied for offset in batch.offsets)
        keys = [key for key in batch.keys if key is not None]
        changelog = None
        if skip < len(batch):
            values = [v for v in batch.values[skip:] if v is not None]
            events = _decode(b"[" + b",".join(values) + b"]")
            items = np.array([event.item_id for event in events], np.int64)
            changelog = turn.shard.fold([e.user_id.encode() for e in events], items)
            self.folded += len(events)
        if spec.fail_at and self.folded >= spec.fail_at:
            raise ValueError(f"the engine failed at user {batch.keys[0]!r}")
        if spec.hang_at and self.folded >= spec.hang_at:
            await asyncio.Event().wait()
        fence = turn.holding.fence
        epoch = -1 if fence is None else fence.epoch
        number = spec.sources.index(batch.topic)
        pack, pad = ECHO.pack, spec.output_bytes - ECHO.size
        filler = b"x" * pad
        echoes = [pack(number, batch.partition, at, epoch) + filler for at in batch.offsets]
        count = len(batch)
        await turn.commit(
            changelog, {spec.output: Records(keys, echoes)}, lambda: self.on_acked(count)
        )

    def on_acked(self, count: int) -> None:
        self.acked += count
        if self.spec.stop_after and self.acked >= self.spec.stop_after:
            took_s = time.perf_counter() - self.started_s
            print(
                f"RESULT {self.acked / took_s:.0f} events/s, {took_s:.2f} s, "
                f"cpu {time.process_time():.1f} s",
                flush=True,
            )
            os.kill(os.getpid(), 15)


def toy_settings(spec: Spec) -> Settings:
    return Settings(
        bootstrap=spec.bootstrap,
        group=spec.group,
        topics=Topics(partitions=PARTITIONS),
        batch=Batch(max_events=spec.max_events, in_flight=spec.in_flight),
        broker=Broker(
            session_timeout_s=spec.session_timeout_s,
            heartbeat_s=spec.session_timeout_s / 4,
            commit_every_s=spec.commit_every_s,
            recovery_timeout_s=spec.recovery_timeout_s,
            fence_refresh_s=spec.fence_refresh_s,
        ),
    )


def main() -> None:
    spec = msgspec.json.decode(os.environ["TOY"], type=Spec)
    if spec.metrics_port:
        start_http_server(spec.metrics_port, "127.0.0.1")
    toy = Toy(spec)
    run_worker(toy.app)


if __name__ == "__main__":
    main()
