"""CSV files of shops. In: rows under a header. Out: events as JSON, titles."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import IO, Any

import msgspec

from stream.logs.lines import BadLines, Line, OtherFormatError

# Fields of an event and what the row says of its item; or why it is passed over.
_Found = tuple[dict[str, Any], dict[str, str]] | str


def online_retail(text: IO[bytes], bad: BadLines) -> Iterator[Line]:
    """UCI Online Retail as CSV: what known customers bought and cancelled.

    A `C` before the invoice number makes a cancellation. Passed over, for they are no shopper's
    choice of a product: lines without a customer, stock corrections, postage and fees (a stock code
    is a product when it starts with five digits; its case varies in the file), and repeated lines
    of an invoice.
    """
    names = (
        *("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice"),
        "CustomerID",
    )
    seen: set[tuple[str, str]] = set()

    def event(cells: list[str]) -> _Found:
        invoice, stock_code, title, count, date, price, customer = cells
        item_id, quantity = stock_code.strip().upper(), int(count)
        cancelled = invoice.startswith("C")
        if not customer:
            return "no customer"
        if not item_id[:5].isdigit():
            return "no product: postage, fees, ..."
        if (quantity > 0) == cancelled:
            return "stock correction"
        if (invoice, item_id) in seen:
            return "repeated line of an invoice"
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
        return fields, _known(title=title, price=price)

    return _csv(text, bad, names, event)


def rees46(text: IO[bytes], bad: BadLines) -> Iterator[Line]:
    """REES46 shop logs as CSV: view, cart, remove_from_cart and purchase events."""
    names = (
        *("event_time", "event_type", "product_id", "category_code", "brand", "price"),
        *("user_id", "user_session"),
    )
    types = {"cart": "add_to_cart"}

    def event(cells: list[str]) -> _Found:
        date, given, product_id, category, brand, price, user_id, session_id = cells
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
        return fields, _known(category=category, brand=brand, price=price)

    return _csv(text, bad, names, event)


def _known(**about: str) -> dict[str, str]:
    return {name: text.strip() for name, text in about.items() if text.strip()}


def _moment_ms(date: str) -> int:
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp() * 1000)


def _csv(
    text: IO[bytes],
    bad: BadLines,
    names: tuple[str, ...],
    event: Callable[[list[str]], _Found],
) -> Iterator[Line]:
    """Turn rows into events by `event`, which gets the columns `names`."""
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
        if isinstance(found, str):
            bad.passed_over[found] += 1
        else:
            fields, about = found
            yield Line(rows.line_num, msgspec.json.encode(fields), about)
