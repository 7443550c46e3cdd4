"""Topics deleted, reshaped or refusing records while a worker runs: it ends with code 70 and the
reason, the next start is refused with a cure, and after the cure nothing is lost or wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from stream.errors import TopicError
from stream.kafka.applied import APPLIED_KEY
from stream.kafka.broker import BrokerProcess
from stream.kafka.specs import changelog_topic
from stream.kafka.topics import create_topics, require_topics
from tests.chaos.check import check
from tests.chaos.faulty import LONG, admin_of, configure, delete, log_of, reason_of_end
from tests.chaos.shop import PARTITIONS, Shop, Worker
from tests.support.seed import SEED

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(240)]

PATIENCE_S = 8.0
WITHIN_S = 60.0
AT_ONCE = 3
EVENTS = 300
STATES = {"wrong_states", "doubled_events", "lost_events", "torn_batches", "stale_batches"}


class Fault(NamedTuple):
    """What is done to a topic of a running worker, and what is said of it.

    Attributes
    ----------
    topic : by its name in the settings, or "changelog"
    ends : part of the worker's last word
    refused : part of why the next worker does not start
    """

    topic: str
    inflict: Callable[[Shop, str], None]
    ends: str
    refused: str
    mend: Callable[[Shop, str], None]


def create(shop: Shop, topic: str) -> None:
    assert create_topics(shop.settings) == [topic]


def add_partitions(shop: Shop, topic: str) -> None:
    with admin_of(shop) as admin:
        admin.create_partitions({topic: PARTITIONS + 2})


def make_anew_smaller(shop: Shop, topic: str) -> None:
    delete(shop, topic)
    with admin_of(shop) as admin:
        admin.create_topics({topic: {"num_partitions": 2, "replication_factor": 1}})


def delete_and_create(shop: Shop, topic: str) -> None:
    delete(shop, topic)
    create(shop, topic)


def narrow(shop: Shop, topic: str) -> None:
    configure(shop, topic, max_message_bytes="200")


def widen(shop: Shop, topic: str) -> None:
    configure(shop, topic, max_message_bytes=str(16 << 20))


NARROW = "has max.message.bytes=200"
REFUSED = "a topic's max.message.bytes was lowered while the worker ran"
FAULTS = {
    # Nothing is lost: the record comes again.
    "changelog narrow": Fault("changelog", narrow, REFUSED, NARROW, widen),
    "lists narrow": Fault("recommendations", narrow, REFUSED, NARROW, widen),
    # What was in the topic is gone; the rest is right.
    "lists gone": Fault("recommendations", delete, "is gone", "is missing", create),
    "letters gone": Fault("dead_letters", delete, "is gone", "is missing", create),
    "changelog gone": Fault("changelog", delete, "is gone", "is missing", create),
    "clicks gone": Fault("clicks", delete, "is gone", "is missing", create),
    "clicks wider": Fault(
        "clicks", add_partitions, f"{PARTITIONS + 2}", "has 6 partitions", delete_and_create
    ),
    "purchases smaller": Fault(
        "purchases", make_anew_smaller, "has 2 partitions", "has 2 partitions", delete_and_create
    ),
}


def name_of(shop: Shop, topic: str) -> str:
    if topic == "changelog":
        return changelog_topic(shop.settings)
    name: str = getattr(shop.settings.topics, topic)
    return name


def feed(shop: Shop, events: int = EVENTS) -> None:
    shop.produce(events)
    shop.flush()


class Scene:
    """A shop, its worker, and the fault that hits them."""

    def __init__(self, what: str, broker: BrokerProcess, unique: str, folder: Path) -> None:
        self.what, self.fault = what, FAULTS[what]
        folder.mkdir()
        self.shop = Shop(broker.bootstrap, f"{unique}-{what.replace(' ', '-')}", folder, SEED)
        self.topic = name_of(self.shop, self.fault.topic)

    def play(self) -> None:
        """A worker at work, the fault, its end, a start refused, the cure."""
        shop = self.shop
        worker = shop.worker()
        worker.wait_until_ready()
        feed(shop)
        shop.wait_until_done(worker)
        self.fault.inflict(shop, self.topic)
        if self.fault.topic not in ("clicks", "purchases"):
            feed(shop)
        reason = reason_of_end(shop, worker, WITHIN_S)
        print(f"{self.what}: {reason}")
        assert self.fault.ends in reason, self.what
        with pytest.raises(TopicError, match=f"topic {self.topic} {self.fault.refused}"):
            require_topics(shop.settings)
        self.fault.mend(shop, self.topic)
        require_topics(shop.settings)

    def goes_on(self) -> Worker:
        worker = self.shop.worker()
        worker.wait_until_ready()
        feed(self.shop)
        self.shop.wait_until_done(worker)
        return worker


Play = Callable[[list[str]], dict[str, Scene]]


@pytest.fixture
def play(
    broker: BrokerProcess, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Play]:
    monkeypatch.setenv("FRESHET_BROKER_RECOVERY_TIMEOUT_S", str(PATIENCE_S))
    scenes: dict[str, Scene] = {}

    def play_all(names: list[str]) -> dict[str, Scene]:
        for what in names:
            scenes[what] = Scene(what, broker, unique, tmp_path / what.replace(" ", "-"))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(Scene.play, scenes.values()))
        return scenes

    yield play_all
    for scene in scenes.values():
        scene.shop.close()


def test_a_topic_that_refuses_records_loses_none(play: Play) -> None:
    for scene in play(["changelog narrow", "lists narrow"]).values():
        worker = scene.goes_on()
        assert worker.stop() == 0
        verdict = check(scene.shop)
        print(f"{scene.what}: {verdict}")
        assert verdict.right, scene.what


def test_a_topic_that_is_gone_ends_the_worker(play: Play) -> None:
    outputs = ["lists gone", "letters gone"] if LONG else ["lists gone"]
    scenes = play([*outputs, "changelog gone"])
    for what in outputs:
        worker = scenes[what].goes_on()
        assert worker.stop() == 0
        verdict = check(scenes[what].shop)
        assert not STATES & verdict.faults.keys(), (what, verdict)
    worker = scenes["changelog gone"].goes_on()
    assert worker.stop() == 0
    assert "users start with empty states" in log_of(scenes["changelog gone"].shop)


def test_a_source_that_is_gone_or_reshaped_ends_the_worker(play: Play) -> None:
    names = ["clicks gone", "clicks wider", "purchases smaller"]
    for scene in play(names if LONG else names[:2]).values():
        # The new topic's offsets mean other events: the states say so, and nothing is folded.
        shop = scene.shop
        before = applied_records(shop)
        feed(shop, EVENTS // 5)
        reason = reason_of_end(shop, shop.worker(), WITHIN_S)
        assert f"{scene.topic}, partition" in reason
        assert "the topic was made anew" in reason
        assert applied_records(shop) == before, "no state was written"


def applied_records(shop: Shop) -> list[dict[str, int]]:
    """What the newest `applied` record of each partition says."""
    newest = []
    for partition in range(PARTITIONS):
        records = shop.read(changelog_topic(shop.settings), partition)
        newest.append(json.loads(records[-1].value())["next"])
        assert records[-1].key() == APPLIED_KEY
    return newest
