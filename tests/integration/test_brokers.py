"""Brokers start, answer, end, come back, and never outlive what started them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from stream.errors import BrokerError
from stream.kafka.admin import open_admin
from stream.kafka.broker import HOST, BrokerProcess, EmbeddedBroker
from tests.support.kafka import ROOT
from tests.support.pages import blocks

COUNT = 20


def _create(bootstrap: str, topic: str) -> None:
    with open_admin(bootstrap) as admin:
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})


def _send(bootstrap: str, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=False)
    try:
        for number in range(COUNT):
            producer.send(topic, key=b"u1", value=b"%d" % number).get(timeout=20)
    finally:
        producer.close()


def _receive(bootstrap: str, topic: str) -> list[int]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    values: list[int] = []
    try:
        consumer.assign([TopicPartition(topic, 0)])
        deadline = time.monotonic() + 20
        while len(values) < COUNT and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=500).values():
                values += [int(record.value) for record in records]
    finally:
        consumer.close()
    return values


def test_carries_records(broker: BrokerProcess, unique: str) -> None:
    topic = f"carries-{unique}"
    _create(broker.bootstrap, topic)
    _send(broker.bootstrap, topic)
    assert _receive(broker.bootstrap, topic) == list(range(COUNT))


@pytest.mark.kafka_only
def test_keeps_acknowledged_records_over_a_crash_and_a_restart(
    own_broker: BrokerProcess, unique: str
) -> None:
    topic = f"kept-{unique}"
    address = own_broker.bootstrap
    _create(address, topic)
    _send(address, topic)
    own_broker.kill()
    own_broker.start()
    assert own_broker.bootstrap == address
    assert _receive(address, topic) == list(range(COUNT))
    own_broker.stop()
    own_broker.start()
    assert _receive(address, topic) == list(range(COUNT))


def test_comes_back_on_the_same_address(own_broker: BrokerProcess) -> None:
    address = own_broker.bootstrap
    own_broker.stop()
    with pytest.raises(BrokerError, match="no Kafka broker answers"), open_admin(address, 0.5):
        pass
    own_broker.start()
    assert own_broker.bootstrap == address
    with open_admin(address) as admin:
        assert admin.describe_cluster()["brokers"]


def test_an_unknown_topic_is_not_created(broker: BrokerProcess, unique: str) -> None:
    with open_admin(broker.bootstrap) as admin:
        (topic,) = admin.describe_topics([f"never-{unique}"])
        assert topic["error_code"] == 3  # unknown topic or partition
        assert f"never-{unique}" not in admin.list_topics()


def test_a_taken_port_is_an_error_with_a_cure(broker: BrokerProcess) -> None:
    with pytest.raises(BrokerError, match=f"port {broker.port} .* choose another with --port"):
        EmbeddedBroker(broker.port).start()


_STARTER = """
import sys, time
from pathlib import Path
from tests.support.brokers import start_broker
broker = start_broker(sys.argv[1], Path(sys.argv[2]))
print(broker.pid, broker.port, flush=True)
time.sleep(120)
"""


def _start_in_a_child(kind: str, folder: Path) -> tuple[subprocess.Popen[str], int, int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", _STARTER, kind, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid, port = map(int, parent.stdout.readline().split())
    return parent, pid, port


def test_the_pages_script_starts_a_broker(tmp_path: Path) -> None:
    """With the embedded one, which is sooner there."""
    (text,) = [b.text for b in blocks() if b.before.rstrip().endswith("<!-- broker -->")]
    assert text.count('"kafka"') == 1
    done = subprocess.run(
        [sys.executable, "-c", text.replace('"kafka"', '"embedded"')],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{HOST}:")


def test_ends_with_the_process_that_started_it(broker_kind: str, tmp_path: Path) -> None:
    parent, pid, port = _start_in_a_child(broker_kind, tmp_path)
    os.kill(pid, 0)
    parent.kill()
    parent.wait(10)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except ConnectionRefusedError:
            break
        time.sleep(0.05)
    else:
        pytest.fail(f"the {broker_kind} broker (pid {pid}) outlived its parent")
