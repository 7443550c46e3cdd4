"""Ranked lists as JSON, put together from pieces that were encoded once.

In: item rows, scores, reasons, of many users at once. Out: for each the bytes that `encode_record`
would give for the same `RankedList`, but that scores and shares always have six digits, and told
propensities nine. A list of 20 is the largest thing that the engine writes, once per user and
micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from stream.compiled import INT, array, compiled, part_of_compiled
from stream.contracts.phrases import CODES, Fixed, Worded, fixed_pieces
from stream.contracts.pieces import FIRST_ROOM, WORD, Pieces, Places, Words, words_of
from stream.contracts.records import EVENT_TYPES, Recommendation

_MAX_DIGITS: Final = 72  # of a score, a rank, a propensity and a share, with commas; of a name

# Numbers of the pieces, as `Fixed` has them; then three for each item.
_OPEN, _ITEM, _SCORE, _RANK, _REASON, _SHARE, _END, _FALSE, _TRUE = range(9)
_CLOSE, _NAME, _NAMED, _FIRST_CODE = range(9, 13)
_NUMBERED: Final = "opening item score rank reason share end not_explored explored"
assert " ".join(Fixed._fields) == _NUMBERED + " closing name named by_code"
_COMMA, _POINT, _BRACE, _ZERO, _MINUS = b",.}0-"
_WORD: Final = 8  # as `WORD`: compiled code does not notice a change in another module
assert _WORD == WORD
_EVENT_TYPE_CODES: Final = 1 + max(EVENT_TYPES.values())
_NO_SHARES, _NO_NAMES = np.zeros((0, 0), np.float32), np.zeros((0, 0), np.uint8)
# Arguments of `_write`, since they are made of another module's.
_FIRST_ID: Final = _FIRST_CODE + 3 * CODES  # of row r: the id at + 3 r, then price and title


class RawRecommendation(Recommendation, frozen=True, gc=False):
    """A `Recommendation` whose lists are JSON already."""

    lists: dict[str, msgspec.Raw]  # type: ignore[assignment]


class ListWriter:
    """Writes ranked lists of the items that it was told of.

    Parameters
    ----------
    words : put beside a reason's code; a code that is not among them has none
    """

    def __init__(self, words: Worded | None = None) -> None:
        self._pieces = Pieces()
        pieces = fixed_pieces(words or {})
        fixed = [*pieces[:-1], *pieces.by_code]
        self._pieces.put(np.arange(len(fixed)), fixed)
        self._fixed_bytes = sum(map(len, fixed))
        self._out = np.empty(FIRST_ROOM, np.uint8)  # kept: new memory is dear to touch
        self.put_items([0], [""], [None])  # the reason's item of "popular"

    @property
    def room_bytes(self) -> int:
        """Bytes kept for the pieces."""
        return self._pieces.text.nbytes

    def put_items(
        self,
        rows: Sequence[int],
        item_ids: Sequence[str],
        prices: Sequence[float | None],
        titles: Sequence[str] = (),
    ) -> None:
        """Tell what is to be written of some rows, each of them once; titles are for words."""
        encode = msgspec.json.encode
        shown = [b"" if price is None else b',"price":' + encode(price) for price in prices]
        first = _FIRST_ID + 3 * np.array(rows, np.int64)
        self._pieces.put(first, list(map(encode, item_ids)))
        self._pieces.put(first + 1, shown)
        self._pieces.put(first[: len(titles)] + 2, [encode(title)[1:-1] for title in titles])

    def ranked_lists(
        self,
        rows: npt.NDArray[np.int64],
        scores: npt.NDArray[np.float32],
        reason_rows: npt.NDArray[np.int64],
        reason_types: npt.NDArray[np.uint8],
        explored: npt.NDArray[np.bool_] | None = None,
        propensities: npt.NDArray[np.float32] | None = None,
        shares: npt.NDArray[np.float32] | None = None,
        names: npt.NDArray[np.uint8] | None = None,
    ) -> list[msgspec.Raw]:
        """A `RankedList` for each user.

        Parameters
        ----------
        rows : int64, shape (users, k), best first; each was told by `put_items`
        scores : float32, shape (users, k), in [0, 1]; a list ends before its first 0
        reason_rows, reason_types : shape (users, k); the interaction behind each item, or a code
            of `PLAIN_REASONS`
        explored, propensities : shape (users, k), the latter in (0, 1], written with nine digits
            and never as 0; None: false and 1 for all
        shares : float32, shape (users, k), in [-1, 1]; what scores owe to the interactions behind
            them, NaN where that is not told; None: nowhere
        names : uint8, shape (users, 64 or less); characters that JSON takes as they are; None: none

        Raises
        ------
        IndexError : a row was never told, or there is no such type
        """
        users, k = rows.shape
        pieces = self._pieces
        at_most = self._fixed_bytes + 4 * pieces.longest + _MAX_DIGITS  # two ids, price, title
        room = users * (k + 1) * at_most + WORD
        if room > len(self._out):
            self._out = np.empty(room, np.uint8)
        ends = np.empty(users, np.int64)
        if explored is None or propensities is None:
            explored, propensities = np.zeros((0, 0), np.bool_), np.zeros((0, 0), np.float32)
        shares = _NO_SHARES if shares is None else shares
        names = _NO_NAMES if names is None else names
        columns = (rows, scores, reason_rows, reason_types, explored, propensities, shares, names)
        text, out = words_of(pieces.text), words_of(self._out)
        told = (_EVENT_TYPE_CODES, _FIRST_ID, text, pieces.places)
        unknown = _write(*columns, *told, self._out, out, ends)
        if unknown:
            raise IndexError(f"{unknown} listed items or reasons were never told to the writer")
        made = self._out[: ends[-1]].tobytes() if users else b""
        edges = pairwise([0, *ends.tolist()])
        return [msgspec.Raw(made[start:end]) for start, end in edges]


def with_variant(ranked: msgspec.Raw, variant: str) -> msgspec.Raw:
    """The list, with the name of the variant that it is of."""
    return msgspec.Raw(bytes(ranked)[:-1] + b',"variant":' + msgspec.json.encode(variant) + b"}")


@part_of_compiled
def _put(words: Words, at: Any, text: Words, places: Places, number: int) -> Any:
    """Write a piece from byte `at` on; answers where the next one goes."""
    start = places[number, 0]
    end = at + places[number, 1] - start
    while at < end:
        words[at] = text[start]
        at += _WORD
        start += _WORD
    return end


@part_of_compiled
def _put_number(
    out: npt.NDArray[np.uint8], at: np.int64, number: np.int64, digits: int
) -> np.int64:
    """Write a number with at least so many digits."""
    beyond = 10**digits
    while beyond <= number:
        beyond *= 10
        digits += 1
    for place in range(digits - 1, -1, -1):
        out[at + place] = _ZERO + number % 10
        number //= 10
    return at + digits


@part_of_compiled
def _put_fraction(
    out: npt.NDArray[np.uint8], at: np.int64, value: np.float64, digits: int
) -> np.int64:
    """Write a number with so many digits behind its point."""
    one = np.int64(10**digits)
    parts = np.int64(np.rint(value * one))
    if parts < 0:
        out[at] = _MINUS
        at += 1
        parts = -parts
    at = _put_number(out, at, parts // one, 1)
    out[at] = _POINT
    return _put_number(out, at + 1, parts % one, digits)


@part_of_compiled
def _unknown(
    rows: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    reason_rows: npt.NDArray[np.int64],
    reason_types: npt.NDArray[np.uint8],
    first_id: int,
    places: Places,
) -> int:
    """How many listed items and reasons have no piece: behind this, no bounds are checked."""
    unknown = 0
    codes = (first_id - _FIRST_CODE) // 3
    last_id = len(places) - 3
    for user in range(rows.shape[0]):
        for place in range(rows.shape[1]):
            if not scores[user, place] > 0:
                break
            for row in (rows[user, place], reason_rows[user, place]):
                number = first_id + 3 * row
                if row < 0 or number > last_id or places[number, 1] == 0:
                    unknown += 1
            code = _FIRST_CODE + reason_types[user, place]
            if reason_types[user, place] >= codes or places[code, 1] == places[code, 0]:
                unknown += 1
    return unknown


@compiled(
    INT,
    array("i8", 2),
    array("f4", 2),
    array("i8", 2),
    array("u1", 2),
    array("?", 2),
    array("f4", 2),
    array("f4", 2),
    array("u1", 2),
    INT,
    INT,
    array("u8"),
    array("i8", 2),
    array("u1", written=True, contiguous=True),
    array("u8", written=True),
    array("i8", written=True),
)
def _write(
    rows: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    reason_rows: npt.NDArray[np.int64],
    reason_types: npt.NDArray[np.uint8],
    explored: npt.NDArray[np.bool_],
    propensities: npt.NDArray[np.float32],
    shares: npt.NDArray[np.float32],
    names: npt.NDArray[np.uint8],
    event_types: int,
    first_id: int,
    text: Words,
    places: Places,
    out: npt.NDArray[np.uint8],
    words: Words,
    ends: npt.NDArray[np.int64],
) -> int:
    """`ListWriter.ranked_lists`, one after the other into `out`; `ends` says where each ends.

    `words` is `out` once more, as words. Answers how many items and reasons were never told; when
    there are any, nothing is written.
    """
    unknown = _unknown(rows, scores, reason_rows, reason_types, first_id, places)
    if unknown > 0:
        return unknown
    at, codes = np.int64(0), (first_id - _FIRST_CODE) // 3
    for user in range(rows.shape[0]):
        at = _put(words, at, text, places, _OPEN)
        for place in range(rows.shape[1]):
            score = scores[user, place]
            if not score > 0:
                break
            if place > 0:
                out[at] = _COMMA
                at += 1
            at = _put(words, at, text, places, _ITEM)
            at = _put(words, at, text, places, first_id + 3 * rows[user, place])
            at = _put(words, at, text, places, _SCORE)
            at = _put_fraction(out, at, np.float64(score), 6)
            at = _put(words, at, text, places, _RANK)
            at = _put_number(out, at, np.int64(place + 1), 1)
            at = _put(words, at, text, places, _REASON)
            kind = reason_types[user, place]
            at = _put(words, at, text, places, _FIRST_CODE + kind)
            if 0 < kind < event_types:
                behind = _FIRST_CODE + codes + kind
                item = first_id + 3 * reason_rows[user, place]
                at = _put(words, at, text, places, item)
                at = _put(words, at, text, places, behind)
                if places[behind + codes, 1] > places[behind + codes, 0]:
                    at = _put(words, at, text, places, item + 2)
                    at = _put(words, at, text, places, behind + codes)
                if shares.shape[0] > 0 and not np.isnan(shares[user, place]):
                    at = _put(words, at - 1, text, places, _SHARE)  # inside the reason's braces
                    at = _put_fraction(out, at, np.float64(shares[user, place]), 6)
                    out[at] = _BRACE
                    at += 1
            if propensities.shape[0] == 0:
                at = _put(words, at, text, places, _END)
            else:
                at = _put(words, at, text, places, _TRUE if explored[user, place] else _FALSE)
                propensity = min(max(np.float64(propensities[user, place]), 1e-9), 1.0)
                at = _put_fraction(out, at, np.float64(propensity), 9)
            at = _put(words, at, text, places, first_id + 3 * rows[user, place] + 1)
            out[at] = _BRACE
            at += 1
        if names.shape[0] == 0:
            at = _put(words, at, text, places, _CLOSE)
        else:
            at = _put(words, at, text, places, _NAME)
            out[at : at + names.shape[1]] = names[user]
            at = _put(words, at + names.shape[1], text, places, _NAMED)
        ends[user] = at
    return 0
