"""The OpenAPI 3.1 document of the gateway, made from the records' types.

In: the structs of `stream.contracts` and of this room. Out: what `/openapi.json` serves and
deploy/openapi.yaml holds. A field that a record gets is in it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from stream.contracts import (
    MAX_ID_BYTES,
    Answer,
    Click,
    Item,
    Purchase,
    Receipt,
    Recommendation,
    Request,
)
from stream.contracts.describing import attributes_of, described, structs_of, summary_of
from stream.gateway.answers import Accepted, Failure, Invalid, Pending
from stream.gateway.posting import MAX_RECORDS

VERSION: Final = "1.0.0"  # of the contract, not of the package
JSON: Final = "application/json"

Document = dict[str, Any]

_RECORDS: Final[tuple[type[Struct], ...]] = (
    *(Click, Purchase, Item, Request, Recommendation, Answer, Receipt),
    *(Accepted, Pending, Failure, Invalid),
)
_EVENTS: Final[dict[str, type[Struct]]] = {"clicks": Click, "purchases": Purchase, "items": Item}

# What is told of each status; the reasons are the `error` of the answers.
_FAILURES: Final = {
    400: "bad_user_id, or not_json: the request cannot be read",
    401: "no_token: tokens are set, and none of them came",
    403: "other_host: without tokens only this machine's own names are served",
    404: "no_list, no_placement, not_found: there is nothing of the kind",
    408: "body_too_slow: the body did not come in time",
    413: "body_too_large: send less at a time",
    415: "not_json: the header Content-Type is not application/json",
    421: "other_partition: another gateway holds this user, of partition `partition`",
    429: "too_many_requests: wait as Retry-After says",
    502: "unreadable_list: what stands on the topic is no record of Freshet's",
    503: "not_ready, broker_away, too_many_streams: try again",
    504: "no_answer: no worker answered by the deadline",
}
_ALWAYS: Final = (401, 403, 429)
_OF_USER: Final = (400, 421)


def document() -> Document:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Freshet gateway",
            "version": VERSION,
            "description": (
                "HTTP in front of Freshet's topics: a user's lists as they were last published, "
                "events posted, requests answered, users forgotten. Unknown fields pass. Errors "
                "are JSON: `error` is the reason, `message` what to do."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8420", "description": "gateway.host, gateway.port"}],
        "security": [{"token": []}, {}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "a line of gateway.tokens_file; not needed where that is unset",
                }
            },
            "schemas": _schemas(),
        },
    }


def _paths() -> Document:
    user, placement = _parameter("user_id"), _parameter("placement")
    narrowed = {
        "name": "placement",
        "in": "query",
        "description": "one placement alone, as /v1/users/{user_id}/lists/{placement} has it",
        "schema": {"type": "string"},
    }
    paths: Document = {
        "/v1/users/{user_id}/lists": {
            "parameters": [user],
            "get": _operation(
                "getLists",
                "The newest lists of a user, all placements, as they were published",
                {200: ("the record", "Recommendation")},
                (*_OF_USER, 404, 503),
            ),
        },
        "/v1/users/{user_id}/lists/{placement}": {
            "parameters": [user, placement],
            "get": _operation(
                "getList",
                "The newest list of one placement",
                {200: ("the list, with what its record says", "PlacementList")},
                (*_OF_USER, 404, 502, 503),
            ),
        },
        "/v1/users/{user_id}/stream": {
            "parameters": [user],
            "get": _operation(
                "streamLists",
                "The lists of a user as they come, as server-sent events: the newest at once, then "
                "each new one (`event: lists`, `id: partition:offset`), and `event: forgotten`. A "
                "slow reader misses records, never the newest",
                {200: ("events; a comment every 15 s where there is none", None)},
                (*_OF_USER, 503),
                parameters=[narrowed],
            ),
        },
        "/v1/users/{user_id}": {
            "parameters": [user],
            "delete": _operation(
                "forgetUser",
                "Forget a user: waits up to 10 s for the receipt",
                {
                    200: ("the receipt: it is done", "Receipt"),
                    202: ("it stands on the topic, and will be done", "Pending"),
                },
                (*_OF_USER, 503),
            ),
        },
        "/v1/requests": {
            "post": _operation(
                "ask",
                "Ask for one answer: waits until deadline_ms (30 s at most), or for a second",
                {200: ("the answer", "Answer")},
                (408, 413, 415, 421, 503, 504),
                body={"$ref": _ref("Request")},
            )
        },
    }
    for kind, record in _EVENTS.items():
        one = {"$ref": _ref(record.__name__)}
        many = {"type": "array", "maxItems": MAX_RECORDS, "items": one}
        paths[f"/v1/{kind}"] = {
            "post": _operation(
                f"post{kind.capitalize()}",
                f"Send {kind}, exactly as on their topic: all of them or none",
                {202: ("all are acknowledged", "Accepted")},
                (408, 413, 415, 503),
                body={"anyOf": [one, many]},
            )
        }
    return paths


def _operation(
    name: str,
    summary: str,
    answers: dict[int, tuple[str, str | None]],
    failures: Sequence[int],
    *,
    body: Document | None = None,
    parameters: Sequence[Document] = (),
) -> Document:
    """One operation; an answer without a schema is a stream."""
    responses: Document = {}
    for status, (words, schema) in answers.items():
        content = (
            {"text/event-stream": {"schema": {"type": "string"}}}
            if schema is None
            else {JSON: {"schema": {"$ref": _ref(schema)}}}
        )
        responses[str(status)] = {"description": words, "content": content}
    if body is not None:
        responses["400"] = _failure(
            "invalid: `rejections` says what is wrong with which record; or not_json, "
            "too_many_records",
            {"anyOf": [{"$ref": _ref("Invalid")}, {"$ref": _ref("Failure")}]},
        )
    for status in sorted({*failures, *_ALWAYS}):
        responses.setdefault(str(status), _failure(_FAILURES[status], {"$ref": _ref("Failure")}))
    made: Document = {"operationId": name, "summary": summary}
    if parameters:
        made["parameters"] = list(parameters)
    if body is not None:
        made["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    return {**made, "responses": responses}


def _failure(words: str, schema: Document) -> Document:
    return {"description": words, "content": {JSON: {"schema": schema}}}


def _parameter(name: str) -> Document:
    limits = {"minLength": 1, "maxLength": MAX_ID_BYTES} if name == "user_id" else {"minLength": 1}
    words = "at most 256 bytes of UTF-8" if name == "user_id" else "as the settings name it"
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": words,
        "schema": {"type": "string", **limits},
    }


def _ref(name: str) -> str:
    return f"#/components/schemas/{name}"


def _schemas() -> Document:
    _, found = msgspec.json.schema_components(_RECORDS, ref_template=_ref("{name}"))
    structs = structs_of(_RECORDS)
    made = {name: _told(schema, structs[name]) for name, schema in found.items()}
    # A number as an item's id becomes its text, as everywhere.
    made["Item"]["properties"]["item_id"] = made["Click"]["properties"]["item_id"]
    made["Request"]["required"].remove("request_id")  # made where it is missing
    made["PlacementList"] = _placement_list(made["Recommendation"], made["RankedList"])
    return dict(sorted(made.items()))


def _told(schema: Document, record: type[Struct]) -> Document:
    words = attributes_of(record)
    properties = {
        name: described(part, words.get(name)) for name, part in schema["properties"].items()
    }
    return {**schema, "description": summary_of(record), "properties": properties}


def _placement_list(record: Document, ranked: Document) -> Document:
    """What one placement's answer holds: the record with that list in the place of all."""
    of_record = {name: part for name, part in record["properties"].items() if name != "lists"}
    user = {"user_id": of_record.pop("user_id")}
    placement = {"placement": {"type": "string"}}
    required = [name for name in record["required"] if name != "lists"]
    return {
        "title": "PlacementList",
        "type": "object",
        "description": "A list of one placement, with what its record says.",
        "properties": {**user, **placement, **of_record, **ranked["properties"]},
        "required": ["placement", *required, *ranked["required"]],
    }
