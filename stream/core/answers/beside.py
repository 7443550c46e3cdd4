"""Items to go beside an item, as the placement's rules allow. In: an item. Out: others.

`neighbours.py` finds them.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from stream.contracts import Answer, EventType, item_hash
from stream.core.answers.asking import Crowd, Room
from stream.core.answers.neighbours import BoughtTogether, similar
from stream.core.catalogue import NO_ITEM
from stream.core.micro_batch import Asked
from stream.core.policy.audience import Basis
from stream.core.wire import join

LOOKED_THROUGH = 100_000  # users, for what is bought together
MIN_PAIRS = 3  # buyers of both items: fewer are chance, and would tell of persons


def similar_to(room: Room, crowd: Crowd) -> list[Answer]:
    """Items whose vectors are nearest to the item's."""
    to, answers, asked = _about_items(room, crowd)
    ruling = room.ruling(crowd.audience, crowd.arm)
    for bits in np.unique(ruling.bits[asked]).tolist():
        some = [user for user in asked if ruling.bits[user] == bits]
        near = similar(
            room.model,
            to[some],
            room.allowed(crowd.arm, bits),
            [ruling.struck[user] for user in some],
            [room.k(crowd.asked[user], crowd.arm) for user in some],
        )
        for user, (rows, scores) in zip(some, near, strict=True):
            reason = room.named("similar", int(to[user]))
            answers[user] = room.listing(answers[user], rows, scores, reason)
    return answers


def together(room: Room, crowd: Crowd) -> list[Answer]:
    """Items that the item's buyers bought, by their last interactions, or else by the model."""
    to, answers, asked = _about_items(room, crowd)
    ruling = room.ruling(crowd.audience, crowd.arm)
    seen: dict[tuple[int, int], BoughtTogether] = {}
    for user in asked:
        row, one, struck = int(to[user]), crowd.asked[user], ruling.struck[user]
        bits = int(ruling.bits[user])
        if (id(one.shard), row) not in seen:
            item = room.catalogue.hashes[row]
            seen[id(one.shard), row] = BoughtTogether.of(one.shard.rings(LOOKED_THROUGH), item)
        allowed, k = room.allowed(crowd.arm, bits), room.k(one, crowd.arm)
        rows, scores = _by_buyers(room, seen[id(one.shard), row], allowed, struck, k)
        basis = "users" if len(rows) else "model"
        if not len(rows):
            rows, scores = _by_model(room, one, crowd.arm, bits, np.append(struck, row), k)
        reason = room.named("bought_together", row)
        answers[user] = room.listing(replace(answers[user], basis=basis), rows, scores, reason)
    return answers


def _about_items(room: Room, crowd: Crowd) -> tuple[NDArray[np.int64], list[Answer], list[int]]:
    """Rows of the requests' items, answers as they stand, and which have an item to go by."""
    to = room.catalogue.rows([one.request.item for one in crowd.asked])
    answers = room.answers(crowd)
    for user in np.flatnonzero(to == NO_ITEM).tolist():
        answers[user] = replace(answers[user], status="unknown_item")
    return to, answers, np.flatnonzero(to != NO_ITEM).tolist()


def _by_buyers(
    room: Room,
    seen: BoughtTogether,
    allowed: NDArray[np.bool_],
    struck: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """What buyers of an item bought too, of what may be listed; the share of the buyers."""
    rows = room.catalogue.rows_of_hashes(seen.items)
    good = (seen.counts >= MIN_PAIRS) & allowed[rows] & ~np.isin(rows, struck)
    rows, counts = rows[good], seen.counts[good]
    order = np.lexsort((rows, -counts))[:k]
    return rows[order], (counts[order] / max(seen.buyers, 1)).astype(np.float32)


def _by_model(
    room: Room, one: Asked, arm: str, bits: int, struck: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """What the model lists for somebody who has bought the request's item and nothing else."""
    blank = np.frombuffer(room.layout.blank, np.uint8).copy()
    buyer = blank.view(room.layout.full)
    if room.layout.ring:
        entry = buyer["ring"][0, :1]
        item, bought = np.uint64(item_hash(one.request.item)), np.uint8(EventType.PURCHASE)
        entry["item_and_type"] = join(item, bought)
        entry["time_s"] = one.cause.event_time_ms // 1000
        buyer["header"]["ring_used"] = 1
        buyer["header"]["ring_head"] = 1 % room.layout.ring
    buyer["header"]["newest_ms"] = one.cause.event_time_ms
    buyer["header"]["model"] = 0  # to be folded
    audience = room.audience(blank[None, :], [one])
    rules = room.lists.placement(arm)
    out = struck[None, :]
    rows, scores = rules.rank(Basis(audience.states, audience.ring, out), k, bits)
    listed = scores[0] > 0
    return rows[0, listed], scores[0, listed]
