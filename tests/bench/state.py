"""What a million users cost in memory, and whether anybody waits while they come and go.

    make memory [USERS=1000000]

States of the demo's bundle with full rings, in shards of six partitions, as a worker has them that
serves all. Prints the resident memory that the process grew by, the longest single step while the
shards grow, and the steps while everybody expires and while the limit evicts; then what erasures
leave in memory, as many as there are users, and how long a batch of them takes. No broker, no
model. Exit code 1: users take more than `MOST_BYTES_A_USER` each.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stream.core.bundle import read_manifest
from stream.core.lifecycle import Limits
from stream.core.state import UserShard
from stream.core.wire import Layout
from stream.demo import sample
from tests.support import runs

PARTITIONS = 6
BATCH_USERS = 500
# What a user with a full ring may take: the state, its key and its place in the index.
MOST_BYTES_A_USER = 1_024
BESIDES_BYTES = 1 << 20  # what the process may take while they come, however many they are
_STATE = read_manifest(sample.BUNDLE).state
LAYOUT = Layout(_STATE.size, _STATE.storage, ring=50, model=1)
BATCH_ERASURES = 2048  # what `batch.max_events` lets into a step
DAY_MS = 86_400_000
NOW_MS = 1_795_000_000_000


def resident_bytes() -> int:
    """Resident memory of this process now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def full_rows(count: int, newest_ms: int) -> np.ndarray:
    """States with full rings and arbitrary contents, `layout.full`, shape (count,)."""
    rng = np.random.default_rng(count)
    noise = rng.integers(1, 255, (count, LAYOUT.max_bytes), np.uint8)
    rows: np.ndarray = noise.view(LAYOUT.full)[:, 0]
    rows["header"] = np.frombuffer(LAYOUT.blank, LAYOUT.full)["header"]
    rows["header"]["ring_used"] = LAYOUT.ring
    rows["header"]["newest_ms"] = newest_ms
    return rows


def keys_of(partition: int, users: int) -> Iterator[list[bytes]]:
    """Keys of a partition's users, batch by batch."""
    for start in range(0, users, BATCH_USERS):
        stop = min(start + BATCH_USERS, users)
        yield [b"user-%d-%07d" % (partition, number) for number in range(start, stop)]


def fill(shard: UserShard, partition: int, users: int) -> list[float]:
    """Let users come; seconds of each step."""
    took_s = []
    for number, keys in enumerate(keys_of(partition, users)):
        rows = full_rows(len(keys), NOW_MS + number)
        began_s = time.perf_counter()
        shard.scatter(shard.slots(keys), rows)
        took_s.append(time.perf_counter() - began_s)
    return took_s


def leave(shard: UserShard, events: int) -> tuple[int, list[float]]:
    """Steps of `events` until nobody leaves any more; how many left, seconds of each step."""
    took_s, left, idle = [], 0, 0
    while idle < 3:
        began_s = time.perf_counter()
        expired, evicted = shard.leave(events, (), now_ms=shard.newest_ms)
        took_s.append(time.perf_counter() - began_s)
        gone = len(expired) + len(evicted)
        left, idle = left + gone, 0 if gone else idle + 1
    return left, took_s


def erase(shard: UserShard, keys: list[bytes]) -> float:
    """Seconds to erase these users."""
    began_s = time.perf_counter()
    for key in keys:
        shard.erase(key, NOW_MS)
    return time.perf_counter() - began_s


def mark(shard: UserShard, partition: int, erasures: int) -> None:
    """Erase users never seen, who leave nothing but their marks."""
    for number, keys in enumerate(keys_of(partition, erasures)):
        for at, key in enumerate(keys):
            shard.erase(key, NOW_MS + number * BATCH_USERS + at)  # each has a time of its own


def is_too_much(grown_bytes: int, users: int) -> bool:
    """Whether memory grew by more than so many users may take."""
    return grown_bytes > MOST_BYTES_A_USER * users + BESIDES_BYTES


def told(took_s: list[float] | NDArray[np.float64]) -> str:
    ms = np.array(took_s) * 1000
    return f"{len(ms):,} steps, median {np.median(ms):.2f} ms, longest {ms.max():.1f} ms"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=1_000_000)
    users = parser.parse_args(arguments).users
    if users < PARTITIONS:
        parser.error(f"--users: at least {PARTITIONS}, one a partition")
    each = users // PARTITIONS
    # Before anything is freed that marks could be put into, and kept, so that no user is either.
    marked = [UserShard(LAYOUT, number, PARTITIONS) for number in range(PARTITIONS)]
    gc.collect()
    before = resident_bytes()
    for number, shard in enumerate(marked):
        mark(shard, number, each)
    gc.collect()
    marks = sum(len(shard.marks) for shard in marked)
    left_bytes = (resident_bytes() - before) / marks
    limits = Limits(expire_after_ms=30 * DAY_MS)
    shards = [UserShard(LAYOUT, number, PARTITIONS, limits) for number in range(PARTITIONS)]
    fill(UserShard(LAYOUT), 0, BATCH_USERS)  # whatever is taken once
    before = resident_bytes()
    steps = [step for number, shard in enumerate(shards) for step in fill(shard, number, each)]
    grown = resident_bytes() - before
    held = sum(map(len, shards))
    print(f"{held:,} users with full rings of {LAYOUT.ring}, {LAYOUT.max_bytes} bytes a state")
    told_bytes = f"{grown / held:,.0f} bytes a user of at most {MOST_BYTES_A_USER:,}"
    print(f"  resident memory grew by {grown / 2**20:,.0f} MiB: {told_bytes}")
    print(f"  coming, {BATCH_USERS} at a time: {told(steps)}")
    shard = shards[0]
    shard.newest_ms += 31 * DAY_MS
    for events in (10, 2048):
        left, steps = leave(shard, events) if len(shard) else (0, [0.0])
        if left:
            print(f"  expiring {left:,} of one partition, {events} events a step: {told(steps)}")
    limited = UserShard(LAYOUT, 1, PARTITIONS, Limits(max_users=each))
    fill(limited, 1, each + each // 10)
    left, steps = leave(limited, 500)
    print(f"  evicting {left:,} beyond {each:,} of one partition, 500 a step: {told(steps)}")
    print(f"{marks:,} erasures: each leaves {left_bytes:,.0f} bytes of resident memory")
    fill(limited, 2, each // 50)
    limited.leave(0, (), NOW_MS)
    gone = limited.keys[:BATCH_ERASURES]
    took_ms = 1000 * erase(limited, gone)
    print(f"  erasing {len(gone):,} of a partition of {each:,}: {took_ms:.1f} ms")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return int(is_too_much(grown, held))


if __name__ == "__main__":
    raise SystemExit(runs.told(main))
