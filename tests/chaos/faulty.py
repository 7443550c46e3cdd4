"""What the fault tests share: a shop whose workers go through a proxy, and how they end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from stream.errors import EXIT_FATAL
from stream.kafka.admin import open_admin
from stream.kafka.cluster import Cluster
from stream.settings import variable
from tests.chaos.check import check
from tests.chaos.shop import Shop, Worker
from tests.support.brokers import remove_data
from tests.support.proxy import ProxiedKafka
from tests.support.seed import SEED

# `make faults`: seconds that a broker is out of reach, with the settings' own patience instead of a
# scaled one; and the faults that are much like others.
AWAY_S = float(os.environ.get("AWAY_S", "0"))
LONG = AWAY_S > 0


@contextmanager
def proxied_kafka(folder: Path) -> Iterator[ProxiedKafka]:
    """A broker for a module's tests, who may do with it what they like and leave it well."""
    try:
        with ProxiedKafka(folder / "kafka") as broker:
            yield broker
    finally:
        remove_data(folder)


def faulty_shop(
    broker: ProxiedKafka,
    unique: str,
    folder: Path,
    patch: pytest.MonkeyPatch,
    **broker_settings: float,
) -> Shop:
    """A shop that speaks with the broker itself, whose workers go through the proxy.

    Parameters
    ----------
    broker_settings : of the section `broker`, for its workers
    """
    shop = Shop(broker.bootstrap, unique, folder, SEED)
    patch.setenv(variable("bootstrap"), broker.proxied)
    for name, value in broker_settings.items():
        patch.setenv(variable(f"broker.{name}"), str(value))
    return shop


def log_of(shop: Shop) -> str:
    """All that the shop's workers said."""
    return (shop.config.parent / "worker.log").read_text(errors="replace")


def wait_for(what: Callable[[], Any], within_s: float, worker: Worker) -> None:
    """Wait until `what()` holds, while `worker` lives."""
    deadline = time.monotonic() + within_s
    while not what():
        assert worker.process.poll() is None, worker.tail()
        assert time.monotonic() < deadline, worker.tail()
        time.sleep(0.1)


def committed(shop: Shop) -> int:
    """How many records the group has committed, also while a broker has just started again."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return sum(shop.committed())
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def wait_for_more(shop: Shop, worker: Worker, records: int = 0) -> None:
    """Wait until the worker has committed more than `records` more."""
    before = committed(shop)
    wait_for(lambda: committed(shop) > before + records, 60, worker)


def reason_of_end(shop: Shop, worker: Worker, within_s: float) -> str:
    """The last word of a worker that is to end itself with code 70."""
    try:
        code = worker.process.wait(within_s)
    except subprocess.TimeoutExpired:
        pytest.fail(f"it hangs:\n{worker.tail()}")
    assert code == EXIT_FATAL, worker.tail()
    said = [line for line in log_of(shop).splitlines() if "fatal: " in line]
    assert said, worker.tail()
    return said[-1].split("fatal: ", 1)[1]


def finish(shop: Shop, worker: Worker) -> None:
    """Let the worker come to the end, and compare all with the reference."""
    shop.wait_until_done(worker)
    assert worker.stop() == 0, worker.tail()
    verdict = check(shop)
    print(verdict)
    assert verdict.right, verdict


def configure(shop: Shop, topic: str, **config: str) -> None:
    """Change a topic's configuration while it is used, as kafka-configs does."""
    values = {name.replace("_", "."): value for name, value in config.items()}
    with admin_of(shop) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, values)])


@contextmanager
def admin_of(shop: Shop) -> Iterator[KafkaAdminClient]:
    with open_admin(Cluster.of(shop.settings)) as admin:
        yield admin


def delete(shop: Shop, topic: str) -> None:
    with admin_of(shop) as admin:
        admin.delete_topics([topic])
        while topic in admin.list_topics():
            time.sleep(0.1)
