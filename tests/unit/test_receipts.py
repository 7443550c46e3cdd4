"""Receipts say where copies may stand, and of which topics nobody knows."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from stream.cli import forget
from stream.config import Settings
from stream.contracts import Cause, Erasure, Receipt, decode_record
from stream.core.micro_batch import ErasedUser
from stream.kafka.batches import RecordBatch, Records
from stream.kafka.cluster import Cluster
from stream.kafka.retention import Retention
from stream.kafka.specs import wanted_topics
from stream.kafka.told import settings_told
from stream.receipts import Receipts

NOW_MS = 1_795_000_000_000
TOLD = {
    "cleanup.policy": "delete",
    "retention.ms": "1000",
    "segment.ms": "1000",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": str(2**63 - 1),
    "delete.retention.ms": "86400000",
}


class Admin:
    """Tells the settings of some topics, as aiokafka's client does."""

    def __init__(self, told: dict[str, dict[str, str]] | None) -> None:
        self._told = told

    async def start(self) -> None:
        await asyncio.sleep(0)  # others go on meanwhile

    async def close(self) -> None:
        pass

    async def describe_configs(self, resources: list[Any]) -> list[Any]:
        if self._told is None:
            raise NotImplementedError

        class Response:
            resources: Any = ()

        answer = Response()
        answer.resources = [
            (0, None, 2, one.name, [(*item, False, False, False, []) for item in told.items()])
            if (told := (self._told or {}).get(one.name)) is not None
            else (3, "unknown", 2, one.name, [])
            for one in resources
        ]
        return [answer]


def receipt_of(monkeypatch: pytest.MonkeyPatch, told: dict[str, dict[str, str]] | None) -> Receipt:
    monkeypatch.setattr("stream.kafka.retention.AIOKafkaAdminClient", lambda **_: Admin(told))
    monkeypatch.setattr("stream.kafka.retention._BETWEEN_TRIES_S", 0.0)
    user = ErasedUser(b"u", b"hash", Erasure("u", NOW_MS), 4)
    batch = RecordBatch("erasures", 0, 4, 5, [b"u"], [b""], [4], [0])

    async def make() -> Any:
        due = Receipts(Settings()).due(batch, [user])
        assert due is not None
        return await due()

    records: Records = asyncio.run(make())["receipts"]
    return decode_record(Receipt, records.values[0])


ALL = {
    *("clicks", "purchases", "requests", "erasures", "answers", "dead-letters"),
    *("freshet-interests-changelog", "recommendations"),
}


def test_topics_whose_settings_nobody_tells_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    receipt = receipt_of(monkeypatch, {"clicks": TOLD, "answers": {"retention.ms": "1"}})
    assert receipt.copies_until_ms.keys() == {"clicks"}
    assert set(receipt.copies_unknown) == ALL - {"clicks"}


def test_no_topic_is_left_out_when_the_brokers_tell_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receipt = receipt_of(monkeypatch, None)
    assert receipt.copies_until_ms == {}
    assert set(receipt.copies_unknown) == ALL


def test_no_topic_is_unknown_when_the_brokers_tell_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    receipt = receipt_of(monkeypatch, dict.fromkeys(ALL, TOLD | {"retention.ms": "-1"}))
    assert receipt.copies_until_ms == dict.fromkeys(ALL)
    assert receipt.copies_unknown == ()


def test_every_topic_that_may_hold_an_id_or_that_freshet_keeps_is_named_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receipt = receipt_of(monkeypatch, dict.fromkeys(ALL, TOLD))
    wanted = {spec.name for spec in wanted_topics(Settings())} - {"items"}
    assert ALL | set(receipt.without_user_ids) == wanted
    assert ALL.isdisjoint(receipt.without_user_ids)
    assert ALL.issuperset(receipt.removed)


def test_forget_shows_what_was_done_for_each_topic(capsys: pytest.CaptureFixture[str]) -> None:
    cause = Cause("erasures", 0, 4, NOW_MS)
    receipt = Receipt("00", cause, ("lists",), {}, NOW_MS, (), ("trending", "receipts"))
    forget._show("u1", [receipt, receipt], 1.0)
    assert capsys.readouterr().out.splitlines()[1:3] == [
        "Removed from lists.",
        "No id of a user stands on trending, receipts.",
    ]


def test_forget_shows_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    cause = Cause("erasures", 0, 4, NOW_MS)
    known = Receipt("00", cause, (), {"clicks": None}, NOW_MS, ("answers", "purchases"))
    later = Receipt("01", cause, (), {"clicks": None, "purchases": 5}, NOW_MS, ("answers",))
    forget._show("u1", [known, later], 1.0)
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[:3] for line in lines] == [
        ["clicks", "for", "ever"],
        ["purchases", "until", "1970-01-01"],
        ["answers", "for", "how"],
    ]
    assert "not known" in lines[2]


def test_a_topic_of_which_nothing_is_told_is_not_there() -> None:
    told = asyncio.run(settings_told(Admin({"a": TOLD}), ["a", "b"]))  # type: ignore[arg-type]
    assert told == {"a": TOLD}


@pytest.mark.parametrize(
    ("at_ms", "shown"),
    [
        (NOW_MS + 10**15, "the year 33715"),  # retention.ms=1000000000000000
        (2**63, "the year 292278994"),
        (253_402_300_799_000, "9999-12-31 23:59 UTC"),
    ],
)
def test_forget_shows_times_that_no_calendar_has(
    at_ms: int, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cause = Cause("erasures", 0, 4, NOW_MS)
    forget._show("u1", [Receipt("00", cause, (), {"clicks": at_ms}, NOW_MS)], 1.0)
    assert capsys.readouterr().out.splitlines()[2].split("until ")[1] == shown


def test_erasures_of_several_partitions_ask_once_and_again_after_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An earlier question that fails after a later one was answered would hide its answer."""
    asked: list[Admin] = []
    now_s = [100.0]

    def admin(**_: Any) -> Admin:
        asked.append(Admin({"a": TOLD} if len(asked) != 1 else None))
        return asked[-1]

    monkeypatch.setattr("stream.kafka.retention.AIOKafkaAdminClient", admin)
    monkeypatch.setattr("stream.kafka.retention._BETWEEN_TRIES_S", 0.0)
    clock = SimpleNamespace(monotonic=lambda: now_s[0])
    monkeypatch.setattr("stream.kafka.retention.time", clock)

    async def ask() -> None:
        retention = Retention(Cluster.of(Settings()), ["a"])
        given_up = asyncio.ensure_future(retention.kept_ms())
        asyncio.get_running_loop().call_soon(given_up.cancel)
        found = await asyncio.gather(*(retention.kept_ms() for _ in range(3)))
        assert found == [{"a": 602_000}] * 3
        assert await retention.kept_ms() == {"a": 602_000}
        assert len(asked) == 1
        now_s[0] += 61
        await retention.kept_ms()
        assert len(asked) == 3, "what was not told is asked for once more"

    asyncio.run(ask())


def test_what_is_not_told_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [Admin(None), Admin({"a": TOLD})]
    monkeypatch.setattr("stream.kafka.retention.AIOKafkaAdminClient", lambda **_: answers.pop(0))
    monkeypatch.setattr("stream.kafka.retention._BETWEEN_TRIES_S", 0.0)
    found = asyncio.run(Retention(Cluster.of(Settings()), ["a"]).kept_ms())
    assert found == {"a": 602_000}
