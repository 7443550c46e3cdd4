"""TLS, logins and ACLs: each way in, each role with its own rights alone, each way to be refused.

One broker with a listener for each way; the ACLs are those of deploy/SECURE.md and no others.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
from aiokafka import TopicPartition as AsyncTopicPartition
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ACL, ResourceType
from kafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from kafka.protocol.consumer import FetchRequest

from export.cli import main as export_main
from stream.cli import main
from stream.config import Settings, load_settings
from stream.demo import sample
from stream.errors import BrokerError, TopicError
from stream.kafka.admin import open_admin
from stream.kafka.cluster import Cluster
from stream.kafka.reader import Reader
from stream.kafka.rights import serving, told_rights
from stream.kafka.specs import wanted_topics
from stream.kafka.topics import require_topics
from tests.support.authority import Authority
from tests.support.kafka import ROOT
from tests.support.secured import SecuredKafka, make_acl, page_acls

pytestmark = [
    pytest.mark.kafka_only,
    pytest.mark.xdist_group("wire"),
    # kafka-python, closed while a connection still greets, leaves its socket to the collector.
    pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning"),
]

ROLES = (
    *("worker", "shop", "catalogue", "subscriber", "asker", "eraser"),
    *("gateway", "trainer", "admin", "operator", "autoscaler"),
)
WORD = {role: f"open-sesame-{role}" for role in (*ROLES, "demo")}
KEY_WORD = "open-sesame-key"
TOPICS = [spec.name for spec in wanted_topics(Settings())]
WITHIN_S = 60.0  # the first worker of a machine compiles its loops
SHOPPER = "shopper-of-the-wire"
Environ = dict[str, str]


class Site(NamedTuple):
    """A broker with the page's ACLs, and who may knock there."""

    kafka: SecuredKafka
    folder: Path

    def of(self, listener: str, **security: str) -> Environ:
        """Settings that reach a listener, as the environment holds them."""
        given = {f"FRESHET_SECURITY_{name.upper()}": value for name, value in security.items()}
        return {
            "FRESHET_BOOTSTRAP": self.kafka.address(listener),
            "FRESHET_TOPICS_PARTITIONS": "2",
            "FRESHET_SECURITY_CA_FILE": str(self.kafka.authority.ca_file),
            **given,
        }

    def tls(self, listener: str = "TLS", **security: str) -> Environ:
        return self.of(listener, protocol="ssl", **security)

    def login(self, role: str, mechanism: str = "SCRAM-SHA-512", **security: str) -> Environ:
        """A login over TLS, its password from a file."""
        file = self.folder / f"{role}.password"
        if not file.exists():
            file.touch(0o600)
            file.write_text(WORD[role] + "\n")
        given = {"protocol": "sasl_ssl", "username": role, "password_file": str(file)}
        return self.of("LOGIN", **{**given, "mechanism": mechanism, **security})

    def mutual(self, role: str) -> Environ:
        """A client's certificate whose key is encrypted."""
        certificate_file, key_file = self.folder / f"{role}.pem", self.folder / f"{role}.key"
        if not key_file.exists():
            self.kafka.authority.issue(role, key_password=KEY_WORD)
        return self.tls(
            "MUTUAL",
            certificate_file=str(certificate_file),
            key_file=str(key_file),
            key_password=KEY_WORD,
        )


@pytest.fixture(scope="module")
def site(broker_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("wire")
    kafka = SecuredKafka(folder, WORD)
    with kafka:
        kafka.allow(page_acls())
        site = Site(kafka, folder)
        assert run(site.login("admin"), "topics", "create") == 0
        yield site


def run(environ: Environ, *arguments: str) -> int:
    """A command in this process, which finds `environ` alone of Freshet's variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    with mock.patch.dict(os.environ, kept | environ, clear=True):
        return main(arguments)


def export(environ: Environ, *arguments: str) -> int:
    """The same of `freshet-export`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    with mock.patch.dict(os.environ, kept | environ, clear=True):
        return export_main(arguments)


def settings_of(environ: Environ) -> Settings:
    return load_settings(environ=environ)


def start(environ: Environ, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "stream.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**kept, **environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )


def no_secret(text: str) -> None:
    assert "open-sesame" not in text


# -- each way in ---------------------------------------------------------------------------

WAYS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "certificate")
in_each_way = pytest.mark.parametrize("way", WAYS)


def by(site: Site, way: str, role: str) -> Environ:
    """A role's settings for a way in."""
    return site.mutual(role) if way == "certificate" else site.login(role, way)


@in_each_way
def test_each_way_lets_a_command_in(
    site: Site, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(by(site, way, "operator"), "topics", "check") == 0
    assert "12 topics are as a worker needs them" in capsys.readouterr().out


@in_each_way
def test_each_way_lets_a_worker_in(site: Site, way: str) -> None:
    """By both of its clients: the one that looks at topics at its start, and the one of events."""
    settings = settings_of(by(site, way, "worker"))
    require_topics(settings)
    clicks = AsyncTopicPartition("clicks", 0)

    async def read() -> int:
        reader = Reader(Cluster.of(settings))
        await reader.start()
        try:
            return (await reader.ends([clicks]))[clicks]
        finally:
            await reader.stop()

    assert asyncio.run(read()) >= 0


def test_tls_alone_makes_a_client_without_a_name(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(site.tls(), "topics", "check") == 1
    assert "does not allow Describe and DescribeConfigs to clients without a name" in (
        capsys.readouterr().err
    )
    mine = [acl for acl in page_acls() if acl.principal == "User:operator"]
    for acl in mine:
        acl.principal = "User:ANONYMOUS"
    site.kafka.allow(mine)
    until(lambda: run(site.tls(), "topics", "check") == 0)
    site.kafka.forbid(mine)


def until(true: Callable[[], bool], said: Callable[[], object] = lambda: "") -> None:
    """Wait for a change of ACLs to reach the authorizer; fail with what was `said` last."""
    deadline_s = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline_s, said()
        time.sleep(0.05)


# -- the worker ----------------------------------------------------------------------------


def test_workers_serve_with_their_rights_alone_and_show_no_secret(
    site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In one group, by login and certificate; PLAIN at level debug: it sends the password itself.

    The demo's worker logs in by SCRAM.
    """
    ways = {
        "plain": site.login("worker", "PLAIN") | {"FRESHET_LOG_LEVEL": "debug"},
        "mutual": site.mutual("worker"),
    }
    given = {
        "FRESHET_BUNDLE": str(sample.BUNDLE),
        "FRESHET_METRICS_PORT": "0",
        "FRESHET_BROKER_HEARTBEAT_S": "0.5",
    }
    workers = {}
    for name, environ in ways.items():
        log = tmp_path / f"{name}.log"
        workers[log] = start(environ | given, "worker", log=log)
    try:
        for log, worker in workers.items():
            url = await_match(worker, log, r"metrics and health on (http://\S+)")
            await_ready(worker, log, url)
            for path in ("/metrics", "/healthz", "/readyz"):
                no_secret(body_of(url + path))
            no_secret(Path(f"/proc/{worker.pid}/cmdline").read_text())
        event = ("click", "--user", SHOPPER, "--item", "85123A", "--timeout", "30")
        sent = run(site.login("operator"), "send", *event, "--wait", "--json")
        said = capfd.readouterr()
        assert sent == 0, said.err
        assert json.loads(said.out.splitlines()[1])["lists"]["home"]["items"]
        assert run(site.login("asker"), "ask", "state", "--user", SHOPPER, "--timeout", "30") == 0
        assert "click 85123A" in capfd.readouterr().out
        assert run(site.login("eraser"), "forget", SHOPPER, "--timeout", "30") == 0
    finally:
        for worker in workers.values():
            worker.terminate()
        codes = [worker.wait(WITHIN_S) for worker in workers.values()]
    assert codes == [0, 0]
    logs = {log.stem: log.read_text(errors="replace") for log in workers}
    assert "[DEBUG]" in logs["plain"]
    for text in logs.values():
        no_secret(text)
        assert SHOPPER not in text


def await_match(process: subprocess.Popen[bytes], log: Path, pattern: str) -> str:
    deadline_s = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline_s:
        if found := re.search(pattern, log.read_text(errors="replace")):
            return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def body_of(url: str) -> str:
    """What an endpoint tells, ready or not: another worker's start takes partitions away."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            body: bytes = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
        error.close()
    return body.decode()


def await_ready(process: subprocess.Popen[bytes], log: Path, url: str) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline_s:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url + "/readyz", timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(log.read_text())


def test_the_demo_and_its_worker_log_in(site: Site, tmp_path: Path) -> None:
    """The worker has the password from its environment, never from its command line."""
    log = tmp_path / "demo.log"
    environ = site.login("demo", password_file="") | {"FRESHET_SECURITY_PASSWORD": WORD["demo"]}
    rights = [
        make_acl("User:demo", operation, ResourceType.TOPIC, name)
        for name in TOPICS
        for operation in ("Read", "Write", "DescribeConfigs")
    ]
    site.kafka.allow([*rights, make_acl("User:demo", "Read", ResourceType.GROUP, "freshet")])
    demo = start(environ, "demo", "--events", "2", "--pace", "0.1", log=log)
    try:
        await_match(demo, log, r"worker   (ready)")
        children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        lines = [Path(f"/proc/{child}/cmdline").read_text() for child in [*children, demo.pid]]
        assert any("worker" in line for line in lines)
        no_secret("".join(lines))
        await_match(demo, log, r"(2 events are replayed)")
    finally:
        demo.terminate()
        demo.wait(WITHIN_S)
    no_secret(log.read_text())


# -- the roles, and their rights alone -----------------------------------------------------


def test_each_role_has_what_the_page_says_and_nothing_else(site: Site) -> None:
    """By what the broker's own authorizer answers."""
    for role in ROLES:
        wanted: dict[str, set[str]] = {name: set() for name in TOPICS}
        for acl in page_acls():
            pattern = acl.resource_pattern
            if acl.principal == f"User:{role}" and pattern.resource_type is ResourceType.TOPIC:
                wanted[pattern.resource_name].add(word(acl))
        for operations in wanted.values():
            if operations & {"Read", "Write"}:
                operations.add("Describe")
        with open_admin(Cluster.of(settings_of(site.login(role)))) as admin:
            topics = admin.describe_topics(TOPICS)
        found = {topic["name"]: set(told_rights(topic) or ()) for topic in topics}
        assert found == wanted, role


def word(acl: ACL) -> str:
    return "".join(part.capitalize() for part in acl.operation.name.split("_"))


def test_the_worker_knows_what_the_page_says_of_it(site: Site) -> None:
    wanted = serving(Settings())
    listed: dict[str, set[str]] = {name: {"Describe"} for name in TOPICS}
    for acl in page_acls():
        pattern = acl.resource_pattern
        if acl.principal == "User:worker" and pattern.resource_type is ResourceType.TOPIC:
            listed[pattern.resource_name].add(word(acl))
    assert listed == wanted


def test_a_worker_names_each_right_that_it_lacks(site: Site) -> None:
    """Of each topic one at a time; the group apart, since it is looked at when the topics do."""
    settings = settings_of(site.login("worker"))
    by_resource: dict[str, list[ACL]] = {}
    for acl in page_acls():
        if acl.principal == "User:worker":
            by_resource.setdefault(acl.resource_pattern.resource_name, []).append(acl)
    group = by_resource.pop("freshet")
    rounds = [*itertools.zip_longest(*by_resource.values()), group]
    assert sum(acl is not None for taken in rounds for acl in taken) == 29
    for acls in rounds:
        taken = [acl for acl in acls if acl is not None]
        site.kafka.forbid(taken)
        missing = [
            rf"{acl.resource_pattern.resource_name} does not allow .*\b{word(acl)}\b.* to user "
            rf"worker .*FRESHET_SECURITY_USERNAME.*--operation {word(acl)} .*deploy/SECURE.md"
            for acl in taken
        ]
        until(
            lambda: all(re.search(line, lacks(settings)) for line in missing),  # noqa: B023
            lambda: lacks(settings),
        )
        site.kafka.allow(taken)
        until(lambda: not lacks(settings), lambda: lacks(settings))


def lacks(settings: Settings) -> str:
    """What a worker says at its start of the rights that it lacks."""
    try:
        require_topics(settings)
    except BrokerError as error:
        return str(error)
    return ""


def test_the_shop_sends_and_does_no_more(site: Site, tmp_path: Path) -> None:
    environ = site.login("shop")
    assert run(environ, "send", "click", "--user", "u2", "--item", "85123A") == 0
    event = {
        "user_id": "u2",
        "item_id": "85123A",
        "type": "purchase",
        "event_time_ms": 1795316495213,
    }
    (tmp_path / "log").write_text(json.dumps(event) + "\n")
    assert run(environ, "replay", str(tmp_path / "log")) == 0
    refused_reader(environ, *("freshet-interests-changelog", "recommendations", "clicks"))
    refused_writer(environ, "freshet-interests-changelog", "recommendations", "items", "erasures")


def test_the_catalogue_and_the_eraser_write_their_topics(site: Site) -> None:
    for role, topic in (("catalogue", "items"), ("eraser", "erasures")):
        with_producer(site.login(role), lambda producer, topic=topic: send(producer, topic))
        refused_writer(site.login(role), "clicks", "freshet-interests-changelog", "dead-letters")
    assert read(site.login("eraser"), "receipts") == 0
    refused_reader(site.login("eraser"), "recommendations")


def test_the_asker_asks_and_reads_answers_and_does_no_more(site: Site) -> None:
    environ = site.login("asker")
    with_producer(environ, lambda producer: send(producer, "requests"))
    assert read(environ, "answers") == 0
    refused_reader(environ, *("freshet-interests-changelog", "recommendations", "requests"))
    refused_writer(environ, "freshet-interests-changelog", "clicks", "answers", "erasures")


def test_the_subscriber_reads_lists_and_does_no_more(site: Site) -> None:
    environ = site.login("subscriber")
    assert read(environ, "recommendations") == 0
    refused_reader(environ, *("freshet-interests-changelog", "clicks", "dead-letters"))
    refused_writer(environ, *TOPICS)


def test_the_gateway_reads_lists_sends_and_does_no_more(
    site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "gateway.log"
    environ = site.login("gateway") | {"FRESHET_GATEWAY_PORT": "0", "FRESHET_LOG_LEVEL": "debug"}
    process = start(environ, "gateway", log=log)
    try:
        url = await_match(process, log, r"gateway at (http://[\w.:]+)")
        await_ready(process, log, url)
        event = {"user_id": SHOPPER, "item_id": "i", "type": "view", "event_time_ms": 10**12}
        body, json_too = json.dumps(event).encode(), {"Content-Type": "application/json"}
        for path in ("clicks", "purchases", "items"):
            sent = body if path != "purchases" else body.replace(b"view", b"cancel")
            asked = urllib.request.Request(f"{url}/v1/{path}", sent, json_too)
            assert urllib.request.urlopen(asked, timeout=WITHIN_S).status == 202
    finally:
        process.terminate()
        assert process.wait(WITHIN_S) == 0
    said = log.read_text()
    no_secret(said)
    assert SHOPPER not in said
    environ = site.login("gateway")
    assert run(environ | {"FRESHET_GATEWAY_PORT": "0"}, "doctor", "--json") == 1  # no bundle
    findings = {one["check"]: one for one in json.loads(capfd.readouterr().out)["findings"]}
    assert (findings["gateway"]["status"], findings["gateway rights"]["status"]) == ("ok", "ok")
    assert findings["rights"]["status"] == "note", "it could not run a worker"
    refused_reader(environ, "freshet-interests-changelog", "clicks", "dead-letters")
    refused_writer(environ, "freshet-interests-changelog", "recommendations", "answers")


DESCRIBE = ("describe", "-", "--format", "kafka", "--json")


@in_each_way
def test_the_trainer_reads_what_it_trains_on_and_does_no_more(
    site: Site, way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for kind, item in (("click", "85123A"), ("purchase", "22423")):
        sent = run(site.login("shop"), "send", kind, "--user", "u3", "--item", item)
        assert sent == 0
    capfd.readouterr()
    environ = by(site, way, "trainer")
    assert export(environ, *DESCRIBE) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["events"] >= 2
    no_secret(said.out + said.err)
    refused_reader(environ, *("freshet-interests-changelog", "recommendations", "dead-letters"))
    refused_writer(environ, *TOPICS)


def test_the_trainer_names_each_right_that_it_lacks(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    acls = [acl for acl in page_acls() if acl.principal == "User:trainer"]
    assert len(acls) == 4
    assert run(site.login("shop"), "send", "click", "--user", "u4", "--item", "85123A") == 0

    def lacks_of() -> tuple[int, str]:
        code = export(site.login("trainer"), *DESCRIBE)
        said = capsys.readouterr().err
        assert "Traceback" not in said
        # A right takes its moment to be heard of; until then a topic may seem empty.
        assert (code == 1) == ("does not allow" in said), said
        return code, said

    for acl in acls:
        site.kafka.forbid([acl])
        line = (
            rf"topic {acl.resource_pattern.resource_name} does not allow Read to user trainer "
            rf".*FRESHET_SECURITY_USERNAME.*User:trainer.*--operation Read .*deploy/SECURE.md"
        )
        until(lambda: re.search(line, lacks_of()[1]) is not None, lacks_of)  # noqa: B023
        site.kafka.allow([acl])
        until(lambda: lacks_of()[0] == 0, lacks_of)


def read(environ: Environ, topic: str) -> int:
    """Ask the broker for a partition's records, known or not; the code it answers with."""
    partition = FetchRequest.FetchTopic.FetchPartition(
        partition=0,
        current_leader_epoch=-1,
        fetch_offset=0,
        last_fetched_epoch=-1,
        partition_max_bytes=1 << 20,
    )
    request = FetchRequest(
        max_wait_ms=0,
        min_bytes=0,
        max_bytes=1 << 20,
        isolation_level=0,
        session_id=0,
        session_epoch=-1,
        topics=[FetchRequest.FetchTopic(topic=topic, partitions=[partition])],
        forgotten_topics_data=[],
        rack_id="",
        max_version=11,  # by the topic's name
    )
    with open_admin(Cluster.of(settings_of(environ))) as admin:
        answer = admin._manager.run(admin._manager.send, request, 1)
    code: int = answer.responses[0].partitions[0].error_code
    return code


def refused_reader(environ: Environ, *topics: str) -> None:
    for topic in topics:
        assert read(environ, topic) == TopicAuthorizationFailedError.errno, topic


def with_producer(environ: Environ, work: Callable[[KafkaProducer], None]) -> None:
    options = Cluster.of(settings_of(environ)).options()
    producer = KafkaProducer(**options, max_block_ms=5000, enable_idempotence=False)
    try:
        work(producer)
    finally:
        producer.close(timeout=2)


def send(producer: KafkaProducer, topic: str) -> None:
    producer.send(topic, key=b"k", value=b"v", partition=0).get(timeout=10)


def refused_writer(environ: Environ, *topics: str) -> None:
    def work(producer: KafkaProducer) -> None:
        for topic in topics:
            with pytest.raises(TopicAuthorizationFailedError):
                send(producer, topic)

    with_producer(environ, work)


def offsets_of_the_group(cluster: Cluster) -> dict[Any, Any]:
    """Where the group stands; a broker that has just started looks for its coordinator first."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with open_admin(cluster) as admin:
                found: dict[Any, Any] = admin.list_group_offsets({"freshet": None})["freshet"]
                return found
        except BrokerError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def test_the_autoscaler_sees_how_far_the_group_is_behind_and_no_more(site: Site) -> None:
    environ = site.login("autoscaler")
    cluster = Cluster.of(settings_of(environ))
    committed = offsets_of_the_group(cluster)
    assert all(found.offset >= 0 for found in committed.values())
    consumer = KafkaConsumer(**cluster.options(), group_id=None)
    try:
        where = [TopicPartition(topic, 0) for topic in ("clicks", "purchases")]
        assert set(consumer.end_offsets(where)) == set(where)
    finally:
        consumer.close()
    refused_reader(environ, *TOPICS)
    refused_writer(environ, *TOPICS)
    cluster = Cluster.of(settings_of(site.login("shop")))
    with open_admin(cluster) as admin, pytest.raises(GroupAuthorizationFailedError):
        admin.list_group_offsets({"freshet": None})


def test_the_operators_commands(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    environ = site.login("operator")
    here = {"FRESHET_BUNDLE": str(sample.BUNDLE), "FRESHET_GATEWAY_PORT": "0"}
    assert run(environ | here, "doctor") == 0
    shown = capsys.readouterr()
    assert "no fault found" in shown.out
    assert run(environ, "doctor", "--json") == 1  # no bundle
    told = capsys.readouterr()
    no_secret(shown.out + shown.err + told.out + told.err)
    findings = {one["check"]: one for one in json.loads(told.out)["findings"]}
    assert findings["configuration"]["facts"]["security.password"]["value"] in ("***", None)
    # It could not run a worker, and need not.
    status = {check: one["status"] for check, one in findings.items()}
    assert (status["rights"], status["gateway rights"]) == ("note", "note")
    assert {status[check] for check in ("clock", "topics", "partitioner")} == {"ok"}
    assert status["lag"] in ("ok", "note"), "note: no worker is in the group"
    assert abs(findings["clock"]["facts"]["ahead_s"]) < 1.0, "one machine"


@pytest.mark.parametrize(
    ("role", "command", "parts"),
    [
        (
            "subscriber",
            ("topics", "create"),
            ("refuses to create topic", "--operation Create --cluster"),
        ),
        ("catalogue", ("send", "click", "--user", "u", "--item", "i"), ("clicks", "Write")),
        ("shop", ("watch", "--count", "1"), ("recommendations", "Read")),
        ("shop", ("topics", "check"), ("clicks", "DescribeConfigs")),
    ],
)
def test_a_command_names_the_right_that_it_lacks(
    site: Site,
    role: str,
    command: tuple[str, ...],
    parts: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(site.login(role), *command) == 1
    said = capsys.readouterr().err
    for part in (*parts, f"User:{role}", "deploy/SECURE.md"):
        assert part in said, said


# -- each way to be refused ----------------------------------------------------------------


class Refused(NamedTuple):
    """What is wrong, and the settings that the message must name."""

    environ: Callable[[Site], Environ]
    parts: tuple[str, ...]


def stranger(site: Site) -> Authority:
    folder = site.folder / "stranger"
    folder.mkdir(exist_ok=True)
    return Authority(folder, "stranger")


def foreign(site: Site) -> Environ:
    certificate_file, key_file = stranger(site).issue("worker")
    return site.tls("MUTUAL", certificate_file=str(certificate_file), key_file=str(key_file))


def bare(environ: Environ) -> Environ:
    return {name: value for name, value in environ.items() if "SECURITY" not in name}


CA, PROTOCOL = "security.ca_file (FRESHET_SECURITY_CA_FILE)", "FRESHET_SECURITY_PROTOCOL"
PASSWORD = ("FRESHET_SECURITY_PASSWORD", "security.password_file", "security.username")
REFUSED = {
    "another authority": Refused(lambda s: s.tls(ca_file=str(stranger(s).ca_file)), (CA,)),
    "another host": Refused(
        lambda s: s.tls("ELSEWHERE"), ("does not name 127.0.0.1", "FRESHET_BOOTSTRAP")
    ),
    "another host, as advertised": Refused(
        lambda s: s.tls("ASTRAY"), ("does not name localhost", "advertised.listeners")
    ),
    "expired": Refused(lambda s: s.tls("EXPIRED"), ("certificate has expired", CA)),
    "no certificate": Refused(
        lambda s: s.tls("MUTUAL"), ("wants a certificate", "FRESHET_SECURITY_CERTIFICATE_FILE")
    ),
    "a certificate of another authority": Refused(
        foreign, ("refuses the certificate", "FRESHET_SECURITY_CERTIFICATE_FILE")
    ),
    "a wrong password": Refused(
        lambda s: {
            **{k: v for k, v in s.login("worker").items() if not k.endswith("PASSWORD_FILE")},
            "FRESHET_SECURITY_PASSWORD": "open-sesame-wrong",
        },
        ("refuses the login of 'worker'", *PASSWORD),
    ),
    "a mechanism that is off": Refused(
        lambda s: (
            s.login("worker", "PLAIN", protocol="sasl_plaintext")
            | {"FRESHET_BOOTSTRAP": s.kafka.address("OPEN"), "FRESHET_SECURITY_CA_FILE": ""}
        ),
        ("takes no login of the kind PLAIN", "FRESHET_SECURITY_MECHANISM"),
    ),
    "no TLS where it is wanted": Refused(lambda s: bare(s.tls()), ("speaks TLS", PROTOCOL)),
    "TLS where there is none": Refused(
        lambda s: s.login("worker") | {"FRESHET_BOOTSTRAP": s.kafka.address("OPEN")},
        ("does not speak TLS", PROTOCOL),
    ),
    "no login where one is wanted": Refused(lambda s: s.tls("LOGIN"), ("wants a login", PROTOCOL)),
    "a login where there is none": Refused(
        lambda s: s.login("worker") | {"FRESHET_BOOTSTRAP": s.kafka.address("TLS")},
        ("takes no login", PROTOCOL),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_command_says_which_setting_to_look_at(
    site: Site, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environ, parts = REFUSED[name]
    assert run(environ(site), "topics", "check") == 1
    said = capsys.readouterr().err
    for part in parts:
        assert part in said, said
    assert len(said.splitlines()) == 1, said
    no_secret(said)


@pytest.mark.parametrize(
    "name", ["another authority", "a wrong password", "no TLS where it is wanted"]
)
def test_training_says_which_setting_to_look_at(
    site: Site, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environ, parts = REFUSED[name]
    assert export(environ(site), *DESCRIBE) == 1
    said = capsys.readouterr().err
    progress, fault = said.splitlines()
    assert "reading" in progress
    for part in parts:
        assert part in fault, said
    no_secret(said)


def test_a_worker_ends_at_once_and_says_the_same(site: Site, tmp_path: Path) -> None:
    """All of these at once; and a right that is missing."""
    bundle = {"FRESHET_BUNDLE": str(sample.BUNDLE), "FRESHET_METRICS_PORT": "0"}
    names = ("another authority", "a wrong password", "no TLS where it is wanted")
    cases = {name: REFUSED[name] for name in names}
    cases["no right"] = Refused(lambda s: s.login("shop"), ("Read to user shop", "User:shop"))
    workers = {}
    for name, case in cases.items():
        log = tmp_path / f"{name}.log"
        workers[name] = (start(case.environ(site) | bundle, "worker", log=log), log)
    try:
        for name, (worker, log) in workers.items():
            assert worker.wait(WITHIN_S) == 1, (name, log.read_text())
            said = log.read_text()
            assert "Traceback" not in said, said
            for part in cases[name].parts:
                assert part in said, said
            no_secret(said)
    finally:
        for worker, _ in workers.values():
            worker.kill()
            worker.wait()


def test_a_worker_is_not_let_in_by_a_group_of_others(site: Site) -> None:
    settings = settings_of(site.login("worker") | {"FRESHET_GROUP": "other"})
    with pytest.raises(TopicError, match="other-interests-changelog does not allow"):
        require_topics(settings)
