"""What a catalogue record says of an item, as numbers. In: `Item`s. Out: feature ids and values.

Training and the worker run the same code, and nothing in it is learned: there is no vocabulary to
ship, and a word that training never saw has its place too. Signed feature hashing (Weinberger et
al. 2009): the feature of a text has the id crc32(text) mod `size` and the sign of the checksum's
highest bit, so that texts which share an id cancel on average.

    w:WORD     each word of the title             k:KIND     the kind
    p:A B      each two words next to each other  b:BRAND    the brand
    n:GRAM     each 3 and 4 characters of <WORD>  t:WORD     each word of the tags
    c:A, c:A/B each level of the category         $:N        the price, from 2^N on

Texts are folded first: Unicode NFKC, lower case. A given embedding follows as the ids from `size`
on, scaled to length 1. What a feature weighs is the bundle's business (`content.onnx`).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from stream.contracts import Item

GRAMS: Final = (3, 4)
MAX_TITLE: Final = 512  # characters; a record may have 64 KiB of them
MAX_LABEL: Final = 256
MAX_TAGS: Final = 64
MAX_TAG: Final = 64
_SIGN: Final = 1 << 31
_WORD: Final = re.compile(r"[^\W_]+")
_LEVEL: Final = re.compile(r"[./>|]+")


class Features(NamedTuple):
    """Features of a few items.

    Attributes
    ----------
    ids : int64, shape (items, F), in [0, size + embedding); padded with 0
    values : float32, shape (items, F); padded with 0
    """

    ids: NDArray[np.int64]
    values: NDArray[np.float32]

    def of(self, items: NDArray[np.int64] | slice) -> Features:
        """Those of some of the items."""
        return Features(self.ids[items], self.values[items])


def features(items: Sequence[Item], size: int, embedding: int) -> Features:
    """The features of items.

    Parameters
    ----------
    size : ids of texts
    embedding : numbers of a given embedding; one of another length is left out
    """
    found = [_of_item(item, size, embedding) for item in items]
    shape = (len(items), max(map(len, found), default=0))
    ids, values = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    for row, feature in enumerate(found):
        ids[row, : len(feature)] = list(feature)
        values[row, : len(feature)] = list(feature.values())
    return Features(ids, values)


def _of_item(item: Item, size: int, embedding: int) -> dict[int, float]:
    feature: dict[int, float] = {}
    for text in texts(item):
        checksum = crc32(text.encode("utf-8", "replace"))
        number = checksum % size
        feature[number] = feature.get(number, 0.0) + (-1.0 if checksum & _SIGN else 1.0)
    if item.embedding is not None and len(item.embedding) == embedding:
        vector = np.array(item.embedding, np.float64)
        length = float(np.sqrt((vector**2).sum()))
        if math.isfinite(length) and length > 0:
            feature.update(enumerate((vector / length).tolist(), size))
    return feature


def texts(item: Item) -> list[str]:
    """What is hashed of an item, each text as often as it occurs; the kind alone says nothing."""
    said = list(_said(item))
    return [*said, f"k:{item.kind}"] if said else []


def _said(item: Item) -> Iterator[str]:
    words = _WORD.findall(_folded(item.title, MAX_TITLE))
    for word in words:
        yield f"w:{word}"
        marked = f"<{word}>"
        for length in GRAMS:
            for at in range(len(marked) - length + 1):
                yield f"n:{marked[at : at + length]}"
    for first, second in pairwise(words):
        yield f"p:{first} {second}"
    levels = [level.strip() for level in _LEVEL.split(_folded(item.category, MAX_LABEL))]
    for path in accumulate(filter(None, levels), lambda upper, lower: f"{upper}/{lower}"):
        yield f"c:{path}"
    if brand := _folded(item.brand, MAX_LABEL):
        yield f"b:{brand}"
    for tag in item.tags[:MAX_TAGS]:
        for word in _WORD.findall(_folded(tag, MAX_TAG)):
            yield f"t:{word}"
    if item.price is not None and 0 < item.price < math.inf:
        yield f"$:{math.frexp(item.price)[1] - 1}"


def _folded(text: str | None, most: int) -> str:
    """At most `most` characters, so that writing the same otherwise is the same."""
    return unicodedata.normalize("NFKC", (text or "")[:most]).casefold().strip()[:most]
