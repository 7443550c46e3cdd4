"""`freshet demo`: all of Freshet on one machine. In: a real shop's baskets. Out: lists.

Starts an embedded broker (unless one is named), the topics, the catalogue, a worker and the
storefront; lets a few shoppers of the sample click and buy at a human pace, and shows every list.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import click
import msgspec
from kafka import KafkaProducer

from stream.cli.clients import open_consumer, open_producer
from stream.cli.common import Wait, connection_options, examples, load
from stream.cli.demo_loop import DemoLoop, Watched
from stream.config import Settings, given_paths, settings_file
from stream.contracts import Item
from stream.core.bundle import Bundle, manifest_in
from stream.demo import sample, shop
from stream.demo.models import ModelSwitch
from stream.demo.server import StorefrontServer
from stream.demo.storefront import catalogue
from stream.demo.traffic import SimulatedShoppers
from stream.demo.worker import WorkerProcess, worker_url
from stream.errors import SettingsError
from stream.kafka.broker import EmbeddedBroker, free_port
from stream.kafka.cluster import Cluster
from stream.kafka.topics import create_topics, require_topics
from stream.listening import open_port
from stream.settings.gateway import Gateway

_HERE = "127.0.0.1"

# The embedded broker lets a group join after half the session timeout.
_EMBEDDED = {
    "broker.session_timeout_s": "2",
    "broker.heartbeat_s": "0.5",
}


@click.command(
    "demo",
    epilog=examples(
        "freshet demo",
        "freshet demo --shoppers 5 --pace 0.5",
    ),
)
@click.option("--shoppers", type=click.IntRange(1, 50), default=3, show_default=True)
@click.option(
    "--pace",
    type=Wait(0.01),
    default=1.5,
    show_default=True,
    help="Seconds between two events.",
)
@click.option(
    "--events",
    type=click.IntRange(0),
    default=300,
    show_default=True,
    help="Stop replaying after so many, and wait for events by hand.",
)
@click.option(
    "--page/--no-page", "with_page", default=True, help="Serve the storefront (default), or not."
)
@click.option(
    "--page-port",
    type=click.IntRange(0, 65535),
    help="Its port; 0: any (default: 8420, or any when that is taken).",
)
@connection_options
def command(
    *,
    config: Path | None,
    bootstrap: str | None,
    shoppers: int,
    pace: float,
    events: int,
    with_page: bool,
    page_port: int | None,
) -> None:
    """Show lists of a real shop change with every click, on this machine: as text, and as a page.

    Starts an embedded broker; with --bootstrap or FRESHET_BOOTSTRAP it uses that broker's topics
    instead. Ctrl-C ends all it started.
    """
    config = settings_file(config) or shop.SETTINGS
    settings = load(config, bootstrap)
    # What is wrong with these is told before anything is started.
    served = bundles(settings)
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(_page_port(page_port)) if with_page else None
        worker_settings: dict[str, str] = {}
        # The default address counts when it was spelled out, or how to get in there.
        given = given_paths(config, {"bootstrap": bootstrap})
        if not any(path.partition(".")[0] in {"bootstrap", "security"} for path in given):
            broker = stack.enter_context(EmbeddedBroker())
            settings = msgspec.structs.replace(settings, bootstrap=broker.bootstrap)
            worker_settings = _EMBEDDED
            click.echo(f"broker   {broker.bootstrap}, embedded, all in memory")
        else:
            click.echo(f"broker   {settings.bootstrap}")
        create_topics(settings)
        require_topics(settings)
        topics = settings.topics
        sources = [topics.items, topics.clicks, topics.purchases]
        producer = stack.enter_context(open_producer(Cluster.of(settings), sources))
        metrics_port = free_port()
        models = ModelSwitch(
            served,
            lambda bundle: _worker(settings, config, bundle, worker_settings, metrics_port),
            lambda bundle: _send(settings, producer, shop.with_vectors(shop.assortment(bundle))),
        )
        stack.enter_context(models)
        items = shop.assortment(Bundle.load(served[models.now.model]))
        _send(settings, producer, items)
        products = sum(item.kind == "product" for item in items)
        click.echo(
            f"items    {products:,} of Online Retail (UCI, CC BY 4.0), prices in GBP; "
            f"{len(items) - products} shops, coupons, ads and articles are made up"
        )
        baskets = sample.read_baskets()
        steps = list(islice(sample.visits(baskets, shoppers), max(events, shoppers)))
        page = None
        if held is not None:
            flags = ["--bootstrap", settings.bootstrap, "--config", str(config)]
            traffic = SimulatedShoppers(flags)
            stack.callback(traffic.close)
            known = [user_id for user_id, _, _ in steps[:shoppers]]
            told = catalogue(items, list(settings.placements), known, models.models)
            page = StorefrontServer(
                settings,
                held,
                told,
                worker_url(metrics_port),
                traffic,
                models,
                embedded=bool(worker_settings),
            )
            stack.enter_context(page)
            stack.callback(models.close)  # before the page, which waits for a switch under way
        started = time.monotonic()
        models.await_ready()
        click.echo(
            f"worker   ready after {time.monotonic() - started:.1f} s, metrics at "
            f"{worker_url(metrics_port)}/metrics"
        )
        if page is not None:
            click.echo(click.style(f"page     {page.url}/", bold=True) + "  open it in a browser")
        consumer = stack.enter_context(
            open_consumer(Cluster.of(settings), [*sources, topics.recommendations])
        )
        watched: list[Watched] = [models] if page is None else [models, page]
        favourites = sample.favourite_items(baskets, 2)
        DemoLoop(settings, producer, consumer, watched, pace).run(steps[:events], favourites)


def _page_port(wanted: int | None) -> socket.socket:
    """Listen on the page's port: the gateway's, unless another is wanted, or that is taken; 0: any.

    Held from here on: another demo may be starting as well.

    Raises
    ------
    SettingsError : the wanted one is taken, or not for this user
    """
    if wanted is not None:
        return open_port(_HERE, wanted, _cannot_listen)
    try:
        return open_port(_HERE, Gateway().port, _cannot_listen)
    except SettingsError:
        return open_port(_HERE, 0, _cannot_listen)


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
    return (
        f"the page's port {port} on {host} {why}: "
        f"give --page-port another one, or 0 for any free one"
    )


def bundles(settings: Settings) -> Mapping[str, Path]:
    """By model: the sample's, unless a bundle is named."""
    if settings.bundle is None:
        return sample.BUNDLES
    folder = Path(settings.bundle)
    return {manifest_in(folder).model: folder}


def _worker(
    settings: Settings, config: Path, bundle: Path, given: dict[str, str], metrics_port: int
) -> WorkerProcess:
    flags = ["--bootstrap", settings.bootstrap, "--config", str(config), "--bundle", str(bundle)]
    return WorkerProcess(flags, given, metrics_port)


def _send(settings: Settings, producer: KafkaProducer, items: Sequence[Item]) -> None:
    for key, value in shop.records(items):
        producer.send(settings.topics.items, key=key, value=value)
    producer.flush(timeout=30)
