"""`content`: what an item is said to be joins what users did with it.

An item's vector is its factors of `mf` and what its title and attributes predict of them, the
factors' share being sessions / (sessions + trust). The prediction is a linear map
(`content_map.py`) that the bundle brings along, so that an item that training never saw gets its
row the moment its catalogue record arrives. Readout and state are those of `mf`.

Must not know: the bundle's files, evaluation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from export.data.dataset import Log
from export.models import fading, mf
from export.models.als import Float64
from export.models.base import Baskets, Float32, Trained
from export.models.content_map import ContentMap
from export.models.space import Range, Space
from stream.contracts import ITEM_KINDS, Item
from stream.core.bundle import FadingSum, Head
from stream.core.content import features
from stream.errors import UsageError

EXAMPLES = 6  # records that go into the bundle
_BETWEEN_TAGS = re.compile(r"[,;]")
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Parameters(mf.Parameters):
    """Those of `mf` and the content's; chosen on a validation month of Online Retail."""

    features: int = 4096
    shrinkage: float = 1.0
    trust: float = 5.0


SPACE: Final[Space] = {
    **mf.SPACE,
    "shrinkage": Range(0.1, 30.0, log=True),
    "trust": Range(0.5, 100.0, log=True),
}


def train(log: Log, **given: object) -> Trained:
    """Train on a log. `given` overrides fields of `Parameters`.

    Raises
    ------
    UsageError : the log knows nothing of what its items are
    """
    p = Parameters(**given)  # type: ignore[arg-type]
    baskets = Baskets.of(log, p.min_count)
    factors = mf.factor_vectors(log, baskets.item_ids, p)
    table, content = fuse(log, baskets.item_ids, factors, baskets.counts(), p)
    trained = fading.assemble(
        "content",
        baskets.item_ids,
        table,
        baskets.popularity_bias(p.popularity),
        sums=(FadingSum(p.half_life_s, 1.0),),
        strength=p.strength,
        beta=p.beta,
        head=Head("dot product", "squared error"),
        created=log.ends,
        training={"events": len(log), **asdict(p)},
    )
    trained.content = content
    return trained


def fuse(
    log: Log, item_ids: Sequence[str], factors: Float32, counts: Float64, p: Parameters
) -> tuple[Float32, ContentMap]:
    """Item vectors of both, and the map.

    Parameters
    ----------
    factors : float32, shape (n, D)
    counts : float64, shape (n,); sessions that hold each item

    Returns
    -------
    float32, shape (n, D); row 0 zeros. Items of which nothing is known keep their factors.
    """
    known = {*log.titles, *log.attributes, *log.embeddings}
    if known.isdisjoint(item_ids):
        raise UsageError(
            "content needs titles, attributes or embeddings of the items, and the log has none; "
            "train --model mf"
        )
    lengths = {len(vector) for vector in log.embeddings.values()}
    if len(lengths) > 1:
        raise UsageError(
            f"embeddings of items have {len(lengths)} lengths, {min(lengths)} to {max(lengths)}; "
            "give all items embeddings of one length"
        )
    embedding = max(lengths, default=0)
    found = features([record(log, item_id) for item_id in item_ids], p.features, embedding)
    said_something = (found.values != 0).any(axis=1)
    said_something[0] = False
    some = np.flatnonzero(said_something)
    content = ContentMap.fit(
        found.of(some), factors[some].astype(np.float64), p.features, embedding, p.shrinkage
    )
    content.examples = [record(log, item_ids[row]) for row in some[:EXAMPLES]]
    share = np.where(said_something, counts / np.maximum(counts + p.trust, 1e-12), 1)[:, None]
    table: Float32 = (share * factors + (1 - share) * content.vectors(found)).astype(np.float32)
    return table, content


def record(log: Log, item_id: str) -> Item:
    """The catalogue record of an item, as far as the log has it."""
    of_item = log.attributes.get(item_id, {})
    kind = of_item.get("kind", "product")
    given = log.embeddings.get(item_id)
    return Item(
        item_id,
        kind=kind if kind in ITEM_KINDS else "product",  # type: ignore[arg-type]
        title=log.titles.get(item_id) or of_item.get("title"),
        category=of_item.get("category"),
        brand=of_item.get("brand"),
        price=_price(of_item.get("price", "")),
        tags=tuple(_BETWEEN_TAGS.sub(" ", of_item.get("tags", "")).split()),
        embedding=None if given is None else tuple(map(float, given)),
    )


def _price(text: str) -> float | None:
    """A price, or the lower end of a range such as "8-16"."""
    number = _NUMBER.match(text.strip())
    price = float(number[0]) if number else math.inf
    return price if price < math.inf else None
