"""The memory of lists by itself: who is forgotten, what is kept, how much it takes."""

from __future__ import annotations

import random
from collections import OrderedDict

import numpy as np

from stream.core.quality.memory import WAYS, Memory
from stream.core.quality.shown import Shown


def lists_of(numbers: list[int], places: int = 2) -> Shown:
    """Lists that can be told apart, one a user."""
    rows = np.repeat(np.array(numbers, np.int32)[:, None], places, axis=1)
    arms, shows = np.zeros((len(numbers), 1), np.uint16), np.array(numbers, np.uint64)[:, None]
    return Shown(rows, rows.astype(np.float32) / 1000, arms, shows)


def test_a_full_set_forgets_the_oldest_lists() -> None:
    dice, memory, kept = random.Random(3), Memory(WAYS, 1, 2), OrderedDict[bytes, int]()
    for number in range(1, 200):
        key = f"u{dice.randint(0, 14)}".encode()
        memory.put([key], lists_of([number]), np.array([number]))
        kept.pop(key, None)
        kept[key] = number
        if len(kept) > WAYS:
            kept.popitem(last=False)
        if dice.random() < 0.1:
            gone = dice.choice(list(kept))
            memory.forget(gone)
            del kept[gone]
        found = {
            f"u{n}".encode(): entry
            for n, entry in enumerate(memory.find([b"u%d" % n for n in range(15)]))
        }
        assert {key for key, entry in found.items() if entry >= 0} == set(kept)
        for key, wanted in kept.items():
            assert memory.shown.rows[found[key]].tolist() == [wanted, wanted]
            assert memory.newest_ms[found[key]] == wanted


def test_the_lists_named_last_are_kept_beside_the_newest_and_go_with_their_user() -> None:
    dice, memory = random.Random(5), Memory(WAYS, 1, 2)
    newest: dict[bytes, int] = {}
    older: dict[bytes, int] = {}
    seen, lasting = set[bytes](), 0
    for number in range(1, 600):
        some = dice.sample([b"u%d" % n for n in range(14)], dice.randint(1, 3))
        made = lists_of([100 * number + n for n in range(len(some))])
        memory.put(some, made, np.zeros(len(some), np.int64))
        for at, key in enumerate(some):
            if key in seen:
                older[key] = newest[key]
            newest[key] = 100 * number + at
            seen.discard(key)
        kept = {key for key in newest if memory.find([key])[0] >= 0}
        for known in (newest, older):
            for key in known.keys() - kept:
                del known[key]
        seen &= kept
        for key in kept:
            (entry,) = memory.find([key]).tolist()
            assert memory.shown.shows[entry, 0] == memory.shown.rows[entry, 0] == newest[key]
            (found,) = set(memory.shown.rows[entry + len(memory)].tolist())
            assert found in (0, older.get(key, 0)), "none where another one came between"
            older[key] = found
            lasting += found > 0
            if dice.random() < 0.3:
                memory.named[entry] = True
                seen.add(key)
    assert lasting > 1000


def test_forgetting_leaves_nothing_of_the_older_lists_either() -> None:
    memory, nobody = Memory(WAYS, 1, 2), np.zeros(1, np.int64)
    for row in (7, 8):
        memory.put([b"u"], lists_of([row]), nobody)
        memory.named[memory.find([b"u"])] = True
    memory.put([b"v"], lists_of([9]), nobody)
    (entry,) = memory.find([b"u"]).tolist()
    assert memory.shown.rows[[entry, entry + len(memory)], 0].tolist() == [8, 7]
    memory.forget(b"u")
    assert not any(column[entry :: len(memory)].any() for column in memory.shown)
    assert memory.shown.rows[memory.find([b"v"]), 0].tolist() == [9]


def test_memory_is_bounded_whoever_comes() -> None:
    memory = Memory(1000, 1, 20)
    before = memory.nbytes
    keys = [b"user %d" % number for number in range(5000)]
    memory.put(keys, lists_of(list(range(1, 5001)), 20), np.zeros(5000, np.int64))
    assert memory.nbytes == before
    entries = memory.find(keys)
    here = np.flatnonzero(entries >= 0)
    assert 900 < len(here) <= len(memory) == 1000
    assert (memory.shown.rows[entries[here], 0] == here + 1).all(), "nobody has another's list"
    of_lists = 20 * 8 + 2 + 8
    assert memory.nbytes / len(memory) == 8 + 8 + 8 + 1 + 2 * of_lists, "the README's bytes a user"
    off = Memory()
    off.put(keys, lists_of(list(range(5000)), 0), np.zeros(5000, np.int64))
    assert (off.find(keys) == -1).all()
