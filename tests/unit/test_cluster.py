"""How brokers are reached: one set of options for every client, and what its files must be."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from stream.config import Security, Settings
from stream.kafka.cluster import WIRE_LOGGERS, Cluster
from stream.secrets import Secret

STREAM = Path(__file__).parents[2] / "stream"
LOGIN = Security(protocol="sasl_plaintext", username="shop", password=Secret("correct horse"))


def test_a_plain_address_needs_nothing() -> None:
    cluster = Cluster.of(Settings(bootstrap="a:1, b:2"))
    assert cluster.options() == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
    }
    assert cluster.plain
    assert cluster.faust_credentials() is None


def test_a_login_reaches_every_kind_of_client() -> None:
    cluster = Cluster("a:1", LOGIN)
    assert cluster.access() == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "shop",
        "sasl_plain_password": "correct horse",
    }
    faust = cluster.faust_credentials()
    assert (faust.username, faust.password) == ("shop", "correct horse")
    assert (faust.protocol.value, faust.mechanism.value) == ("SASL_PLAINTEXT", "SCRAM-SHA-512")
    assert "horse" not in repr(cluster)


def test_no_client_is_made_without_them() -> None:
    """Only `cluster` knows the names under which a client takes addresses and rights."""
    names = re.compile(r"bootstrap_servers|security_protocol|sasl_plain_|ssl_context")
    sources = {path.name: path.read_text(encoding="utf-8") for path in STREAM.rglob("*.py")}
    assert [name for name, text in sources.items() if names.search(text)] == ["cluster.py"]


def test_requests_are_never_logged_whole() -> None:
    for name in WIRE_LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG)
    Cluster("a:1").options()
    for name in WIRE_LOGGERS:
        assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)
