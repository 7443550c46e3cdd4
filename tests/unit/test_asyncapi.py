"""deploy/asyncapi.yaml is what the code makes, and takes of records what the codec takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator

from stream.contracts import (
    Item,
    Recommendation,
    decode_erasures,
    decode_events,
    decode_item,
    decode_record,
    decode_requests,
    encode_record,
)
from stream.errors import RecordError
from stream.kafka.specs import wanted_topics
from stream.settings import Settings
from tests.support import asyncapi, examples
from tests.support.asyncapi import records, told

NOW_MS = examples.TIME_MS
WRITTEN = asyncapi.PATH.read_text(encoding="utf-8")
DOCUMENT = msgspec.yaml.decode(WRITTEN)
MESSAGES = DOCUMENT["components"]["messages"]
SHOWN = [
    pytest.param(topic, example["payload"], id=f"{record.__name__}-{example['name']}")
    for topic, record in records().items()
    for example in MESSAGES[record.__name__]["examples"]
]
ODD: list[Any] = [None, True, -1, 0, 0.5, 10**12, "", "x", "x" * 257, [], ["x"], [[]], {}, {"x": 1}]


@cache
def validator(name: str) -> Draft7Validator:
    """Of the payload of a record, as the document has it."""
    schemas = DOCUMENT["components"]["schemas"]
    held = {"components": {"schemas": schemas}, "$ref": f"#/components/schemas/{name}"}
    return Draft7Validator(held)


def refused(topic: str, payload: dict[str, Any]) -> str | None:
    """Why the codec refuses a record that is keyed as the document says; None when it does not."""
    record = records()[topic]
    key = str(payload.get(str(told(record).key))).encode()
    value = json.dumps(payload).encode()
    try:
        if topic in ("clicks", "purchases"):
            _, rejections = decode_events(topic, [key], [value], [0], NOW_MS)  # type: ignore[arg-type]
            return rejections[0].reason if rejections else None
        if topic == "erasures":
            _, rejections = decode_erasures([key], [value], NOW_MS)
            return rejections[0].reason if rejections else None
        if record is Item:
            decode_item(key, value)
        else:
            decode_record(record, value)
    except RecordError as error:
        return error.reason
    return None


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (target for name, target in part.items() if name == "$ref")
    for inner in (
        part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    ):
        yield from references(inner)


def test_it_is_what_the_code_makes() -> None:
    assert asyncapi.text() == WRITTEN, "run `python -m tests.support.asyncapi`"


def test_every_topic_is_in_it_with_what_its_records_are() -> None:
    channels = DOCUMENT["channels"]
    made = {spec.name: spec.config for spec in wanted_topics(Settings())}
    assert {channel["address"] for channel in channels.values()} == set(made)
    for name, channel in channels.items():
        assert bool(channel["messages"]) == (name in asyncapi.topic_names()), name
        config = channel["bindings"]["kafka"]["topicConfiguration"]
        assert config.keys() == made[channel["address"]].keys()
    assert {record.__name__ for record in records().values()} < set(MESSAGES)


def test_its_operations_are_what_a_worker_reads_and_writes() -> None:
    operations = DOCUMENT["operations"]
    assert {"receive_clicks", "receive_purchases", "receive_items"} < set(operations)
    assert {"send_recommendations", "send_receipts", "send_dead_letters"} < set(operations)
    assert "send_clicks" not in operations
    (asked,) = operations["receive_erasures"]["messages"]
    (done,) = operations["send_erasures"]["messages"]
    assert asked["$ref"].endswith("/Erasure")
    assert done["$ref"].endswith("/ErasureNull")


def test_what_it_refers_to_is_there() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 20
    for reference in found:
        part = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


def test_requests_are_told_apart_and_answered() -> None:
    operations = {"receive_requests": {}, "send_answers": {"messages": ["Answer"]}}
    asyncapi._add_replies(operations)
    reply = {"channel": {"$ref": "#/channels/answers"}, "messages": ["Answer"]}
    assert operations["receive_requests"] == {"reply": reply}
    for name in ("Request", "Answer"):
        assert MESSAGES[name]["correlationId"] == {"location": "$message.payload#/request_id"}


@pytest.mark.parametrize(("topic", "payload"), SHOWN)
def test_an_example_decodes_and_is_valid(topic: str, payload: dict[str, Any]) -> None:
    assert refused(topic, payload) is None
    if topic == "requests":  # what no field can say by itself
        key, value = payload["user_id"].encode(), json.dumps(payload).encode()
        requests, rejections = decode_requests([key], [value], Settings().placements)
        assert (len(requests), rejections) == (1, [])
    record = records()[topic]
    assert list(validator(record.__name__).iter_errors(payload)) == []
    # Nothing of it is a field that no record has.
    known = json.loads(encode_record(msgspec.convert(payload, record)))
    assert payload.keys() <= known.keys() | {f.name for f in msgspec.structs.fields(record)}


@pytest.mark.parametrize("topic", ["clicks", "purchases", "items", "requests", "erasures"])
def test_a_schema_refuses_what_the_codec_refuses(topic: str) -> None:
    name = records()[topic].__name__
    payload, valid = MESSAGES[name]["examples"][-1]["payload"], validator(name).is_valid
    cases = [{k: v for k, v in payload.items() if k != name} for name in payload]
    cases += [{**payload, name: odd} for name in payload for odd in ODD]
    unlike = [case for case in cases if valid(case) != (refused(topic, case) is None)]
    assert unlike == []
    assert not all(map(valid, cases))


def test_a_null_takes_back_where_the_document_says_so() -> None:
    nulls = {name for name in MESSAGES if name.endswith("Null")}
    assert nulls == {"ItemNull", "ErasureNull", "RecommendationNull", "TrendingNull"}
    assert all(MESSAGES[name]["payload"] == {"type": "null"} for name in nulls)
    assert decode_item(b"85123A", None) is None
    assert decode_erasures([b"u1"], [None], NOW_MS) == ([], [])


def test_fields_are_described_as_their_records_do() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["Item"]["properties"]["price"]["description"] == "in the shop's currency, >= 0"
    lists = schemas["Recommendation"]["properties"]["lists"]
    assert lists["description"] == told(Recommendation).attributes["lists"]
    assert lists["additionalProperties"] == {"$ref": "#/components/schemas/RankedList"}
    for record in records().values():
        fields = {field.encode_name for field in msgspec.structs.fields(record)}
        assert set(told(record).attributes) <= fields, record
        assert schemas[record.__name__]["properties"].keys() == fields
