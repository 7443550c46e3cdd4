"""`freshet ask`: one request by hand. In: options. Out: a record on requests, and its answer.

The example of how to ask: a JSON object, keyed by user_id; the answer has its request_id. It
subscribes before the request is sent, since the answer may come at once.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import Any, get_args

import click
import msgspec
from kafka import KafkaConsumer

from stream.cli.clients import assign_all, open_consumer, open_producer, seek_to_end
from stream.cli.common import (
    Wait,
    complete_placement,
    examples,
    print_json,
    printable,
    read_property,
    with_settings,
)
from stream.config import Settings
from stream.contracts import ITEM_KINDS, Answer, AnsweredItem, decode_answer, decode_requests
from stream.contracts.requests import RequestType
from stream.errors import FreshetError, RecordError, UsageError
from stream.kafka.cluster import Cluster
from stream.words.templates import Words


@click.command(
    "ask",
    epilog=examples(
        "freshet ask list --user u1 --k 5",
        "freshet ask rank --user u1 --candidate 85123A --candidate 22423",
        "freshet ask similar --user u1 --item 85123A --json",
    ),
)
@click.argument("request_type", metavar="TYPE", type=click.Choice(get_args(RequestType)))
@click.option("--user", required=True, help="user_id, which is also the record's key.")
@click.option(
    "--placement",
    help="Whose rules hold (default: the first of the worker's settings).",
    shell_complete=complete_placement,
)
@click.option("--k", type=int, help="Items to answer with (default: the placement's).")
@click.option("--item", help="item_id, of similar and together.")
@click.option("--candidate", "candidates", multiple=True, help="Of rank, explain; repeatable.")
@click.option("--relevance", type=float, multiple=True, help="Of each candidate, in their order.")
@click.option("--weight", type=float, help="Of relevance against interest, 0 to 1.")
@click.option("--kind", type=click.Choice(ITEM_KINDS), help="Of trending.")
@click.option("--category", help="Of trending.")
@click.option("--property", "properties", multiple=True, metavar="K=V", help="Of list, for guests.")
@click.option("--request-id", help="Comes back with the answer (default: a fresh one).")
@click.option(
    "--timeout",
    "timeout_s",
    type=Wait(),
    default=10.0,
    show_default=True,
    help="Seconds to wait; also the request's deadline.",
)
@click.option("--json", "as_json", is_flag=True, help="The answer as it came.")
@with_settings
def command(
    settings: Settings, request_type: str, *, timeout_s: float, as_json: bool, **options: Any
) -> None:
    """Ask for one answer by hand.

    TYPE: list, rank, similar, together, trending, explain, state.
    """
    key, request = _request(request_type, options)
    words = Words.of(settings.words)
    _check(settings, key, request)
    topics = settings.topics
    with contextlib.ExitStack() as stack:
        consumer = stack.enter_context(open_consumer(Cluster.of(settings), [topics.answers]))
        seek_to_end(consumer, assign_all(consumer, [topics.answers])[topics.answers])
        producer = stack.enter_context(open_producer(Cluster.of(settings), [topics.requests]))
        request["deadline_ms"] = time.time_ns() // 1_000_000 + int(1000 * timeout_s)
        began_s = time.monotonic()
        producer.send(topics.requests, key=key, value=json.dumps(request).encode()).get(timeout=20)
        value = _await_answer(consumer, request["request_id"], began_s + timeout_s)
        took_ms = (time.monotonic() - began_s) * 1000
    if value is None:
        raise FreshetError(
            f"no answer came within {timeout_s:g} s: is a worker running, and is the request good? "
            f"What cannot be used goes to {topics.dead_letters!r} with the reason; `freshet doctor "
            f"--bootstrap {settings.bootstrap}` looks for what is wrong"
        )
    if as_json:
        print_json({"request_to_answer_ms": took_ms, **msgspec.json.decode(value)})
    else:
        _show(decode_answer(value), took_ms, words)


def _request(request_type: str, options: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Return the record's key and its fields."""
    try:
        key = options["user"].encode()
    except UnicodeEncodeError as error:
        raise UsageError("--user is not valid UTF-8") from error
    fields = {
        "request_id": options["request_id"] or uuid.uuid4().hex,
        "user_id": options["user"],
        "type": request_type,
        "placement": options["placement"],
        "k": options["k"],
        "item_id": options["item"],
        "candidates": options["candidates"] or None,
        "relevance": options["relevance"] or None,
        "weight": options["weight"],
        "kind": options["kind"],
        "category": options["category"],
        "properties": dict(map(read_property, options["properties"])) or None,
    }
    return key, {name: given for name, given in fields.items() if given is not None}


def _check(settings: Settings, key: bytes, request: dict[str, Any]) -> None:
    """Refuse here what the worker would only put among the dead letters.

    But for the placement, which is a matter of the worker's settings.
    """
    placements: set[str] = {*settings.placements, request.get("placement", "")}
    _, rejections = decode_requests([key], [json.dumps(request).encode()], placements)
    for _, reason, field in rejections:
        where = f" in {field}" if field else ""
        raise UsageError(f"the request cannot be used: {reason}{where}")


def _await_answer(consumer: KafkaConsumer, request_id: str, deadline_s: float) -> bytes | None:
    """The answer to a request as it came; None when there is none in time."""
    while (left_s := deadline_s - time.monotonic()) > 0:
        polled = consumer.poll(timeout_ms=max(1, int(left_s * 1000)))
        for record in (one for records in polled.values() for one in records):
            with contextlib.suppress(RecordError):
                if decode_answer(record.value).request_id == request_id:
                    found: bytes = record.value
                    return found
    return None


def _show(answer: Answer, took_ms: float, words: Words) -> None:
    guest = "" if answer.known_user else ", a guest"
    click.echo(
        f"{answer.type} for {printable(answer.user_id)}{guest}: {answer.status} in {took_ms:.1f} ms"
    )
    for item in answer.items:
        click.echo(
            f"{item.rank:>4}. {printable(item.item_id)}  {item.score:.4f}  {_why(item, words)}"
        )
        for because in () if item.because is msgspec.UNSET else item.because:
            said = because.words or words.why(because.type, because.item_id)
            click.echo(f"      {because.share:+.4f}  {printable(said)}")
    if answer.state is not msgspec.UNSET:
        state = answer.state
        click.echo(
            f"{state.events} events, {state.state_bytes} bytes kept of them; bought "
            f"{state.purchases} times for {state.spent:g}"
        )
        for done in state.interactions:
            what = printable(done.item_id or "an item not known any more")
            click.echo(f"      {done.type} {what} at {done.event_time_ms}")


def _why(item: AnsweredItem, words: Words) -> str:
    """Reason and mark of an item, in brackets."""
    said = item.reason.words or words.why(item.reason.code, item.reason.item_id)
    mark = "" if item.mark is msgspec.UNSET else f", {item.mark}"
    return f"({printable(said)}{mark})"
