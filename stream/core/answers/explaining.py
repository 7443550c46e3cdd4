"""What a score owes to each thing that a user did. In: a user's row. Out: shares, by occlusion.

The state is folded anew from the user's last interactions, once with all of them and once without
each: what the score falls by is that interaction's share. It holds for any model, at a fold and a
score for each interaction, and so on request alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.contracts import Because
from stream.core.answers.asking import Room, rounded, type_name
from stream.core.micro_batch import Asked
from stream.core.wire import Layout, split

OCCLUDED = 20  # interactions, the newest: older ones rarely weigh enough to be named
NAMED = 5  # of them, for each item
_LEAST_SHARE = 1e-6


class Without(NamedTuple):
    """A user and the same user without one interaction each.

    Attributes
    ----------
    rows : uint8, shape (1 + n, layout.max_bytes); the first has them all
    entries : `RING_ENTRY`, shape (n,); what the others lack, newest first
    """

    rows: NDArray[np.uint8]
    entries: np.ndarray

    @classmethod
    def of(cls, row: NDArray[np.uint8], layout: Layout) -> Without:
        """`row`: uint8, shape (layout.max_bytes,)."""
        user = row.view(layout.full)[0]
        used, head = int(user["header"]["ring_used"]), int(user["header"]["ring_head"])
        size = layout.ring
        order = (head - used + np.arange(used)) % size if size else np.arange(0)
        oldest_first = user["ring"][order]
        lacking = range(used - 1, max(used - OCCLUDED, 0) - 1, -1)
        rows = np.tile(row, (1 + len(lacking), 1))
        users = rows.view(layout.full)[:, 0]
        users["ring"] = 0
        users["ring"][0, :used] = oldest_first
        users["header"]["ring_used"] = max(used - 1, 0)
        users["header"]["ring_used"][0] = used
        for number, at in enumerate(lacking, 1):
            users["ring"][number, : used - 1] = np.delete(oldest_first, at)
        if size:
            users["header"]["ring_head"] = users["header"]["ring_used"] % size
        return cls(rows, oldest_first[list(lacking)])


def shares(
    room: Room,
    asked: Asked,
    row: NDArray[np.uint8],
    rows: NDArray[np.int64],
    arm: str,
    bits: int,
) -> list[tuple[Because, ...]]:
    """For each item, the interactions that its score owes most to, or lost most by.

    Parameters
    ----------
    row : the user's: uint8, shape (layout.max_bytes,)
    rows : int64, shape (m,); of the items
    arm, bits : by whose settings they are scored, and which of its rules are in force
    """
    without = Without.of(row, room.layout)
    entries = without.entries
    if not len(entries):
        return [()] * len(rows)
    without.rows.view(room.layout.full)[:, 0]["header"]["model"] = 0  # to be folded
    audience = room.audience(without.rows, [asked] * len(without.rows))
    rules = room.lists.placement(arm)
    basis = rules.basis(audience)
    scores = np.array(
        room.candidates.scores(
            [rows] * len(without.rows),
            room.bias(arm, bits),
            rules.beta,
            basis.states,
            basis.ring,
        )
    )  # [1 + n, m]
    lost = scores[0] - scores[1:]  # [n, m]
    hashes, types = split(entries)
    items, names = (
        room.catalogue.rows_of_hashes(hashes).tolist(),
        list(map(type_name, types.tolist())),
    )
    told = []
    for of_item in lost.T:
        largest = np.argsort(-np.abs(of_item), kind="stable")[:NAMED]
        told.append(
            tuple(
                Because(
                    type=names[at],
                    item_id=room.item_id(items[at]),
                    event_time_ms=int(entries["time_s"][at]) * 1000,
                    share=rounded(of_item[at]),
                    words=room.said(names[at], items[at]),
                )
                for at in largest.tolist()
                if abs(of_item[at]) >= _LEAST_SHARE
            )
        )
    return told
