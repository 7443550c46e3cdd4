"""The committed sample of a real shop: catalogue, baskets, model bundle. In: files. Out: records.

Knows the files of `data` and nothing of brokers or terminals.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from stream.errors import FreshetError
from stream.logs import Event

DATA = Path(__file__).parent / "data"
CATALOGUE = DATA / "online_retail_sample.items.jsonl.gz"
EVENTS = DATA / "online_retail_sample.events.jsonl.gz"
BUNDLE = DATA / "bundle"
BUNDLES = {"mf": BUNDLE, "decay": DATA / "bundle-decay"}  # by model

MIN_BASKETS = 3  # of a shopper worth watching
MIN_ITEMS, MAX_ITEMS = 3, 6  # of a basket worth watching, and what is shown of a larger one


class Basket(NamedTuple):
    """What one user bought in one go, in the order of the invoice."""

    user_id: str
    items: list[str]


class _ItemKey(msgspec.Struct):
    item_id: str


def catalogue() -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each record for the items topic."""
    decoder = msgspec.json.Decoder(_ItemKey)
    for line in _lines(CATALOGUE):
        yield decoder.decode(line).item_id.encode(), line


def read_baskets() -> list[Basket]:
    """Return the sample's baskets in the order in which they were bought, each item once."""
    decoder = msgspec.json.Decoder(Event)
    items: dict[tuple[str, str], dict[str, None]] = {}
    for line in _lines(EVENTS):
        event = decoder.decode(line)
        if event.type == "purchase":
            basket = str(event.user_id), str(event.session_id)
            items.setdefault(basket, {})[str(event.item_id)] = None
    return [Basket(user_id, list(bought)) for (user_id, _), bought in items.items()]


def favourite_items(baskets: list[Basket], count: int) -> list[str]:
    """Return the items that are in most baskets, most first."""
    sold = Counter(item_id for basket in baskets for item_id in basket.items)
    return [item_id for item_id, _ in sold.most_common(count)]


def visits(baskets: list[Basket], shoppers: int) -> Iterator[tuple[str, str, str]]:
    """Yield (user_id, event type, item_id) of a few shoppers who take turns.

    Each goes through baskets of their own: looks at the items, then buys them. Ends with the
    baskets of the last of them.
    """
    of_user: dict[str, list[list[str]]] = {}
    for basket in baskets:
        if len(basket.items) >= MIN_ITEMS:
            of_user.setdefault(basket.user_id, []).append(basket.items[:MAX_ITEMS])
    chosen = [user_id for user_id, own in of_user.items() if len(own) >= MIN_BASKETS][:shoppers]
    turns = [_steps(user_id, of_user[user_id]) for user_id in chosen]
    while turns:
        for turn in list(turns):
            step = next(turn, None)
            if step is None:
                turns.remove(turn)
            else:
                yield step


def _steps(user_id: str, baskets: list[list[str]]) -> Iterator[tuple[str, str, str]]:
    for items in baskets:
        for event_type in ("click", "purchase"):
            for item_id in items:
                yield user_id, event_type, item_id


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") as file:
            yield from filter(None, map(bytes.strip, file))
    except (OSError, EOFError) as error:
        raise FreshetError(
            f"{path}: the demo's sample cannot be read ({error}); install Freshet again"
        ) from error
