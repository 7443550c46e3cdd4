"""`freshet broker`: the embedded broker in the foreground. In: a port. Out: a broker."""

from __future__ import annotations

import click

from stream.cli.common import examples, with_settings
from stream.config import Settings
from stream.errors import BrokerError
from stream.kafka.broker import EmbeddedBroker

DEFAULT_PORT = 9092


@click.command(
    "broker",
    epilog=examples(
        "freshet broker",
        "freshet broker --port 9192",
    ),
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="On 127.0.0.1; 0 takes any free one.",
)
@with_settings
def command(settings: Settings, port: int) -> None:
    """Run the embedded broker in the foreground, until Ctrl-C.

    It speaks the Kafka protocol and keeps everything in memory: for trying things out, with one
    worker, not for production.
    """
    with EmbeddedBroker(port) as broker:
        click.echo(
            f"embedded broker at {broker.bootstrap}, all in memory; Ctrl-C ends it\n"
            f"next: freshet topics create --bootstrap {broker.bootstrap}"
        )
        while broker.wait(timeout_s=0.5) is None:
            pass
        raise BrokerError(f"the embedded broker ended by itself:\n{broker.log_tail()}")
