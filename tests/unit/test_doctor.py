"""What `freshet doctor` looks at, without a broker: clocks, topics, rights, lag, settings."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import (
    ClusterAuthorizationFailedError,
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    UnsupportedVersionError,
)

from stream.cli import doctor, main
from stream.cli.examining import brokers, machine
from stream.cli.examining.configuration import examine_configuration
from stream.cli.examining.finding import size
from stream.cli.examining.model import examine_bundle
from stream.cli.examining.topics import examine_rights, examine_topics
from stream.cli.examining.workers import examine_lag
from stream.config import Settings, given_origins, load_settings
from stream.demo import sample
from stream.kafka.rights import serving
from stream.kafka.topics import TopicsSeen, wanted_topics
from stream.settings.gateway import Gateway
from tests.support.freshet import ROOT

ROOM = ROOT / "stream" / "cli" / "examining"


def test_the_room_says_what_each_check_is() -> None:
    text = (ROOM / "README.md").read_text(encoding="utf-8")
    nobody = Settings(bootstrap="127.0.0.1:1", metrics_port=0, gateway=Gateway(port=0))
    checks = [one.check for one in doctor.examine(lambda: nobody)]
    assert len(checks) == len(set(checks)) == 15
    for name in (*checks, *(path.name for path in ROOM.glob("[!_]*.py"))):
        assert f"`{name}`" in text


# Versions and machine


def test_a_package_of_another_version_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["faust-streaming==0.15.3", "click>=8", "none-such<2", 'torch; extra == "export"']
    wanted += ['none-such-gpu>=1; sys_platform == "plan9"']
    has = {"freshet": "1.0", "faust-streaming": "0.15.2", "click": "8.1"}

    def version(name: str) -> str:
        if name not in has:
            raise machine.metadata.PackageNotFoundError
        return has[name]

    monkeypatch.setattr(machine.metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(machine.metadata, "version", version)
    found = machine.versions()
    assert found.status == "fault"
    assert found.detail == "faust-streaming is 0.15.2 and must be ==0.15.3; none-such is missing"
    assert found.facts["packages"]["click"] == "8.1"
    wanted.remove("none-such<2")
    has["faust-streaming"] = "0.15.3"
    assert machine.versions().status == "ok"


def test_the_machine_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA H100, 550.1, 81559 MiB'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    (tmp_path / "memory.max").write_text("1073741824\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    _, found = machine.examine_machine()
    assert found.facts["cpu_limit"] == 1.5
    assert "limited to 1.5, " in found.detail
    assert "limited to 1.0 GiB" in found.detail
    assert found.detail.endswith("GPU NVIDIA H100, 550.1, 81559 MiB")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho no driver; exit 9\n")
    _, found = machine.examine_machine()
    assert (found.facts["cpu_limit"], found.facts["memory_limit_bytes"]) == (None, None)
    assert found.facts["gpus"] == []


def test_sizes_in_words() -> None:
    assert [size(n) for n in (0, 1023, 1536, 5 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1.5 KiB",
        "5.0 TiB",
    ]


# Settings


def test_settings_are_told_with_their_sources_and_without_secrets(tmp_path: Path) -> None:
    secret = "do-not-show-me-" * 3
    (tmp_path / "password").write_text(secret)
    (tmp_path / "password").chmod(0o600)
    file = tmp_path / "freshet.toml"
    file.write_text(
        f'group = "shop"\n[security]\nprotocol = "sasl_plaintext"\nusername = "worker"\n'
        f'password_file = "{tmp_path / "password"}"\n[placements.cart]\nk = 5\n'
    )
    environ = {"FRESHET_PRIVACY_SECRET": secret}
    flags = {"bootstrap": "b:1"}
    settings = load_settings(file, flags, environ)
    found = examine_configuration(settings, given_origins(file, flags, environ))
    facts = found.facts
    assert facts["group"] == {"value": "shop", "source": f"{file}:1: group"}
    assert facts["bootstrap"] == {"value": "b:1", "source": "--bootstrap"}
    assert facts["privacy.secret"]["value"] == "***"
    assert facts["privacy.secret"]["source"] == "environment: FRESHET_PRIVACY_SECRET"
    assert facts["security.password"]["source"] == f"{file}:5: security.password_file"
    assert facts["state.ring"] == {"value": 50, "source": "default"}
    assert facts["placements"]["value"]["cart"]["k"] == 5
    assert secret not in json.dumps(found.as_dict()) + str(found)
    assert any(line.startswith("group = shop (") for line in found.more)
    assert not any(line.startswith("state.ring") for line in found.more)


# Clocks


@pytest.mark.parametrize(
    ("at_s", "status"),
    [(1000.2, "ok"), (1002.0, "note"), (998.0, "note"), (1070.0, "fault"), (930.0, "fault")],
)
def test_clocks_are_compared(at_s: float, status: str) -> None:
    found = brokers.compared(at_s, 1000.0, 1000.2)
    assert found.status == status
    assert ("behind" if at_s > 1000.1 else "ahead") in found.detail
    assert found.facts["ahead_s"] == pytest.approx(1000.1 - at_s, abs=1e-3)
    assert found.facts["uncertain_s"] == pytest.approx(0.1, abs=1e-3)


def quorum(told_ms: int | None) -> dict[str, Any]:
    voters = [
        {"replica_id": 2, "last_caught_up_timestamp": 5_000},
        {"replica_id": 3, "last_caught_up_timestamp": told_ms},
    ]
    return {"topics": [{"partitions": [{"leader_id": 3, "current_voters": voters}]}]}


@pytest.mark.parametrize(("told_ms", "at_s"), [(7_500, 7.5), (-1, None), (None, None)])
def test_the_time_is_the_leaders(told_ms: int | None, at_s: float | None) -> None:
    assert brokers._leaders_time_s(quorum(told_ms)) == at_s


def test_a_clock_that_may_not_be_read_is_left_out() -> None:
    def refuse() -> None:
        raise ClusterAuthorizationFailedError

    found = brokers._clock(SimpleNamespace(describe_metadata_quorum=refuse))
    assert found.status == "skip"
    assert "needs Describe on the cluster: deploy/SECURE.md" in found.detail


# Topics and rights


def as_told(right: str) -> str:
    """DescribeConfigs -> DESCRIBE_CONFIGS."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", right).upper()


def seen(**changed: Any) -> TopicsSeen:
    """Every topic as it should be, with all of a worker's rights."""
    rights = serving(Settings())
    one = {"replica_nodes": [1], "isr_nodes": [1], "leader_id": 1}
    described = {
        spec.name: {
            "name": spec.name,
            "error_code": 0,
            "partitions": [{**one, "partition_index": p} for p in range(6)],
            "authorized_operations": [as_told(name) for name in rights[spec.name]],
        }
        for spec in wanted_topics(Settings())
    }
    configs = {spec.name: dict(spec.config) for spec in wanted_topics(Settings())}
    return TopicsSeen(described, configs, frozenset())._replace(**changed)


def test_topics_are_told_as_they_are_and_as_they_are_wanted() -> None:
    found = examine_topics(Settings(), seen())
    assert (found.status, found.detail) == ("ok", "6 partitions each")
    rows = {row["topic"]: row for row in found.facts["topics"]}
    assert rows["erasures"]["config"]["retention.ms"] == "604800000"
    assert len(found.more) == len(rows) == 12

    other = seen()
    other.configs["items"]["cleanup.policy"] = "delete"
    other.described["clicks"]["error_code"] = 3
    found = examine_topics(Settings(), other._replace(hidden=frozenset({"receipts"})))
    assert found.status == "fault"
    assert "items has cleanup.policy=delete and needs compact" in found.detail
    assert "clicks is missing" in found.detail
    assert any("cleanup.policy=delete (made with compact)" in line for line in found.more)
    assert {"clicks: missing", "receipts: hidden"} <= set(found.more)


def test_rights_that_a_worker_or_a_gateway_lacks_are_noted() -> None:
    own = seen()
    worker, gateway = examine_rights(Settings(), own)
    assert (worker.check, worker.status) == ("rights", "ok")
    assert (gateway.check, gateway.status) == ("gateway rights", "note")
    needs = {"clicks": "Write", "purchases": "Write", "items": "Write", "requests": "Write"}
    needs |= {"recommendations": "Read", "answers": "Read", "receipts": "Read"}
    assert {line.split(" to ")[0] for line in gateway.more} == {
        f"{topic} does not allow {right}" for topic, right in needs.items()
    }
    for topic, right in needs.items():
        own.described[topic]["authorized_operations"].append(right.upper())
    assert [one.status for one in examine_rights(Settings(), own)] == ["ok", "ok"]
    own.described["clicks"]["authorized_operations"] = ["DESCRIBE", "DESCRIBE_CONFIGS", "WRITE"]
    worker, gateway = examine_rights(Settings(), own)
    assert (worker.status, gateway.status) == ("note", "ok")
    assert len(worker.more) == 1
    assert "clicks does not allow Read" in worker.more[0]
    for seen_topic in own.described.values():
        seen_topic["authorized_operations"] = None
    assert [one.status for one in examine_rights(Settings(), own)] == ["skip", "skip"]


# Lag


class _Group:
    """An admin and a consumer at once: 2 partitions of each topic, from 10 to 100."""

    def __init__(self, committed: dict[tuple[str, int], int], members: int = 1) -> None:
        self._committed, self._members = committed, members

    def list_group_offsets(self, groups: dict[str, None]) -> dict[str, Any]:
        at = {TopicPartition(*tp): SimpleNamespace(offset=n) for tp, n in self._committed.items()}
        return dict.fromkeys(groups, at)

    def describe_groups(self, groups: list[str]) -> dict[str, Any]:
        told = {"group_state": "Stable", "members": [None] * self._members}
        return dict.fromkeys(groups, told)

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0, 1}

    def beginning_offsets(self, where: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(where, 10)

    def end_offsets(self, where: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(where, 100)


def lag_of(group: Any) -> Any:
    return examine_lag(Settings(), group, group)


def test_lag_is_what_was_not_committed() -> None:
    topics = ("clicks", "purchases", "erasures", "requests")
    done = {(topic, p): 100 for topic in topics for p in (0, 1)}
    found = lag_of(_Group(done))
    assert (found.status, found.detail) == (
        "ok",
        "group freshet (Stable, workers: 1): 0 records behind",
    )
    found = lag_of(_Group({**done, ("clicks", 0): 40, ("clicks", 1): 3}))
    assert found.facts["lag"]["clicks-0"] == 60
    assert found.facts["lag"]["clicks-1"] == 90, "what retention took away is not due"
    assert found.detail.endswith("150 records behind (clicks 150)")
    found = lag_of(_Group({}, members=0))
    assert found.status == "note"
    assert "(no worker): 720 records behind" in found.detail
    found = lag_of(_Group({**done, ("purchases", 1): 101}))
    assert found.status == "fault"
    assert "purchases-1 at 101 of 100" in found.detail


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (GroupAuthorizationFailedError, "needs Describe on group freshet: deploy/SECURE.md"),
        (CoordinatorNotAvailableError, "(CoordinatorNotAvailableError), ask again"),
        (UnsupportedVersionError, "the brokers do not tell it (UnsupportedVersionError)"),
    ],
)
def test_lag_that_may_not_be_read_is_left_out(
    error: type[Exception], detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(groups: object) -> None:
        raise error

    group = _Group({})
    monkeypatch.setattr(group, "list_group_offsets", refuse)
    found = lag_of(group)
    assert found.status == "skip"
    assert detail in found.detail


# Bundle


def test_the_bundle_is_run_and_weighed() -> None:
    settings = Settings(bundle=str(sample.BUNDLE), provider="cpu")
    found = {one.check: one for one in examine_bundle(settings, {})}
    assert {check: one.status for check, one in found.items()} == dict.fromkeys(
        ("bundle", "provider", "disk"), "ok"
    )
    manifest = json.loads((sample.BUNDLE / "manifest.json").read_text())
    facts = found["bundle"].facts
    assert (facts["id"], facts["opset"], facts["golden"]) == (manifest["id"], 18, True)
    assert found["provider"].facts["provider"] == "cpu"
    files = sum(path.stat().st_size for path in sample.BUNDLE.iterdir())
    assert found["disk"].facts["bundle_bytes"] == files


def test_weights_that_the_bundle_does_not_take_are_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "freshet.toml"
    file.write_text(
        f'bundle = "{sample.BUNDLE}"\nprovider = "cpu"\nmetrics_port = 0\n'
        'bootstrap = "127.0.0.1:1"\n[weights]\nhalf_lives_s = [60, 60, 60]\n[gateway]\nport = 0\n'
    )
    given = partial(load_settings, file, environ={}), partial(given_origins, file, environ={})
    found = {one.check: one for one in doctor.examine(*given)}
    assert (found["bundle"].status, found["provider"].status) == ("fault", "ok")
    assert found["bundle"].detail.startswith(f"{file}:6: weights.half_lives_s: has 3; must have ")


def test_the_report_is_one_line_of_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESHET_STATE_RING", "many")
    assert main(["doctor", "--json"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert told["ok"] is False
    assert [one["status"] for one in told["findings"][:3]] == ["ok", "ok", "fault"]
    assert all(one["cure"] or one["status"] != "fault" or one["detail"] for one in told["findings"])
