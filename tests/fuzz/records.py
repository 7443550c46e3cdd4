"""Records for every input topic, good ones and broken ones, drawn from a seed.

In: a seed. Out: records that know how they were made. A record is made as a shop would, then
broken as a field, as a type, as JSON text or as bytes. Whether what came out is still good is the
judge's business (`judge.py`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from stream.contracts import CLICK_TYPES, ITEM_KINDS, PURCHASE_TYPES
from tests.fuzz.nasties import HEADERS, IDS, LOOKALIKES, MARK, RAW_VALUES, VALUES

TOPICS: Final = ("clicks", "purchases", "items", "requests", "erasures")
REQUEST_TYPES: Final = ("list", "rank", "similar", "together", "trending", "explain", "state")
NOW_MS: Final = 1_795_316_495_213

Headers = list[tuple[str, bytes | None]]


class Record(NamedTuple):
    """A record to send.

    Attributes
    ----------
    made : how it was broken; "good" when it was not
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    made: str


class Records:
    """An endless supply.

    Parameters
    ----------
    good : share of records left as they were made
    apart : users of one topic do nothing on another, so that their events have one order
    now_ms : the clock that they are made by
    """

    def __init__(
        self, seed: int, *, good: float = 0.4, apart: bool = False, now_ms: int = NOW_MS
    ) -> None:
        self._chance = random.Random(seed)
        self._good = good
        self._apart = apart
        self._now_ms = now_ms
        self._ways: dict[str, Callable[[str, dict[str, Any]], Record]] = {
            "corpus": self._corpus,
            "key": self._other_key,
            "field left out": self._left_out,
            "field of another type": self._retyped,
            "raw value": self._raw_value,
            "unknown field": self._unknown_field,
            "field given twice": self._twice,
            "bytes": self._bytes,
            "text": self._text,
            "header": self._header,
        }

    @property
    def ways(self) -> list[str]:
        """How records are broken."""
        return list(self._ways)

    def draw(self, topic: str, way: str | None = None) -> Record:
        """A record of `topic`; broken the given way, or at random."""
        fields = self._fields(topic)
        if way is None:
            if self._chance.random() < self._good:
                return self.whole(topic, fields)
            way = self._chance.choice(list(self._ways))
        return self._ways[way](topic, fields)

    def whole(self, topic: str, fields: dict[str, Any] | None = None) -> Record:
        """A good record."""
        fields = self._fields(topic) if fields is None else fields
        ascii_alone = self._chance.random() < 0.5
        value = json.dumps(fields, ensure_ascii=ascii_alone).encode()
        headers = HEADERS[0] if self._chance.random() < 0.05 else []
        return Record(topic, self._key(topic, fields), value, headers, "good")

    def of_one(self, topic: str) -> Record:
        """A good record of always the same user or item."""
        fields = self._fields(topic)
        return self.whole(topic, {**fields, ("item_id" if topic == "items" else "user_id"): "one"})

    def spliced(self, topic: str, name: str | None, raw: bytes) -> Record:
        """A record with `raw` in place of a field's value; by default of its last field."""
        fields = self._fields(topic)
        value = self._spliced(fields, name or list(fields)[-1], raw)
        return self._made(topic, fields, value, "raw value")

    # -- sound fields ----------------------------------------------------------------------

    def _key(self, topic: str, fields: dict[str, Any]) -> bytes:
        return str(fields["item_id" if topic == "items" else "user_id"]).encode()

    def _user(self, topic: str) -> str | int:
        number = self._chance.randrange(400)
        hostile = number < len(IDS)
        if not self._apart:
            name = IDS[number] if hostile else f"{MARK}{topic}-{number}"
            return number if number % 7 == 0 else name
        if number % 7 == 0:
            return 10 * number + TOPICS.index(topic)
        return f"{topic}-{IDS[number]}"[:60] if hostile else f"{MARK}{topic}-{number}"

    def _item(self) -> str | int:
        number = self._chance.randrange(400)
        return IDS[number] if number < len(IDS) else f"i{number}"

    def _fields(self, topic: str) -> dict[str, Any]:
        chance = self._chance
        if topic == "items":
            return self._item_fields()
        user = self._user(topic)
        if topic == "requests":
            return self._request_fields(user)
        time_ms = self._now_ms - chance.choice((0, 0, 1000, 86_400_000, 5_000_000_000))
        if topic == "erasures":
            return {"user_id": user, "event_time_ms": time_ms}
        types = CLICK_TYPES if topic == "clicks" else PURCHASE_TYPES
        fields = {
            "user_id": user,
            "item_id": self._item(),
            "type": chance.choice(sorted(types)),
            "event_time_ms": time_ms,
        }
        if chance.random() < 0.7:
            fields["event_id"] = f"{chance.getrandbits(60):x}"
        if chance.random() < 0.3:
            fields |= {"session_id": chance.choice((7, "s", None)), "placement": "home"}
        if chance.random() < 0.3:
            fields["list_name"] = chance.choice(("", "A" * 16, "é" * 16, "_-" * 8, "n" * 256, None))
        if chance.random() < 0.2:
            fields["properties"] = {"a": 1, "b": [1.5, None, "x", True], "c": {"d": "é"}}
        if topic == "purchases" and chance.random() < 0.5:
            fields |= {"quantity": 2, "unit_price": 1.25, "currency": "EUR"}
        return fields

    def _request_fields(self, user: str | int) -> dict[str, Any]:
        chance = self._chance
        kind = chance.choice(REQUEST_TYPES)
        fields: dict[str, Any] = {
            "request_id": f"r{chance.getrandbits(60):x}",
            "user_id": user,
            "type": kind,
        }
        if kind in {"similar", "together"}:
            fields["item_id"] = self._item()
        if kind in {"rank", "explain"}:
            fields["candidates"] = [self._item() for _ in range(chance.choice((1, 2, 20)))]
        if kind == "rank" and chance.random() < 0.5:
            relevance = [chance.choice((0, -1.5, 17, 1e308)) for _ in fields["candidates"]]
            fields |= {"relevance": relevance, "weight": chance.choice((0, 0.25, 1))}
        if kind == "trending":
            fields |= {"kind": chance.choice(ITEM_KINDS), "category": chance.choice(IDS)}
        if chance.random() < 0.2:
            fields["deadline_ms"] = self._now_ms + chance.choice((-86_400_000, 86_400_000))
        if chance.random() < 0.5:
            fields |= {"placement": "home", "k": chance.choice((1, 20, 1000))}
        return fields

    def _item_fields(self) -> dict[str, Any]:
        chance = self._chance
        number = chance.randrange(300)
        item_id: Any = f"x{number}" if number >= len(IDS) else f"x{IDS[number]}"[:200]
        fields: dict[str, Any] = {"item_id": number if number > 280 else item_id}
        if chance.random() < 0.7:
            fields |= {"title": chance.choice(IDS), "kind": chance.choice(ITEM_KINDS)}
        if chance.random() < 0.5:
            fields |= {"price": chance.choice((0, 1.5, 10**15)), "tags": ["a", chance.choice(IDS)]}
        if chance.random() < 0.3:
            fields |= {"available": chance.random() < 0.5, "brand": None, "category": "c"}
        if chance.random() < 0.1:
            fields["embedding"] = [chance.uniform(-1, 1) or 1.0 for _ in range(16)]
        return fields

    # -- ways to break them ----------------------------------------------------------------

    def _made(self, topic: str, fields: dict[str, Any], value: bytes | None, made: str) -> Record:
        return Record(topic, self._key(topic, fields), value, [], made)

    def _corpus(self, topic: str, fields: dict[str, Any]) -> Record:
        return self._made(topic, fields, self._chance.choice(VALUES), "corpus")

    def _other_key(self, topic: str, fields: dict[str, Any]) -> Record:
        key = self._key(topic, fields)
        if self._chance.random() < 0.3:
            fields["item_id" if topic == "items" else "user_id"] = "é"
            key = self._chance.choice(LOOKALIKES).encode()
        else:
            key = self._chance.choice(
                (
                    None,
                    b"",
                    key + b" ",
                    key.upper(),
                    b"\xff",
                    key[:-1],
                    b"k" * 5000,
                    b'"' + key + b'"',
                )
            )
        return Record(topic, key, json.dumps(fields).encode(), [], "key")

    def _left_out(self, topic: str, fields: dict[str, Any]) -> Record:
        key = self._key(topic, fields)
        del fields[self._chance.choice(list(fields))]
        return Record(topic, key, json.dumps(fields).encode(), [], "field left out")

    def _retyped(self, topic: str, fields: dict[str, Any]) -> Record:
        key = self._key(topic, fields)
        name = self._chance.choice(list(fields))
        fields[name] = self._chance.choice(
            (None, True, 0, -1, 1.5, 2**63, 2**64, 1e300, "", " ", "x" * 257, [], {}, [1], {"a": 1})
        )
        return Record(topic, key, json.dumps(fields).encode(), [], "field of another type")

    def _spliced(self, fields: dict[str, Any], name: str, raw: bytes) -> bytes:
        """The object with `raw` as the value of `name`."""
        rest = {other: value for other, value in fields.items() if other != name}
        head = json.dumps(rest).encode()[:-1]
        return head + (b"," if rest else b"") + json.dumps(name).encode() + b":" + raw + b"}"

    def _raw_value(self, topic: str, fields: dict[str, Any]) -> Record:
        name = self._chance.choice(list(fields))
        value = self._spliced(fields, name, self._chance.choice(RAW_VALUES))
        return self._made(topic, fields, value, "raw value")

    def _unknown_field(self, topic: str, fields: dict[str, Any]) -> Record:
        raw = self._chance.choice((*RAW_VALUES, b'"%s"' % (b"x" * 66_000)))
        return self._made(topic, fields, self._spliced(fields, "note", raw), "unknown field")

    def _twice(self, topic: str, fields: dict[str, Any]) -> Record:
        name = self._chance.choice(list(fields))
        again = self._chance.choice((b"null", b'"other"', b"7", json.dumps(fields[name]).encode()))
        value = json.dumps(fields).encode()[:-1] + b"," + json.dumps(name).encode() + b":" + again
        return self._made(topic, fields, value + b"}", "field given twice")

    def _bytes(self, topic: str, fields: dict[str, Any]) -> Record:
        value = bytearray(json.dumps(fields).encode())
        for _ in range(self._chance.choice((1, 1, 1, 2, 8))):
            at = self._chance.randrange(len(value))
            match self._chance.randrange(5):
                case 0:
                    value[at] = self._chance.randrange(256)
                case 1:
                    del value[at : at + self._chance.choice((1, 1, 5))]
                case 2:
                    value[at:at] = bytes([self._chance.randrange(256)])
                case 3:
                    value[at:at] = value[at : at + 20]
                case _:
                    value[at] ^= 1 << self._chance.randrange(8)
            if not value:
                break
        if self._chance.random() < 0.1:
            del value[self._chance.randrange(len(value) + 1) :]
        return self._made(topic, fields, bytes(value), "bytes")

    def _text(self, topic: str, fields: dict[str, Any]) -> Record:
        value = json.dumps(fields, ensure_ascii=False)
        raw = value.encode()
        wrong = self._chance.choice(
            [
                *(value.encode(coding) for coding in ("utf-16", "utf-32", "utf-8-sig")),
                *(
                    b" " * 1000 + raw,
                    raw + b"\n\n",
                    raw + b"\0",
                    raw * 2,
                    b"[" + raw + b"]",
                    raw[1:],
                ),
                *(value.replace('"', "'").encode(), raw.replace(b"e", b"\xe9", 1)),
                *(json.dumps(fields, indent=4).encode(), json.dumps(value).encode()),
            ]
        )
        return self._made(topic, fields, wrong, "text")

    def _header(self, topic: str, fields: dict[str, Any]) -> Record:
        record = self.draw(topic, self._chance.choice(list(self._ways)[:-1]))
        headers = self._chance.choice(HEADERS)
        if self._chance.random() < 0.5:
            record = self.whole(topic, fields)
        return record._replace(headers=headers, made="header")
