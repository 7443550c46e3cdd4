"""Requests as records: what is read, what is refused and for which reason."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from stream.contracts import (
    REASONS,
    Answer,
    AnsweredItem,
    Because,
    Interaction,
    Reason,
    Request,
    UserState,
    decode_answer,
    decode_record,
    decode_requests,
    encode_record,
)

NOW_MS = 1_795_000_000_000
LIST = {"request_id": "r", "user_id": "u", "type": "list"}


def read(fields: dict[str, Any] | bytes, key: bytes | None = b"u") -> Request | tuple[str, Any]:
    """The request, or reason and field of its rejection."""
    value = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    requests, rejections = decode_requests([key], [value], ["home", "cart"])
    if requests:
        ((position, request),) = requests
        assert (position, rejections) == (0, [])
        return request
    ((position, reason, field),) = rejections
    assert position == 0
    assert reason in REASONS
    return reason, field


def test_a_request_round_trip() -> None:
    request = Request(
        request_id="r1",
        user_id="u1",
        type="rank",
        placement="home",
        k=5,
        candidates=("i1", 2),
        relevance=(1.0, 2.5),
        weight=0.25,
        deadline_ms=NOW_MS,
    )
    assert decode_record(Request, encode_record(request)) == request
    assert request.candidate_ids == ["i1", "2"]


def test_an_answer_round_trip() -> None:
    item = AnsweredItem(
        "i1",
        0.5,
        1,
        Reason("popular"),
        price=2,
        mark="excluded",
        relevance=3.5,
        value=1.0,
        because=(Because("click", None, NOW_MS, -0.25),),
    )
    state = UserState(3, NOW_MS, (Interaction("view", "i1", NOW_MS),), 99, 2, 7.5, NOW_MS)
    for more in ({}, {"items": (item,)}, {"basis": "users"}, {"state": state}):
        answer = Answer(
            request_id="r",
            user_id="u",
            type="list",
            status="answered",
            placement="home",
            known_user=True,
            model="b",
            variant="default",
            generated_ms=NOW_MS,
            **more,  # type: ignore[arg-type]
        )
        assert decode_answer(encode_record(answer)) == answer
    # What was not asked for is not there.
    plain = msgspec.json.decode(encode_record(AnsweredItem("i1", 0.5, 1, Reason("popular"))))
    assert set(plain) == {"item_id", "score", "rank", "reason", "explored", "propensity"}


def test_an_answer_may_be_longer_than_a_request() -> None:
    item = AnsweredItem("i" * 256, 0.5, 1, Reason("popular"))
    answer = Answer("r", "u", "list", "answered", "home", True, "b", "v", NOW_MS, (item,) * 1000)
    assert decode_answer(encode_record(answer)) == answer


def test_numbers_are_ids_as_everywhere() -> None:
    request = read({**LIST, "user_id": 7, "request_id": 8}, key=b"7")
    assert isinstance(request, Request)
    assert (request.user, request.request_id) == ("7", 8)


@pytest.mark.parametrize(
    ("changed", "reason", "field"),
    [
        ({"type": None}, "wrong_type", "type"),
        ({"type": "best"}, "unknown_type", "type"),
        ({"request_id": ""}, "empty_id", "request_id"),
        ({"placement": "checkout"}, "unknown_placement", "placement"),
        ({"placement": "x" * 257}, "out_of_range", "placement"),
        ({"k": 0}, "out_of_range", "k"),
        ({"k": 1001}, "out_of_range", "k"),
        ({"weight": 1.5}, "out_of_range", "weight"),
        ({"weight": "a"}, "wrong_type", "weight"),
        ({"kind": "best"}, "unknown_kind", "kind"),
        ({"deadline_ms": 5}, "out_of_range", "deadline_ms"),
        ({"deadline_ms": "x"}, "wrong_type", "deadline_ms"),
        ({"type": "rank"}, "missing_field", "candidates"),
        ({"type": "explain"}, "missing_field", "candidates"),
        ({"type": "similar"}, "missing_field", "item_id"),
        ({"type": "together"}, "missing_field", "item_id"),
        ({"type": "rank", "candidates": []}, "out_of_range", "candidates"),
        ({"type": "rank", "candidates": ["a"] * 1001}, "out_of_range", "candidates"),
        ({"type": "explain", "candidates": ["a"] * 101}, "out_of_range", "candidates"),
        ({"type": "rank", "candidates": "a"}, "wrong_type", "candidates"),
        ({"type": "rank", "candidates": ["a", None]}, "wrong_type", "candidates"),
        ({"type": "rank", "candidates": ["a", True]}, "wrong_type", "candidates"),
        ({"type": "rank", "candidates": ["a", ""]}, "empty_id", "candidates"),
        ({"type": "rank", "candidates": ["a" * 257]}, "id_too_long", "candidates"),
        ({"type": "rank", "candidates": ["é" * 200]}, "id_too_long", "candidates"),
        (
            {"type": "rank", "candidates": ["a", "b"], "relevance": [1]},
            "length_mismatch",
            "relevance",
        ),
        (
            {"type": "rank", "candidates": ["a", "b"], "relevance": [1, "x"]},
            "wrong_type",
            "relevance",
        ),
        ({"relevance": [1]}, "length_mismatch", "relevance"),
    ],
)
def test_what_cannot_be_used_is_told(changed: dict[str, Any], reason: str, field: str) -> None:
    assert read({**LIST, **changed}) == (reason, field)


def test_the_key_is_the_user() -> None:
    assert read(LIST, key=None) == ("key_missing", "user_id")
    assert read(LIST, key=b"v") == ("key_mismatch", "user_id")
    assert read(b"") == ("empty_value", None)
    assert read(b"[]") == ("not_object", None)
    assert read({"request_id": "r", "user_id": "u"}) == ("missing_field", "type")


def test_a_number_that_is_none_is_refused() -> None:
    text = b'{"request_id":"r","user_id":"u","type":"rank","candidates":["a"],"relevance":[1e999]}'
    assert read(text) == ("not_finite", "relevance")
