"""CSV files of shops. In: rows under a header. Out: events as JSON, titles."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import IO, Any

import msgspec

from stream.logs.lines import BadLines, Line, OtherFormatError


def online_retail(text: IO[bytes], bad: BadLines) -> Iterator[Line]:
    """UCI Online Retail as CSV: what known customers bought and cancelled.

    A `C` before the invoice number makes a cancellation. Left out without a word, for they are no
    shopper's choice of a product: lines without a customer, stock corrections, postage and fees (a
    stock code is a product when it starts with five digits; its case varies in the file), and
    repeated lines of an invoice.
    """
    names = (
        *("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice"),
        "CustomerID",
    )
    seen: set[tuple[str, str]] = set()

    def event(cells: list[str]) -> tuple[dict[str, Any], str] | None:
        invoice, stock_code, title, count, date, price, customer = cells
        item_id, quantity = stock_code.strip().upper(), int(count)
        cancelled = invoice.startswith("C")
        usable = customer and item_id[:5].isdigit() and (quantity > 0) != cancelled
        if not usable or (invoice, item_id) in seen:
            return None
        fields = {
            "user_id": customer.split(".")[0],
            "item_id": item_id,
            "type": "cancel" if cancelled else "purchase",
            "event_time_ms": _moment_ms(date),
            "session_id": invoice,
            "quantity": abs(quantity),
            "unit_price": float(price),
            "currency": "GBP",
        }
        seen.add((invoice, item_id))
        return fields, title.strip()

    return _csv(text, bad, names, event)


def rees46(text: IO[bytes], bad: BadLines) -> Iterator[Line]:
    """REES46 shop logs as CSV: view, cart, remove_from_cart and purchase events."""
    names = ("event_time", "event_type", "product_id", "price", "user_id", "user_session")
    types = {"cart": "add_to_cart"}

    def event(cells: list[str]) -> tuple[dict[str, Any], None]:
        date, given, product_id, price, user_id, session_id = cells
        name = types.get(given, given)
        fields: dict[str, Any] = {
            "user_id": user_id,
            "item_id": product_id,
            "type": name,
            "event_time_ms": _moment_ms(date.removesuffix(" UTC")),
        }
        if session_id:  # a few lines of the published files lack it
            fields["session_id"] = session_id
        if name == "purchase":
            fields["unit_price"] = float(price)
        return fields, None

    return _csv(text, bad, names, event)


def _moment_ms(date: str) -> int:
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp() * 1000)


def _csv(
    text: IO[bytes],
    bad: BadLines,
    names: tuple[str, ...],
    event: Callable[[list[str]], tuple[dict[str, Any], str | None] | None],
) -> Iterator[Line]:
    """Turn rows into events by `event`, which gets the columns `names` and leaves out by None."""
    rows = csv.reader(line.decode("utf-8", "replace") for line in text)
    head = next(rows, [])
    if missing := [name for name in names if name not in head]:
        raise OtherFormatError(f"no column {', '.join(missing)}")
    columns = [head.index(name) for name in names]
    while True:
        try:
            cells = next(rows)
            if not cells:
                continue
            if len(cells) < len(head):
                raise ValueError(f"{len(cells)} columns, the header has {len(head)}")
            found = event([cells[column] for column in columns])
        except StopIteration:
            return
        except (ValueError, OverflowError, csv.Error) as error:
            bad.append((rows.line_num, str(error)))
            continue
        if found is not None:
            fields, title = found
            yield Line(rows.line_num, msgspec.json.encode(fields), title)
