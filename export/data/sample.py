"""Make the demo's sample. In: the Online Retail log. Out: catalogue and event records, gzipped.

Real orders of a few hundred customers, in time order. Every purchase is a real invoice line at its
real time. The log knows no carts, so each purchase is preceded by a derived `add_to_cart`, marked
`"derived": true` in its properties; see ATTRIBUTION.md beside the sample. The same log gives the
same bytes.

Must not know: models, bundles.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from export.data.dataset import Log
from export.writing import unwritable
from stream.contracts import Click, EventType, Item, Purchase
from stream.errors import UsageError

ITEMS_FILE = "online_retail_sample.items.jsonl.gz"
EVENTS_FILE = "online_retail_sample.events.jsonl.gz"
CART_STEP_MS = 10_000  # between two derived cart events of an order


@dataclass(frozen=True, slots=True)
class Sample:
    """How much to take: orders from `begins` on, of at most `order_lines` lines."""

    begins: datetime = datetime(2011, 9, 1, tzinfo=UTC)
    items: int = 2_000
    customers: int = 600
    order_lines: int = 40


def write_sample(log: Log, folder: Path, spec: Sample | None = None) -> tuple[int, int]:
    """Write both files; return the number of items and of events.

    Raises
    ------
    UsageError
        Nothing of the log is left, or the folder cannot be written.
    """
    chosen = choose(log, spec or Sample())
    if len(chosen) == 0:
        raise UsageError("no order of the log is left in the sample; give the whole Online Retail")
    catalogue, events = catalogue_records(chosen), event_records(chosen)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ITEMS_FILE).write_bytes(_packed(catalogue))
        (folder / EVENTS_FILE).write_bytes(_packed(events))
    except OSError as error:
        raise unwritable(folder, error) from None
    return len(catalogue), len(events)


def choose(log: Log, spec: Sample) -> Log:
    """The most bought items, and the customers with the most orders of an ordinary size."""
    log = log.select(log.time_ms >= spec.begins.timestamp() * 1000)
    bought = log.event_type == EventType.PURCHASE
    lines = np.bincount(log.session[bought], minlength=int(log.session.max(initial=0)) + 1)
    log = log.select((lines[log.session] <= spec.order_lines) & (log.price > 0))
    log = log.select(np.isin(log.item, _most(log.item, spec.items)))
    orders = np.unique(np.stack([log.user, log.session]), axis=1)[0]
    return log.select(np.isin(log.user, _most(orders, spec.customers)))


def catalogue_records(log: Log) -> list[Item]:
    """One `items` record an item, with its title and its newest price."""
    newest = {int(item): at for at, item in enumerate(log.item)}
    return [
        Item(
            item_id=log.items[code],
            title=log.titles.get(log.items[code]),
            price=round(float(log.price[at]), 2),
        )
        for code, at in sorted(newest.items(), key=lambda pair: log.items[pair[0]])
    ]


def event_records(log: Log) -> list[Click | Purchase]:
    """`clicks` and `purchases` records in event-time order."""
    left = _lines_left(log)
    records: list[Click | Purchase] = []
    for at in range(len(log)):
        user, item = log.users[log.user[at]], log.items[log.item[at]]
        order, time_ms = f"o{log.session[at]}", int(log.time_ms[at])
        cancelled = log.event_type[at] == EventType.CANCEL
        records.append(
            Purchase(
                user_id=user,
                item_id=item,
                type="cancel" if cancelled else "purchase",
                event_time_ms=time_ms,
                event_id=f"{order}-{item}",
                session_id=order,
                quantity=int(log.quantity[at]),
                unit_price=round(float(log.price[at]), 2),
                currency="GBP",
            )
        )
        if not cancelled:
            records.append(
                Click(
                    user_id=user,
                    item_id=item,
                    type="add_to_cart",
                    event_time_ms=time_ms - CART_STEP_MS * int(left[at]),
                    event_id=f"{order}-{item}-cart",
                    session_id=order,
                    properties={"derived": True},
                )
            )
    return sorted(records, key=lambda record: record.event_time_ms)


def _most(codes: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    counts = np.bincount(codes)
    return np.argsort(-counts, kind="stable")[: min(n, int((counts > 0).sum()))]


def _lines_left(log: Log) -> npt.NDArray[np.int64]:
    """Lines of the same order from each line on, itself included: int64, shape (n,)."""
    order = np.argsort(log.session, kind="stable")[::-1]
    ordered = log.session[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    position = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    left = np.empty(len(order), np.int64)
    left[order] = position + 1
    return left


def _packed(records: list[Item] | list[Click | Purchase]) -> bytes:
    encoder = msgspec.json.Encoder()
    return gzip.compress(b"".join(encoder.encode(r) + b"\n" for r in records), 9, mtime=0)
