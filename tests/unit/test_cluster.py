"""How brokers are reached: one set of options for every client, and what its files must be."""

from __future__ import annotations

import logging
import re
import ssl
from pathlib import Path

import pytest

from stream.config import Security, Settings
from stream.errors import SettingsError
from stream.kafka.cluster import WIRE_LOGGERS, Cluster, tls_context
from stream.secrets import Secret
from tests.support.authority import Authority

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


# -- files ---------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def context(authority: Authority, **given: object) -> ssl.SSLContext:
    options: dict[str, object] = {"protocol": "ssl", "ca_file": str(authority.ca_file)}
    files = {
        name: str(value) if isinstance(value, Path) else value for name, value in given.items()
    }
    return tls_context(Security(**{**options, **files}))  # type: ignore[arg-type]


def test_brokers_are_verified_against_the_own_authority_alone(authority: Authority) -> None:
    made = context(authority)
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2
    assert [ca["subject"][0][0][1] for ca in made.get_ca_certs()] == ["authority"]
    assert made is context(authority)  # one for all clients
    assert not context(authority, verify_hostname=False).check_hostname
    assert context(authority, ca_file=None).verify_mode is ssl.CERT_REQUIRED


def test_a_certificate_and_its_key_in_two_files_or_one(authority: Authority) -> None:
    certificate, key = authority.issue("shop")
    context(authority, certificate_file=certificate, key_file=key)
    key.write_bytes(key.read_bytes() + certificate.read_bytes())
    context(authority, certificate_file=key)
    certificate, key = authority.issue("hidden", key_password="correct horse")
    context(
        authority, certificate_file=certificate, key_file=key, key_password=Secret("correct horse")
    )


def refusal(authority: Authority, **given: object) -> str:
    with pytest.raises(SettingsError) as caught:
        context(authority, **given)
    assert "horse" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["ca_file", "certificate_file", "key_file"])
@pytest.mark.parametrize("content", [None, b"", b"no PEM", b"\xff\x00"])
def test_a_file_that_cannot_be_used_is_named_with_its_setting(
    authority: Authority, tmp_path: Path, name: str, content: bytes | None
) -> None:
    certificate, key = authority.issue("shop")
    bad = tmp_path / "bad"
    if content is not None:
        bad.write_bytes(content)
    files = {"certificate_file": certificate, "key_file": key, name: bad}
    message = refusal(authority, **files)
    assert message.startswith(f"security.{name} (FRESHET_SECURITY_{name.upper()}): the file {bad} ")


def test_a_damaged_authority(authority: Authority) -> None:
    text = authority.ca_file.read_text().splitlines()
    authority.ca_file.write_text("\n".join([text[0], "AAAA", text[-1]]))
    assert "security.ca_file (FRESHET_SECURITY_CA_FILE)" in refusal(authority)


def test_a_key_of_another_certificate(authority: Authority) -> None:
    certificate, _ = authority.issue("shop")
    _, key = authority.issue("other")
    message = refusal(authority, certificate_file=certificate, key_file=key)
    assert "is not the one of the certificate" in message
    assert "FRESHET_SECURITY_KEY_FILE" in message


@pytest.mark.parametrize("password", [None, Secret("wrong horse")])
def test_an_encrypted_key_needs_its_password(authority: Authority, password: Secret | None) -> None:
    """And OpenSSL does not ask for it on the terminal."""
    certificate, key = authority.issue("shop", key_password="correct horse")
    message = refusal(authority, certificate_file=certificate, key_file=key, key_password=password)
    assert "its password is missing or wrong" in message
    assert "FRESHET_SECURITY_KEY_PASSWORD" in message


def test_a_key_that_everybody_may_read_is_warned_of(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = authority.issue("shop")
    key.chmod(0o644)
    context(authority, certificate_file=certificate, key_file=key)
    assert "chmod 600" in caplog.text
    assert "FRESHET_SECURITY_KEY_FILE" in caplog.text


def test_one_connections_requests_are_not_logged_either() -> None:
    for name in WIRE_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    Cluster("b:1").access()
    assert all(logging.getLogger(name).level >= logging.INFO for name in WIRE_LOGGERS)
