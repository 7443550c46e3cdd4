"""The commands as processes, against a broker: what a user types, what comes out, how it ends."""

from __future__ import annotations

import ast
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from stream.contracts import (
    Cause,
    ListedItem,
    RankedList,
    Reason,
    Recommendation,
    encode_record,
    partition_of,
)
from stream.demo import sample
from stream.kafka.broker import BrokerProcess
from tests.integration.test_asking import records_of
from tests.support.freshet import (
    END_WITHIN_S,
    ROOT,
    TOPICS,
    Freshet,
    interrupt,
    producing,
    wait_for,
)

CLICK_TO_LIST_WITHIN_MS = 100.0
PLACE = ("topic", "partition", "offset")
WORKER = {
    "FRESHET_BUNDLE": str(sample.BUNDLE),
    "FRESHET_BROKER_SESSION_TIMEOUT_S": "6",
    "FRESHET_BROKER_HEARTBEAT_S": "1",
}


JSON = {"FRESHET_LOG_FORMAT": "json"}


@pytest.fixture
def freshet(broker: BrokerProcess, unique: str) -> Freshet:
    return Freshet(broker.bootstrap, unique)


def test_topics_are_created_checked_and_created_again(freshet: Freshet) -> None:
    assert "freshet topics create" in freshet.run("topics", "check", code=1)
    freshet.run("topics", "create")
    freshet.run("topics", "check")
    freshet.run("topics", "create")


def test_missing_topic_is_told(freshet: Freshet) -> None:
    for arguments in (["send", "click", "--user", "u", "--item", "i"], ["watch"]):
        shown = freshet.run(*arguments, code=1)
        assert "freshet topics create" in shown


def test_sent_events_come_where_the_worker_looks(freshet: Freshet) -> None:
    freshet.run("topics", "create")
    sent = json.loads(freshet.run("send", "click", "--user", "ü1", "--item", "i1", "--json"))
    assert sent["topic"] == freshet.topic["clicks"]
    assert sent["partition"] == partition_of("ü1".encode(), 3)
    bought = freshet.run(
        *("send", "purchase", "--user", "u\x1b1", "--item", "i1", "--price", "2.5"),
        *("--property", "n=1", "--property", "colour=red"),
    )
    assert freshet.topic["purchases"] in bought
    assert "u\\x1b1" in bought


def test_watch_prints_lists_with_titles_and_ends_with_ctrl_c(freshet: Freshet) -> None:
    freshet.run("topics", "create")
    items = [
        ListedItem("i1", 0.75, 1, Reason("click", "i2")),
        ListedItem("i2", 0.5, 2, Reason("popular")),
    ]
    lists = {"home": RankedList(items), "cart": RankedList(items[1:])}
    with producing(freshet.bootstrap) as producer:
        item = {"item_id": "i1", "title": "RED\x1b[31m BAG"}
        producer.send(freshet.topic["items"], key=b"i1", value=json.dumps(item).encode())
        producer.flush()
        with (
            freshet.start("watch", "--user", "u1", "--placement", "home") as people,
            freshet.start("watch", "--json", "--count", "2") as program,
        ):
            wait_for(people, "watching")
            wait_for(program, "watching")
            for user_id in ("u2", "u1"):
                cause = Cause(freshet.topic["clicks"], 0, 1, 1_700_000_000_000)
                record = Recommendation(user_id, lists, "m", "main", cause, 1_700_000_000_001)
                producer.send(
                    freshet.topic["recommendations"],
                    key=user_id.encode(),
                    value=encode_record(record),
                )
            producer.flush()
            assert wait_for(people, "u1", "stdout").rstrip() == (
                "u1  home  1. RED\\x1b[31m BAG 0.75 (You clicked i2)  2. i2 0.50 (Popular now)"
            )
            assert interrupt(people).strip() == ""
            assert people.returncode == 130
            out, _ = program.communicate(timeout=20)
            assert program.returncode == 0
            told = [json.loads(line) for line in out.splitlines()]
            assert {record["user_id"] for record in told} == {"u1", "u2"}
            assert told[0]["lists"]["cart"]["items"][0]["item_id"] == "i2"


def test_watch_tells_that_the_broker_is_gone_and_back(
    own_broker: BrokerProcess, unique: str
) -> None:
    freshet = Freshet(own_broker.bootstrap, unique)
    freshet.run("topics", "create")
    with freshet.start("watch") as watch:
        wait_for(watch, "watching")
        own_broker.kill()
        assert own_broker.bootstrap in wait_for(watch, "does not answer")
        own_broker.start()
        wait_for(watch, "answers again")
        assert "does not answer" not in interrupt(watch)


def test_replay_sends_all_but_the_bad_lines(freshet: Freshet, tmp_path: Path) -> None:
    freshet.run("topics", "create")
    log = tmp_path / "log.jsonl"
    event = {"user_id": "u1", "item_id": "i1", "event_time_ms": 1_700_000_000_000}
    lines = [json.dumps({**event, "type": kind}) for kind in ("purchase", "nonsense", "click")]
    log.write_text("\n".join(lines))
    assert "line 2: unknown_type" in freshet.run("replay", str(log), code=1)
    log.write_text("\n".join([lines[0], lines[2]]))
    told = json.loads(freshet.run("replay", str(log), "--json", "--speed", "1000"))
    assert (told["clicks"], told["purchases"], told["bad"]) == (1, 1, [])


def test_doctor_finds_another_partitioner(freshet: Freshet) -> None:
    freshet.run("topics", "create")
    freshet.environ["FRESHET_BUNDLE"] = str(sample.BUNDLE)
    freshet.run("send", "click", "--user", "u1", "--item", "i1")
    assert "no fault" in freshet.run("doctor")
    wrong = (partition_of(b"u1", 3) + 1) % 3
    with producing(freshet.bootstrap) as producer:
        producer.send(freshet.topic["purchases"], key=b"u1", value=b"{}", partition=wrong)
        producer.flush()
    shown = freshet.run("doctor", code=1)
    assert f"1 on {freshet.topic['purchases']}" in shown
    assert "murmur2_random" in shown


def test_simulate_needs_a_catalogue_and_reports_each_second(freshet: Freshet) -> None:
    freshet.run("topics", "create")
    assert "catalogue" in freshet.run("simulate", code=2)
    with producing(freshet.bootstrap) as producer:
        for key, value in sample.catalogue():
            producer.send(freshet.topic["items"], key=key, value=value)
        producer.flush()
    more = ("--new-items", "0.25", "--drift", "0.1", "--impressions", "--json")
    out = freshet.run("simulate", "--rate", "100", "--events", "150", "--users", "5", *more)
    *seconds, total = [json.loads(line) for line in out.splitlines()]
    assert sum(second["events"] for second in seconds) == 150
    assert len(seconds) == 2
    assert total["total"]["events"] == 150
    added = total["total"]["new_items_arrived"]
    assert added >= 5
    newest = {r.key: r.value for r in records_of(freshet, freshet.topic["items"])}
    assert sum(value is None for value in newest.values()) == added, "they are taken out again"


@pytest.mark.parametrize("arguments", [("watch",), ("simulate", "--rate", "5")], ids=lambda a: a[0])
def test_interrupted_without_a_traceback(freshet: Freshet, arguments: tuple[str, ...]) -> None:
    freshet.run("topics", "create")
    with producing(freshet.bootstrap) as producer:
        producer.send(freshet.topic["items"], key=b"i1", value=b'{"item_id": "i1"}')
        producer.flush()
    for number in (signal.SIGINT, signal.SIGTERM):
        with freshet.start(*arguments, anew=True) as process:
            wait_for(process, "Ctrl-C")
            interrupt(process, number)
            assert process.returncode == 130


def test_worker_serves_and_stops(freshet: Freshet) -> None:
    """A click by hand becomes a list; Ctrl-C ends the worker without a traceback.

    Its log is JSON, Faust's lines too, line by line.
    """
    freshet.run("topics", "create")
    with (
        freshet.start("watch", "--user", "u1", "--count", "1", "--json") as watch,
        freshet.start("worker", environ=WORKER | JSON, anew=True) as worker,
    ):
        wait_for(watch, "watching")
        freshet.run("send", "click", "--user", "u1", "--item", "22423")
        out, _ = watch.communicate(timeout=60)
        assert json.loads(out)["user_id"] == "u1"
        assert worker.stderr is not None
        told = map(json.loads, worker.stderr)
        taken = next(line for line in told if line["message"].startswith("took partitions"))
        assert taken["partitions"] == [0, 1, 2]
        assert taken["logger"] == "stream.kafka.table"
        interrupt(worker)
        assert worker.returncode in (0, 130)


@pytest.mark.alone  # it measures time
def test_a_click_by_hand_changes_the_list_in_time(freshet: Freshet) -> None:
    """`send --wait` tells how long; the best of ten, since the machine may be busy."""
    freshet.run("topics", "create")
    items = [item_id for item_id, _ in sample.catalogue()][:10]
    took_ms, lists = [], []
    with freshet.start("worker", environ=WORKER):
        for item_id in items:
            by_hand = ("click", "--user", "u1", "--item", item_id.decode())
            out = freshet.run("send", *by_hand, "--wait", "--timeout", "50", "--json")
            sent, answer = map(json.loads, out.splitlines())
            assert answer["user_id"] == "u1"
            assert all(answer["cause"][name] == sent[name] for name in PLACE)
            took_ms.append(answer["event_to_list_ms"])
            lists.append(
                [(item["item_id"], item["score"]) for item in answer["lists"]["home"]["items"]]
            )
        shown = freshet.run("send", "purchase", "--user", "u1", "--item", "22423", "--wait")
    assert all(now != before for before, now in zip([[], *lists], lists, strict=False))
    print(f"click to list, ms: {' '.join(f'{one:.0f}' for one in took_ms)}")
    assert min(took_ms) < CLICK_TO_LIST_WITHIN_MS
    assert re.search(r"\nnew list in \d+\.\d ms\nhome  1\. \S+ \d\.\d\d  2\. ", shown)


def test_waiting_without_a_worker_says_so(freshet: Freshet) -> None:
    freshet.run("topics", "create")
    by_hand = ("send", "click", "--user", "u1", "--item", "i1")
    shown = freshet.run(*by_hand, "--wait", "--timeout", "0.5", code=1)
    assert f"click of u1 on i1: {freshet.topic['clicks']}, partition" in shown
    assert "no list of u1" in shown
    assert "is a worker running?" in shown


def test_the_readmes_example_shows_the_list_that_its_click_makes(
    own_broker: BrokerProcess, unique: str
) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- example -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    code, replaced = re.subn(r'"127\.0\.0\.1:9092"', f'"{own_broker.bootstrap}"', found[1])
    assert replaced == 1
    freshet = Freshet(own_broker.bootstrap, unique)
    for name in TOPICS:  # the example's are the defaults
        del freshet.environ[f"FRESHET_TOPICS_{name.upper()}"]
    freshet.environ |= WORKER
    freshet.run("topics", "create")
    with freshet.start("worker"), producing(own_broker.bootstrap) as producer:
        for key, value in sample.catalogue():
            producer.send("items", key=key, value=value)
        producer.flush()
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    user_id, _, shown = done.stdout.strip().partition(" ")
    assert user_id == "u1"
    items = dict(ast.literal_eval(shown))
    assert len(items) == 3
    assert all(0 < score <= 1 for score in items.values())


def test_worker_without_its_broker_still_ends_in_time(
    own_broker: BrokerProcess, unique: str
) -> None:
    freshet = Freshet(own_broker.bootstrap, unique)
    freshet.run("topics", "create")
    with (
        freshet.start("watch", "--count", "1", "--json") as watch,
        freshet.start("worker", environ=WORKER) as worker,
    ):
        wait_for(watch, "watching")
        freshet.run("send", "click", "--user", "u1", "--item", "22423")
        watch.communicate(timeout=60)
        own_broker.kill()
        interrupt(worker)


def test_taken_metrics_port_ends_the_worker_with_the_cure(freshet: Freshet) -> None:
    freshet.run("topics", "create")
    freshet.environ["FRESHET_BUNDLE"] = str(sample.BUNDLE)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        shown = freshet.run("worker", "--metrics-port", port, code=2)
    assert "FRESHET_METRICS_PORT" in shown


# These start a broker themselves, so they run once, whatever `--broker` names.


@pytest.fixture
def alone(unique: str) -> Freshet:
    freshet = Freshet("127.0.0.1:9", unique)
    for name in list(freshet.environ):
        if name.startswith("FRESHET_"):
            del freshet.environ[name]
    return freshet


def test_broker_runs_until_ctrl_c_and_its_port_is_free_at_once(alone: Freshet) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for _ in range(2):
        with alone.start("broker", "--port", port) as process:
            assert port in wait_for(process, "embedded broker at", "stdout")
            interrupt(process)
            assert process.returncode == 130


def test_broker_on_a_taken_port_says_so(alone: Freshet) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        shown = alone.run("broker", "--port", str(taken.getsockname()[1]), code=1)
    assert "--port" in shown


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_two_demos_that_start_at_once_have_a_page_each(alone: Freshet) -> None:
    quiet = ("demo", "--events", "0")
    with alone.start(*quiet) as one, alone.start(*quiet) as other:
        pages = {wait_for(demo, "page ", "stdout").split()[1] for demo in (one, other)}
        assert len(pages) == 2
        for page in pages:
            with urllib.request.urlopen(page, timeout=10) as answer:
                assert b"Freshet" in answer.read()
        for demo in (one, other):
            interrupt(demo)
            assert demo.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_demo_shows_lists_and_leaves_no_child(alone: Freshet, number: int) -> None:
    with alone.start("demo", "--pace", "0.2", "--events", "6") as demo:
        hand = wait_for(demo, "send click --user you", "stdout").split("--bootstrap ")[1].split()[0]
        wait_for(demo, "new list in", "stdout")
        wait_for(demo, "waiting for yours", "stdout")
        children = children_of(demo.pid)
        assert len(children) == 2
        alone.run("send", "click", "--user", "you", "--item", "22423", "--bootstrap", hand)
        heading = wait_for(demo, "you clicked", "stdout")
        assert "new list in" in heading
        if number == signal.SIGINT:
            interrupt(demo)
            assert demo.returncode == 130
        else:
            demo.kill()
            demo.communicate()
        deadline = time.monotonic() + END_WITHIN_S
        while not all(map(gone, children)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert all(map(gone, children))
