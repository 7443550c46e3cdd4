"""What is known of items: titles, attributes, embeddings. In: a log's lines, `items` records.

Out: dictionaries by item id, as `Log` holds them. A record of the catalogue goes before what the
log's lines say; of several records of an item the last one counts, as on the topic.

Must not know: events, models.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
import numpy.typing as npt

from stream.contracts import Item, decode_item
from stream.errors import RecordError, UsageError
from stream.logs import BadLines, LoggedEvent, read_lines
from stream.terminal import counted

Float32 = npt.NDArray[np.float32]

_BAD_TOLD = 3


class ItemFacts:
    """Collects what lines and records say of items.

    Attributes
    ----------
    embeddings : by item id: float32, shape (dim,)
    """

    def __init__(self) -> None:
        self.embeddings: dict[str, Float32] = {}
        self._titles: dict[str, Counter[str]] = {}
        self._attributes: dict[str, dict[str, str]] = {}
        self._prices: dict[str, float] = {}
        self._items: dict[str, Item] = {}

    def add(self, line: LoggedEvent) -> None:
        """What a line says. Titles are counted; of the rest, the newest line counts."""
        item = str(line.event.item_id)
        for name, text in line.about.items():
            if name == "title":
                self._titles.setdefault(item, Counter())[text] += 1
            elif name == "price":
                with contextlib.suppress(ValueError):
                    self._prices[item] = float(text)
            else:
                self._attributes.setdefault(item, {})[name] = text
        if line.event.unit_price:
            self._prices[item] = line.event.unit_price

    def join(self, items: Iterable[Item]) -> None:
        """What records of the catalogue say."""
        for item in items:
            self._items[item.item_id] = item
            if item.price is not None:
                self._prices[item.item_id] = item.price
            if item.embedding is not None:
                self.embeddings[item.item_id] = np.array(item.embedding, np.float32)

    def titles(self) -> dict[str, str]:
        """An item's most frequent title: a few lines carry a clerk's note instead."""
        found = {item: names.most_common(1)[0][0] for item, names in self._titles.items()}
        found.update({id_: item.title for id_, item in self._items.items() if item.title})
        return found

    def attributes(self) -> dict[str, dict[str, str]]:
        """By item id: category, brand, price (see `price_range`), kind, tags; none is empty."""
        found = {item: dict(texts) for item, texts in self._attributes.items()}
        for item_id, item in self._items.items():
            of_item = found.setdefault(item_id, {})
            texts = {"category": item.category, "brand": item.brand, "tags": " ".join(item.tags)}
            of_item.update({name: text for name, text in texts.items() if text})
            if item.kind != "product":
                of_item["kind"] = item.kind
        for item_id, price in self._prices.items():
            found.setdefault(item_id, {})["price"] = price_range(price)
        return {item_id: texts for item_id, texts in found.items() if texts}


def price_range(price: float) -> str:
    """The powers of two around a price, such as "8-16": prices within it are much alike."""
    if not 0 < price < math.inf:
        return "0"
    low = 2.0 ** math.floor(math.log2(price))
    return f"{low:g}-{2 * low:g}"


def read_items(
    paths: Sequence[Path], report: Callable[[str], None] = lambda message: None
) -> list[Item]:
    """Read catalogue files: records of the topic `items`, one JSON object a line, plain or gzip.

    Raises
    ------
    UsageError
        No such file, or no item in it (with the first bad line).
    """
    found: list[Item] = []
    for path in paths:
        bad = BadLines()
        before = len(found)
        for items in read_lines(path, "items", _items, bad):
            found += items
        told = [f"line {number}: {reason}" for number, reason in bad[:_BAD_TOLD]]
        if len(found) == before:
            raise UsageError(f"{path}: holds no item{f' ({told[0]})' if told else ''}")
        if bad:
            report(f"{path}: {counted(len(bad), 'bad line')} left out: {'; '.join(told)}")
    return found


def _items(text: IO[bytes], bad: BadLines) -> Iterator[Item]:
    for number, line in enumerate(text, 1):
        if not (value := line.strip()):
            continue
        try:
            item = decode_item(_ID.decode(value).key, value)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            bad.append((number, "is no JSON object with an item_id"))
        except RecordError as error:
            bad.append((number, str(error)))
        else:
            if item is not None:
                yield item


class _Id(msgspec.Struct):
    item_id: str | int

    @property
    def key(self) -> bytes:
        return str(self.item_id).encode()


_ID = msgspec.json.Decoder(_Id)
