"""The gateway fuzzed from its own document: no answer is a failure, and each is as it is told.

Some hundreds of requests, half of which break the document; the same ones in every run.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from prometheus_client import CollectorRegistry
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from stream.gateway.app import gateway_app
from stream.gateway.openapi import document
from stream.gateway.view import Held, View
from tests.support.gateway import PARTITIONS, FakeProducer, record_of, settings_with

EXAMPLES = 15  # of each operation, once within the document and once beyond it
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS = {
    operation.label: operation
    for result in SCHEMA.get_all_operations()
    if not (operation := result.ok()).label.endswith("/stream")  # which has no end
}


class EverySecond(View):
    """Has a list for every second user."""

    def get(self, user: bytes) -> Held | None:
        if len(user) % 2 and user != b"u":
            return None
        record = record_of("u", placement="home")
        assert record.value is not None
        return Held(record.value, record.partition, record.offset)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a gateway in a thread, without brokers."""
    view = EverySecond(PARTITIONS)
    view.loaded = True
    app = gateway_app(settings_with(), view, FakeProducer(), registry=CollectorRegistry())
    loop, told = asyncio.new_event_loop(), threading.Event()
    address: list[Any] = []
    ended = asyncio.Event()

    async def run() -> None:
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address.extend(runner.addresses[0])
        told.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert told.wait(10)
    yield f"http://{address[0]}:{address[1]}"
    loop.call_soon_threadsafe(ended.set)
    thread.join(10)
    loop.close()


def test_every_operation_is_fuzzed_but_the_stream() -> None:
    told = sum(method != "parameters" for of in document()["paths"].values() for method in of)
    assert len(OPERATIONS) == told - 1


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_as_the_document_says(url: str, label: str, mode: GenerationMode) -> None:
    sent = 0

    @hypothesis_settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        nonlocal sent
        sent += 1
        case.call_and_validate(base_url=url, checks=CHECKS)

    send()
    assert sent >= EXAMPLES // 2
