"""What is the same in all ranked lists, as bytes. In: words for reasons. Out: pieces of JSON.

The pieces are cut out of an encoded item, since the codec knows how one looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec import UNSET

from stream.contracts.codec import encode_record
from stream.contracts.records import EVENT_TYPES, PLAIN_REASONS, ListedItem, Reason

CODES: Final = 1 + max(PLAIN_REASONS.values())

Worded = Mapping[str, tuple[str, str | None]]  # code -> words before the title, and after it


class Fixed(NamedTuple):
    """Pieces, in the order in which `writing.py` numbers them.

    Attributes
    ----------
    opening, closing : of a list
    name, named : what closes one before its name, and after it
    item, score, rank, reason, share : what stands before each
    end : what stands behind a reason where no propensity is told
    not_explored, explored : what stands between a reason and a propensity
    by_code : `CODES` beginnings of reasons, as many of what comes after the item's id, and after
        its title (empty: none is wanted)
    """

    opening: bytes
    item: bytes
    score: bytes
    rank: bytes
    reason: bytes
    share: bytes
    end: bytes
    not_explored: bytes
    explored: bytes
    closing: bytes
    name: bytes
    named: bytes
    by_code: list[bytes]


def fixed_pieces(words: Worded) -> Fixed:
    """The pieces, with these words in the reasons."""
    popular = Reason("popular")
    shown = encode_record(ListedItem("X", 0.5, 1, popular))
    explored = encode_record(ListedItem("X", 0.5, 1, popular, explored=True, propensity=0.5))
    item, _, rest = shown.partition(b'"X"')
    score, _, rest = rest.partition(b"0.5")
    rank, _, rest = rest.partition(b"1")
    reason, _, rest = rest.partition(encode_record(popular))
    end = rest.removesuffix(b"}")
    share = (
        encode_record(Reason("click", "X", share=0.5)).partition(b'"X"')[2].removesuffix(b"0.5}")
    )
    flag = explored.partition(encode_record(popular))[2].partition(b"0.5")[0]
    codes, after_id, after_title = [b""] * CODES, [b""] * CODES, [b""] * CODES
    for name, code in EVENT_TYPES.items():
        before, after = words.get(name, ("", None))
        told = encode_record(Reason(name, "X", before or UNSET))
        codes[code], _, after_id[code] = told.partition(b'"X"')
        if after is not None:
            titled = encode_record(Reason(name, "X", before + "\0" + after)).partition(b'"X"')[2]
            after_id[code], _, after_title[code] = titled.partition(b"\\u0000")
    for name, plain in PLAIN_REASONS.items():
        codes[plain] = encode_record(Reason(name, None, words.get(name, ("",))[0] or UNSET))
    return Fixed(
        opening=b'{"items":[',
        item=item,
        score=score,
        rank=rank,
        reason=reason,
        share=share,
        end=end,
        not_explored=flag.replace(b"true", b"false"),
        explored=flag,
        closing=b"]}",
        name=b'],"name":"',
        named=b'"}',
        by_code=[*codes, *after_id, *after_title],
    )
