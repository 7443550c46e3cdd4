"""How long a takeover of 1,000,000 users takes, and whether each state comes back.

    make recovery [USERS=1000000] [ARGS="--bootstrap HOST:PORT"]

Writes their states to a changelog of four partitions, in micro-batches with `applied` records as
the engine does, then takes all four over as a restarted worker would: states of the demo's bundle,
once with a few interactions in each ring and once with full rings. Included: connecting, reading,
decoding into `UserShard`, the fence. Then every state is compared with what was written. Without
--bootstrap it starts an Apache Kafka.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from kafka.admin import NewTopic

from stream.config import Settings
from stream.contracts.partitioner import partitions_of
from stream.core.bundle import read_manifest
from stream.core.state import UserShard
from stream.core.users import EVERYONE, Users
from stream.core.wire import Layout
from stream.demo import sample
from stream.kafka.admin import open_admin
from stream.kafka.applied import APPLIED_KEY, encode_applied
from stream.kafka.batches import Records
from stream.kafka.cluster import Cluster
from stream.kafka.holding import Holding
from stream.kafka.specs import changelog_config
from stream.kafka.takeover import Takeover
from stream.kafka.writer import Writer
from tests.support.kafka import ApacheKafka
from tests.support.runs import bootstrap, told

PARTITIONS = 4
BATCH_USERS = 500
_STATE = read_manifest(sample.BUNDLE).state
LAYOUT = Layout(_STATE.size, _STATE.storage, ring=50, model=1)
REMEMBERED = (6, LAYOUT.ring)  # interactions in each ring: of a few sessions, and as many as fit


def states_of(keys: list[bytes], remembered: int) -> list[bytes]:
    """Changelog values of users with `remembered` interactions each."""
    users = Users.of(UserShard(LAYOUT), keys)
    count = len(users)
    rng = np.random.default_rng(count)
    vectors = rng.standard_normal((count, LAYOUT.state_size), dtype=np.float32)
    users.set_vectors(EVERYONE, vectors)
    for number in range(remembered):
        users.note(
            np.arange(count),
            rng.integers(1, 1 << 62, count).astype(np.uint64),
            np.full(count, 1_795_000_000_000 + number, np.int64),
            rng.integers(1, 1 << 31, count).astype(np.uint32),
            np.full(count, 2, np.uint8),
            np.ones(count, np.bool_),
            np.zeros(count),
        )
    return users.store()


def digest(keys: Iterable[bytes], values: Iterable[bytes]) -> int:
    """A number for these states, in whatever order: the sum of 64 bits of each."""
    return sum(
        int.from_bytes(hashlib.blake2b(value, key=key, digest_size=8).digest())
        for key, value in zip(keys, values, strict=True)
    )


def digest_of(shard: UserShard) -> int:
    """That number of a shard's states, as they would be written."""
    chunks = (shard.keys[at : at + BATCH_USERS] for at in range(0, len(shard), BATCH_USERS))
    return sum(digest(chunk, Users.of(shard, chunk).store()) for chunk in chunks)


def make_takeover(bootstrap: str, topic: str, writer: Writer) -> Takeover:
    return Takeover(
        Cluster(bootstrap),
        topic,
        writer,
        owner=uuid.uuid4().hex,
        new_shard=lambda partition: UserShard(LAYOUT, partition, PARTITIONS),
        timeout_s=60.0,
    )


async def measure(bootstrap: str, users: int, remembered: int, times: int = 3) -> list[float]:
    """Write users and take them over `times` times, printing each; seconds of each.

    Raises
    ------
    BrokerError : nobody answers at `bootstrap`
    """
    topic = f"recovery-{uuid.uuid4().hex[:8]}"
    config = changelog_config(Settings())
    with open_admin(bootstrap) as admin:
        admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=config)])
        try:
            return await measure_on(topic, bootstrap, users, remembered, times)
        finally:
            admin.delete_topics([topic])


async def measure_on(
    topic: str, bootstrap: str, users: int, remembered: int, times: int
) -> list[float]:
    """The same on a topic that is there and empty."""
    print(f"{users:,} users with {remembered} interactions each")
    writer = Writer(Cluster(bootstrap))
    await writer.start()
    took_s = []
    try:
        wrote = await write(bootstrap, topic, writer, users, remembered)
        for _ in range(times):
            holdings: dict[int, Holding] = {}
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            await make_takeover(bootstrap, topic, writer).run(list(range(PARTITIONS)), holdings)
            took_s.append(time.perf_counter() - began_s)
            cpu_s = time.process_time() - began_cpu_s
            found = sum(len(holding.shard) for holding in holdings.values())
            assert found == users, f"{found} users came back"
            restored = sum(digest_of(holding.shard) for holding in holdings.values())
            assert restored == wrote, "a state is another than the one that was written"
            print(f"  recovered in {took_s[-1]:.2f} s (CPU {cpu_s:.2f} s)")
    finally:
        await writer.stop()
    return took_s


async def write(bootstrap: str, topic: str, writer: Writer, users: int, remembered: int) -> int:
    """Write their states to the changelog; their `digest`."""
    holdings: dict[int, Holding] = {}
    await make_takeover(bootstrap, topic, writer).run(list(range(PARTITIONS)), holdings)
    keys = [b"user-%07d" % number for number in range(users)]
    homes = partitions_of(keys, PARTITIONS)
    written = wrote = 0
    for partition, holding in holdings.items():
        mine = [keys[i] for i in np.flatnonzero(homes == partition).tolist()]
        for start in range(0, len(mine), BATCH_USERS):
            chunk = mine[start : start + BATCH_USERS]
            states = states_of(chunk, remembered)
            wrote += digest(chunk, states)
            applied = encode_applied(holding.applied_record("bench"))
            records = Records([*chunk, APPLIED_KEY], [*states, applied])
            batch = await writer.one_batch(records, topic, int(time.time() * 1000))
            written += batch.size()
            await (await writer.send(batch, topic, partition, holding.fence))
    print(f"  changelog: {written / 1e6:.0f} MB, {written / users:.0f} bytes a user")
    return wrote


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit codes of `tests.support.runs`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--bootstrap", type=bootstrap, help="a running Apache Kafka; default: start one"
    )
    parser.add_argument("--users", type=int, default=1_000_000)
    options = parser.parse_args(arguments)
    if options.users < 1:
        parser.error("--users: at least 1")
    return told(lambda: _run(options.bootstrap, options.users))


def _run(brokers: str | None, users: int) -> int:
    with contextlib.ExitStack() as stack:
        if brokers is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            brokers = stack.enter_context(ApacheKafka(Path(folder) / "data")).bootstrap
        for remembered in REMEMBERED:
            asyncio.run(measure(brokers, users, remembered))
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
