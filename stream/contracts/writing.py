"""Recommendation records as JSON, put together from pieces that were encoded once.

In: pieces of items and reasons, scores. Out: the bytes that `encode_record` would give for the same
`Recommendation`, but that scores always have six digits. A list of 20 is the largest thing that
the engine writes, once per user and micro-batch; from pieces it takes half the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from stream.contracts.codec import encode_record
from stream.contracts.records import ListedItem, Reason, Recommendation

_PIECES_PER_ITEM: Final = (
    6  # of a listed item: id, thousandths, millionths, rank, reason, what follows
)
_THOUSANDTHS: Final = [b"%d.%03d" % divmod(n, 1000) for n in range(1001)]
_MILLIONTHS: Final = [b"%03d" % n for n in range(1000)]


class RawRecommendation(Recommendation, frozen=True, gc=False):
    """A `Recommendation` whose lists are JSON already."""

    lists: dict[str, msgspec.Raw]  # type: ignore[assignment]


def item_piece(item_id: str) -> bytes:
    """The beginning of a listed item, up to its score."""
    return b',{"item_id":%b,"score":' % msgspec.json.encode(item_id)


def reason_piece(reason: Reason) -> bytes:
    """The reason of a listed item."""
    return encode_record(reason)


def score_pieces(scores: npt.NDArray[np.float32]) -> tuple[list[list[bytes]], list[list[bytes]]]:
    """Scores in [0, 1], float32, shape (users, k): three digits after the point, and three more."""
    millionths = np.rint(scores.astype(np.float64) * 1e6).astype(np.int64)
    first, second = np.divmod(millionths, 1000)
    return (
        [list(map(_THOUSANDTHS.__getitem__, row)) for row in first.tolist()],
        [list(map(_MILLIONTHS.__getitem__, row)) for row in second.tolist()],
    )


class ListWriter:
    """Writes ranked lists."""

    def __init__(self) -> None:
        self._blanks: dict[int, list[bytes]] = {}
        shown = encode_record(ListedItem("", 0.0, 1, Reason("")))
        self._tail = shown[shown.index(b',"explored"') :]

    def ranked_list(
        self,
        items: Sequence[bytes],
        thousandths: Sequence[bytes],
        millionths: Sequence[bytes],
        reasons: Sequence[bytes],
    ) -> msgspec.Raw:
        """A `RankedList` of n items, best first, from n pieces of each sort."""
        # One list of pieces serves all lists of its length: `join` copies them at once.
        pieces = self._blanks.get(len(items)) or self._blank(len(items))
        pieces[0::_PIECES_PER_ITEM] = items
        pieces[1::_PIECES_PER_ITEM] = thousandths
        pieces[2::_PIECES_PER_ITEM] = millionths
        pieces[4::_PIECES_PER_ITEM] = reasons
        return msgspec.Raw(b'{"items":[%b]}' % b"".join(pieces)[1:])

    def _blank(self, length: int) -> list[bytes]:
        """The pieces that are alike in all lists of a length, and room for the others."""
        blank = [b""] * (_PIECES_PER_ITEM * length)
        blank[3::_PIECES_PER_ITEM] = [
            b',"rank":%d,"reason":' % rank for rank in range(1, length + 1)
        ]
        blank[5::_PIECES_PER_ITEM] = [self._tail] * length
        self._blanks[length] = blank
        return blank
