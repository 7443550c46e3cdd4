"""Which brokers this machine can run, and how a test starts one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from stream.errors import BrokerError
from stream.kafka.broker import BrokerProcess, EmbeddedBroker, embedded_binary
from tests.support.kafka import ApacheKafka, fetch_jars, java

KINDS = ("kafka", "embedded")


def _start_kafka(folder: Path) -> BrokerProcess:
    return ApacheKafka(folder / "kafka", short_lived=True).start()


def _start_embedded(folder: Path) -> BrokerProcess:
    return EmbeddedBroker(log=folder / "embedded.log").start()


_START: dict[str, Callable[[Path], BrokerProcess]] = {
    "kafka": _start_kafka,
    "embedded": _start_embedded,
}


def start_broker(kind: str, folder: Path) -> BrokerProcess:
    """Start a broker of `kind` with its data and log below `folder`, and wait until it answers."""
    return _START[kind](folder)


def remove_data(folder: Path) -> None:
    """Remove what a stopped broker stored below `folder`; its log stays for the curious."""
    shutil.rmtree(folder / "kafka", ignore_errors=True)


def why_missing(kind: str) -> str | None:
    """Why this machine cannot run a broker of `kind`, None when it can. Fetches the jars."""
    try:
        if kind == "kafka":
            java()
            fetch_jars()
        else:
            embedded_binary()
    except BrokerError as error:
        return str(error)
    return None


def must_run(kind: str) -> bool:
    """Whether a missing broker of `kind` is a failure: REQUIRE_KAFKA=1, REQUIRE_EMBEDDED=1."""
    return os.environ.get(f"REQUIRE_{kind.upper()}", "") not in ("", "0")
