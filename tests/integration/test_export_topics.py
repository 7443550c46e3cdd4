"""`--format kafka`: training reads what the topics hold, up to an offset, and no erased user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.cli import main
from export.data.dataset import Log, read_log
from stream.contracts import partition_of
from stream.errors import BrokerError, UsageError
from stream.kafka.broker import BrokerProcess
from tests.support.freshet import Freshet, producing
from tests.support.logs import told

HOUR_MS = 3_600_000
BEGIN_MS = 1_790_000_000_000


@pytest.fixture
def freshet(broker: BrokerProcess, unique: str, monkeypatch: pytest.MonkeyPatch) -> Freshet:
    freshet = Freshet(broker.bootstrap, unique)
    for name, value in freshet.environ.items():
        if name.startswith("FRESHET_"):
            monkeypatch.setenv(name, value)
    freshet.run("topics", "create")
    return freshet


def send(freshet: Freshet, *records: tuple[str, str | None, dict[str, object] | None]) -> None:
    """Topic, key, and the fields of each record; a batch each: the embedded broker counts those."""
    with producing(freshet.bootstrap) as producer:
        for topic, key, fields in records:
            producer.send(
                freshet.topic[topic],
                key=None if key is None else key.encode(),
                value=None if fields is None else json.dumps(fields).encode(),
                partition=0 if key is None else partition_of(key.encode(), 3),
            )
            producer.flush()


def event(user: str, item: str, hour: int, kind: str = "click") -> dict[str, object]:
    fields = {"user_id": user, "item_id": item, "type": kind}
    return {**fields, "event_time_ms": BEGIN_MS + hour * HOUR_MS}


def read(said: list[str] | None = None, **options: object) -> Log:
    report = (lambda message: None) if said is None else said.append
    return read_log(Path("-"), "kafka", report, **options)  # type: ignore[arg-type]


def test_topics_are_read_to_their_ends(freshet: Freshet) -> None:
    send(
        freshet,
        ("items", "a", {"item_id": "a", "title": "A", "brand": "acme", "price": 5}),
        ("items", "gone", {"item_id": "gone", "title": "GONE"}),
        ("items", "gone", None),
        ("clicks", "u", event("u", "a", 2)),
        ("purchases", "u", {**event("u", "a", 3, "purchase"), "quantity": 2}),
        ("clicks", "v", event("v", "b", 1)),
        ("clicks", "v", event("v", "b", 4, "purchase")),  # not on this topic
        ("clicks", "other", event("v", "b", 5)),  # not by this key
        ("clicks", "v", None),
        ("clicks", None, event("v", "b", 6)),
    )
    said: list[str] = []
    log = read(said)
    assert told(log) == [("v", "b"), ("u", "a"), ("u", "a")]
    assert log.quantity.tolist() == [1, 1, 2]
    assert log.titles == {"a": "A"}
    assert log.attributes == {"a": {"brand": "acme", "price": "4-8"}}
    assert log.unusable == {
        "unknown_type (type)": 1,
        "key_mismatch (user_id)": 2,
        "empty_value": 1,
    }
    assert "4 bad lines" in said[0]
    ends = log.offsets[freshet.topic["clicks"]]
    assert sum(ends.values()) == 6
    assert sum(log.offsets[freshet.topic["purchases"]].values()) == 1


def test_an_offset_ends_the_log(freshet: Freshet) -> None:
    send(freshet, *(("clicks", "u", event("u", f"i{n}", n)) for n in range(5)))
    topic, partition = freshet.topic["clicks"], partition_of(b"u", 3)
    log = read(until={(topic, partition): 3})
    assert [item for _, item in told(log)] == ["i0", "i1", "i2"]
    assert log.offsets[topic][partition] == 3
    assert len(read(until={(topic, partition): 99})) == 5
    with pytest.raises(UsageError, match=f"{topic}:7: is none of"):
        read(until={(topic, 7): 3})


def test_erased_users_are_left_out(freshet: Freshet) -> None:
    erasure = {"user_id": "u", "event_time_ms": BEGIN_MS + 2 * HOUR_MS}
    send(
        freshet,
        *(("clicks", "u", event("u", f"i{n}", n)) for n in range(4)),
        ("clicks", "v", event("v", "i0", 0)),
        ("erasures", "u", erasure),
    )
    log = read()
    assert told(log) == [("v", "i0"), ("u", "i3")]
    assert log.unusable == {"user erased": 3}


def test_the_command_reads_topics_too(
    freshet: Freshet, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    send(freshet, *(("clicks", "u", event("u", f"i{n}", n)) for n in range(5)))
    until = f"{freshet.topic['clicks']}:{partition_of(b'u', 3)}=4"
    settings = tmp_path / "freshet.toml"
    settings.write_text("[state]\nring = 50\n")
    options = ["--format", "kafka", "--until", until, "--json"]
    assert main(["describe", str(settings), *options]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == 4


def test_topics_without_events_and_without_a_broker_are_told(
    freshet: Freshet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="holds no event"):
        read()
    monkeypatch.setenv("FRESHET_BOOTSTRAP", "127.0.0.1:1")
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1"):
        read()
