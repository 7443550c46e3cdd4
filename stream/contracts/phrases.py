"""What is the same in all ranked lists, as bytes. In: words for reasons. Out: pieces of JSON.

They are cut out of an encoded item, since the codec knows how one looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import UNSET

from stream.contracts.codec import encode_record
from stream.contracts.records import EVENT_TYPES, PLAIN_REASONS, ListedItem, Reason

CODES: Final = 1 + max(PLAIN_REASONS.values())

Worded = Mapping[str, tuple[str, str | None]]  # code -> words before the title, and after it


def fixed_pieces(words: Worded) -> list[bytes]:
    """The pieces in the order in which `writing.py` numbers them."""
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
    told = explored.partition(encode_record(popular))[2].partition(b"0.5")[0]
    flags = [told.replace(b"true", flag) for flag in (b"false", b"true")]
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
    by_code = [*codes, *after_id, *after_title]
    return [b'{"items":[', item, score, rank, reason, share, end, *flags, b"]}", *by_code]
