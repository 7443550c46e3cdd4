"""Open-loop load and its subscriber in one process, so that one clock reads send and receipt.

In: where to send and where to listen. Out: one JSON line with percentiles. Clicks leave at Poisson
times whether or not anything answers; each is matched to the first record that reflects it:

- `echo`  the output that carries its offset (the state-only jobs);
- `list`  its user's first list whose cause is this event or a later one of that user (the engine);
- `floor` the click itself, read back from its own topic: one hop, no engine.

Knows nothing of who answers.
"""

from __future__ import annotations

import bisect
import random
import sys
import threading
import time
from typing import Any, Literal

import msgspec
import numpy as np
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from numpy.typing import NDArray

from tests.bench.interest import PARTITIONS, now_us, read_output
from tests.bench.workload import ITEMS, partitions_of_users

_FIRST_ANSWER_S = 90.0
_STRAGGLERS_S = 2.0
_LEADER_TRIES = 50


class Load(msgspec.Struct, frozen=True):
    """What to send and where to listen; the one argument, as JSON."""

    bootstrap: str
    source: str
    listen: str
    mode: Literal["echo", "list", "floor"]
    rate_hz: float
    warm_up_s: float
    seconds: float
    users: int


class Percentiles(msgspec.Struct):
    """Milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float


class Result(msgspec.Struct):
    """What the client saw after the warm-up."""

    sent: int
    answered: int
    send_to_receipt: Percentiles
    # How late the generator itself was: above a millisecond, the machine was short of CPU.
    lateness: Percentiles
    # Parts of the way, by the stamps in the record: name -> milliseconds.
    parts: dict[str, Percentiles]


class _Cause(msgspec.Struct):
    offset: int


class _List(msgspec.Struct):
    cause: _Cause
    generated_ms: int


_LISTS = msgspec.json.Decoder(_List)


def percentiles(values_us: NDArray[Any]) -> Percentiles:
    """Summarise microseconds as milliseconds."""
    p50, p90, p99 = (np.percentile(values_us, [50, 90, 99]) / 1000.0).tolist()
    return Percentiles(p50, p90, p99, float(values_us.max()) / 1000.0)


class Subscriber(threading.Thread):
    """Notes every record of a topic with the time of its receipt."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(name="subscriber", daemon=True)
        self.records: list[tuple[int, int, bytes, bytes | None, int]] = []
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "bench-latency",
                "enable.auto.commit": False,
                "fetch.queue.backoff.ms": 1,
                "socket.nagle.disable": True,
            }
        )
        ends = [TopicPartition(topic, part) for part in range(PARTITIONS)]
        for place in ends:
            place.offset = self._end(place)
        self._consumer.assign(ends)
        self._stopping = False

    def _end(self, place: TopicPartition) -> int:
        """The offset after the newest record; a topic made a moment ago may have no leader yet."""
        for _ in range(_LEADER_TRIES):
            try:
                end: int = self._consumer.get_watermark_offsets(place, timeout=10)[1]
                return end
            except KafkaException:
                time.sleep(0.2)
        raise TimeoutError(f"{place.topic}, partition {place.partition}: no leader")

    def run(self) -> None:
        """Listen until stop()."""
        while not self._stopping:
            record = self._consumer.poll(0.2)
            received_us = now_us()
            if record is None:
                continue
            partition, offset, key = record.partition(), record.offset(), record.key()
            if partition is not None and offset is not None and key is not None:
                self.records.append((partition, offset, key, record.value(), received_us))

    def stop(self) -> None:
        """End the thread and its consumer."""
        self._stopping = True
        self.join()
        self._consumer.close()


class Generator:
    """Sends clicks and notes when; the only writer of its topic, so it knows each one's offset."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.users: list[int] = []
        self.partitions: list[int] = []
        self.offsets: list[int] = []
        self.sent_us: list[int] = []
        self.late_us: list[float] = []
        self._next = [0] * PARTITIONS
        self._partition_by_user = partitions_of_users(load.users).tolist()
        self._random = random.Random(7)
        self._producer = Producer(
            {
                "bootstrap.servers": load.bootstrap,
                "linger.ms": 0,
                "enable.idempotence": True,
                "socket.nagle.disable": True,
            }
        )

    def send(self) -> None:
        """Send one click of a random user on a random item."""
        user = self._random.randrange(self.load.users)
        partition = self._partition_by_user[user]
        sent_us = now_us()
        self._producer.produce(
            self.load.source,
            key=b"u%d" % user,
            value=b'{"event_id":"l%d","user_id":"u%d","item_id":"i%d",'
            b'"type":"click","event_time_ms":%d}'
            % (len(self.users), user, self._random.randrange(ITEMS), sent_us // 1000),
            partition=partition,
        )
        self.users.append(user)
        self.partitions.append(partition)
        self.offsets.append(self._next[partition])
        self.sent_us.append(sent_us)
        self._next[partition] += 1

    def run(self, seconds: float) -> None:
        """Send at Poisson times for so long."""
        due = time.perf_counter()
        end = due + seconds
        while due < end:
            wait_s = due - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            self.late_us.append((time.perf_counter() - due) * 1e6)
            self.send()
            self._producer.poll(0)
            due += self._random.expovariate(self.load.rate_hz)

    def flush(self) -> None:
        """Wait until everything was delivered."""
        self._producer.flush(10)


def match(
    load: Load, generator: Generator, subscriber: Subscriber, first: int
) -> tuple[NDArray[np.int64], list[str]]:
    """Match the clicks from number `first` on to what reflects them.

    Returns
    -------
    int64 [matched, 2 + stamps]: sent, the record's own stamps, received, all in microseconds; and
    the names of the parts between them.
    """
    rows: list[list[int]] = []
    clicks = list(
        zip(
            generator.users, generator.partitions, generator.offsets, generator.sent_us, strict=True
        )
    )[first:]
    if load.mode == "list":
        offsets_by_key: dict[bytes, list[int]] = {}
        stamps_by_key: dict[bytes, list[list[int]]] = {}
        for _, _, key, value, received_us in subscriber.records:
            if value is None:
                continue  # a forgotten user
            answer = _LISTS.decode(value)
            newest = offsets_by_key.setdefault(key, [])
            if not newest or answer.cause.offset > newest[-1]:
                newest.append(answer.cause.offset)
                # Half a millisecond on: the stamp is in whole ones, cut off.
                stamps = [answer.generated_ms * 1000 + 500, received_us]
                stamps_by_key.setdefault(key, []).append(stamps)
        for user, _, offset, sent_us in clicks:
            key = b"u%d" % user
            at = bisect.bisect_left(offsets_by_key.get(key, []), offset)
            if at < len(stamps_by_key.get(key, [])):
                rows.append([sent_us, *stamps_by_key[key][at]])
        return np.array(rows), ["send to list made", "list made to receipt"]
    answers: dict[tuple[int, int], list[int]] = {}
    for partition, own_offset, _, value, received_us in subscriber.records:
        if load.mode == "floor":
            answers.setdefault((partition, own_offset), [received_us])
        elif value is not None:
            offset, picked_us, passed_us = read_output(value)
            answers.setdefault((partition, offset), [picked_us, passed_us, received_us])
    for _, partition, offset, sent_us in clicks:
        if found := answers.get((partition, offset)):
            rows.append([sent_us, *found])
    if load.mode == "floor":
        return np.array(rows), ["send to receipt"]
    return np.array(rows), ["send to picked up", "folded and encoded", "passed on to receipt"]


def main() -> int:
    """Send, listen, match, print one JSON line."""
    load = msgspec.json.decode(sys.argv[1], type=Load)
    sys.setswitchinterval(0.0005)  # two threads, one interpreter: the receipt must not wait 5 ms
    subscriber = Subscriber(load.bootstrap, load.listen)
    subscriber.start()
    generator = Generator(load)
    deadline = time.monotonic() + _FIRST_ANSWER_S
    while not subscriber.records:
        if time.monotonic() > deadline:
            print(f"no answer within {_FIRST_ANSWER_S:g} s", file=sys.stderr)
            return 1
        generator.send()
        generator.flush()
        time.sleep(0.05)
    generator.run(load.warm_up_s)
    print("measuring", flush=True)
    first = len(generator.users)
    generator.late_us.clear()
    generator.run(load.seconds)
    sent = len(generator.users) - first
    print("measured", flush=True)
    generator.flush()
    time.sleep(_STRAGGLERS_S)
    subscriber.stop()
    stamps, names = match(load, generator, subscriber, first)
    if not len(stamps):
        print("none of the clicks was answered", file=sys.stderr)
        return 1
    result = Result(
        sent=sent,
        answered=len(stamps),
        send_to_receipt=percentiles(stamps[:, -1] - stamps[:, 0]),
        lateness=percentiles(np.array(generator.late_us)),
        parts={
            name: percentiles(stamps[:, column + 1] - stamps[:, column])
            for column, name in enumerate(names)
        },
    )
    print(msgspec.json.encode(result).decode(), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
