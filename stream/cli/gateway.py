"""`freshet gateway`: HTTP in front of the topics, until it is stopped. In: settings."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream.cli import call_on_interrupt, ends_at_once
from stream.cli.clients import require_usable
from stream.cli.common import connection_options, examples, load
from stream.config import log_format_asked
from stream.gateway.access import check_open
from stream.kafka.cluster import Cluster
from stream.kafka.rights import passing_on
from stream.log_lines import start_logging

if TYPE_CHECKING:
    from stream.gateway.service import Service


@click.command(
    "gateway",
    epilog=examples(
        "freshet gateway",
        "freshet gateway --port 8080 --partitions 0-2",
        "curl http://127.0.0.1:8420/v1/users/u1/lists/home",
    ),
)
@click.option("--host", help="Address to listen on (default: FRESHET_GATEWAY_HOST, or 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes any free one.")
@click.option("--partitions", metavar="all|0-2,5", help="Whose users' lists it holds.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["text", "json"]), help="json: for programs.")
@connection_options
def command(
    *,
    config: Path | None,
    bootstrap: str | None,
    host: str | None,
    port: int | None,
    partitions: str | None,
    log_level: str | None,
    log_format: str | None,
) -> None:
    """Serve users' lists over HTTP, and take events: GET /openapi.json says how.

    Lists are read from the topic into memory; several gateways share them by --partitions.
    """
    if log_format_asked(config, log_format) == "json":  # what is wrong with the rest as well
        start_logging("info", "json")
    settings = load(
        config,
        bootstrap,
        **{
            "gateway.host": host,
            "gateway.port": None if port is None else str(port),
            "gateway.partitions": partitions,
            "log_level": log_level,
            "log_format": log_format,
        },
    )
    start_logging(settings.log_level, settings.log_format)
    check_open(settings.gateway)
    cluster, rights = Cluster.of(settings), passing_on(settings)
    for right in ("Read", "Write"):
        needed = [topic for topic, allowed in rights.items() if right in allowed]
        require_usable(cluster, needed, right)
    with ends_at_once():
        from stream.gateway.service import Service

    asyncio.run(_serve(Service(settings)))


async def _serve(service: Service) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    call_on_interrupt(lambda: loop.call_soon_threadsafe(stopping.set))
    try:
        await service.start()
        await service.run_until(stopping)
    finally:
        await service.stop()
