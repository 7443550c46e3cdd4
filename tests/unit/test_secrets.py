"""Secret settings: where they may come from, and that nothing shows them."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from stream.cli import main
from stream.config import Security, Settings, load_settings
from stream.errors import SettingsError
from stream.secrets import MAX_BYTES, Secret, read_secret
from stream.settings import SECRETS

WORD = "correct horse"
LOGIN = {"FRESHET_SECURITY_PROTOCOL": "sasl_ssl", "FRESHET_SECURITY_USERNAME": "shop"}
Write = Callable[[bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(data: bytes) -> str:
        path = tmp_path / "secret"
        path.write_bytes(data)
        path.chmod(0o600)
        return str(path)

    return to_file


def test_no_output_shows_a_secret() -> None:
    secret = Secret(WORD)
    settings = Settings(security=Security(password=secret))
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret:>9}", repr(settings)):
        assert WORD not in shown
        assert "***" in shown
    assert secret.reveal() == WORD
    for write in (msgspec.json.encode, msgspec.to_builtins, pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            write(settings)
    assert Secret(WORD) == secret != Secret("other")
    assert hash(Secret(WORD)) == hash(secret)
    assert secret != WORD


def test_from_the_environment_as_it_is() -> None:
    settings = load_settings(environ={**LOGIN, "FRESHET_SECURITY_PASSWORD": f" {WORD}\t"})
    assert settings.security.password == Secret(f" {WORD}\t")


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_from_a_file_without_its_line_break(write: Write, ending: bytes) -> None:
    file = write(f" {WORD} é ".encode() + ending)
    environ = {**LOGIN, "FRESHET_SECURITY_PASSWORD_FILE": file}
    assert load_settings(environ=environ).security.password == Secret(f" {WORD} é ")


def test_the_toml_file_names_the_file_and_the_environment_is_stronger(
    write: Write, tmp_path: Path
) -> None:
    toml = tmp_path / "freshet.toml"
    toml.write_text(
        "[security]\nprotocol = 'sasl_ssl'\nusername = 'shop'\n"
        f"password_file = '{write(WORD.encode())}'\n"
    )
    assert load_settings(toml, environ={}).security.password == Secret(WORD)
    environ = {"FRESHET_SECURITY_PASSWORD": "newer"}
    assert load_settings(toml, environ=environ).security.password == Secret("newer")


def refusal(environ: Mapping[str, str], toml: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(toml, environ=environ)
    assert WORD not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def test_both_at_once_are_refused(write: Write) -> None:
    file = write(WORD.encode())
    both = {"FRESHET_SECURITY_PASSWORD": WORD, "FRESHET_SECURITY_PASSWORD_FILE": file}
    message = refusal(LOGIN | both)
    assert all(name in message for name in both)


@pytest.mark.parametrize("word", [WORD, "x" * 31])
def test_a_secret_that_could_be_guessed_is_refused(write: Write, word: str) -> None:
    file = write(word.encode())
    for name, value in (("FRESHET_PRIVACY_SECRET", word), ("FRESHET_PRIVACY_SECRET_FILE", file)):
        message = refusal({name: value})
        assert message.startswith(f"environment: {name}: the secret is shorter than 32 bytes")
        assert "openssl rand -hex 32" in message


def test_a_secret_is_measured_in_bytes() -> None:
    for long in ("x" * 32, "é" * 16, "\udcff" * 32):
        settings = load_settings(environ={"FRESHET_PRIVACY_SECRET": long})
        assert settings.privacy.secret == Secret(long)


@pytest.mark.parametrize("name", ["FRESHET_PRIVACY_SECRET", "FRESHET_PRIVACY_SECRET_FILE"])
def test_an_empty_variable_does_not_pass_for_no_pseudonyms(name: str) -> None:
    assert refusal({name: ""}).startswith(f"environment: {name}: is empty")
    assert load_settings(environ={}).privacy.secret is None
    assert load_settings(environ={"FRESHET_SECURITY_PASSWORD": ""}).security.password is None


@pytest.mark.parametrize("path", sorted(SECRETS))
def test_not_in_the_toml_file_and_not_as_a_flag(path: str, tmp_path: Path) -> None:
    section, _, name = path.partition(".")
    toml = tmp_path / "freshet.toml"
    toml.write_text(f"[{section}]\n{name} = '{WORD}'\n")
    variable = "FRESHET_" + path.replace(".", "_").upper()
    for message in (refusal({}, toml), refused_flag(path)):
        assert f"set {variable}, or name a file that holds it with {path}_file" in message


def refused_flag(path: str) -> str:
    with pytest.raises(SettingsError, match="can see it there") as caught:
        load_settings(overrides={path: WORD}, environ={})
    assert WORD not in str(caught.value)
    return str(caught.value)


def test_a_command_does_not_repeat_a_secret_given_as_a_flag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in ([f"--security-password={WORD}"], ["--security-password", WORD]):
        assert main(["topics", "check", *words]) == 2
        assert WORD not in "".join(capsys.readouterr())


BAD_FILES = {
    b"": "is empty",
    b"\n": "is empty",
    b"\xff\xfeh\x00i\x00": "not UTF-8 text",
    b"h\0i": "not UTF-8 text",
    b"x" * (MAX_BYTES + 1): "larger than",
}


@pytest.mark.parametrize("data", BAD_FILES, ids=BAD_FILES.values())
def test_a_bad_file_is_named_with_its_setting(write: Write, data: bytes) -> None:
    file = write(data)
    message = refusal({**LOGIN, "FRESHET_SECURITY_PASSWORD_FILE": file})
    assert message.startswith(f"environment: FRESHET_SECURITY_PASSWORD_FILE: the file {file} ")
    assert BAD_FILES[data] in message


@pytest.mark.parametrize("path", ["/no/such/file", "a\0b"])
def test_a_file_that_cannot_be_read(path: str) -> None:
    with pytest.raises(SettingsError, match=r"ORIGIN: the file .* cannot be read \(.+\)"):
        read_secret(path, "ORIGIN")


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    """A pipe would be waited for until somebody writes into it."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(SettingsError, match=f"ORIGIN: {path} is no regular file"):
            read_secret(str(path), "ORIGIN")


def test_a_file_that_everybody_may_read_is_warned_of(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(WORD.encode())
    Path(file).chmod(0o640)
    with caplog.at_level(logging.WARNING):
        read_secret(file, "ORIGIN")
        assert not caplog.text
        Path(file).chmod(0o644)
        assert read_secret(file, "ORIGIN") == Secret(WORD)
    assert f"ORIGIN: every user of this machine may read or change the file {file}" in caplog.text
    assert "chmod 600" in caplog.text
    assert WORD not in caplog.text


USELESS = {
    "CA_FILE": "ssl",
    "CERTIFICATE_FILE": "ssl",
    "KEY_FILE": "ssl",
    "KEY_PASSWORD": "ssl",
    "USERNAME": "sasl_ssl",
    "PASSWORD": "sasl_ssl",
}


@pytest.mark.parametrize("name", USELESS)
def test_what_the_protocol_has_no_use_for_is_refused(name: str) -> None:
    message = refusal({f"FRESHET_SECURITY_{name}": "x"})
    assert f"FRESHET_SECURITY_{name}: is set, yet security.protocol" in message
    assert message.endswith(f"set that to {USELESS[name]}.")


@pytest.mark.parametrize(
    ("environ", "parts"),
    [
        ({"PROTOCOL": "sasl_ssl"}, ("security.username (FRESHET_SECURITY_USERNAME)",)),
        (
            {"PROTOCOL": "sasl_plaintext", "USERNAME": "u"},
            ("set FRESHET_SECURITY_PASSWORD, or security.password_file",),
        ),
        (
            {"PROTOCOL": "ssl", "KEY_FILE": "k"},
            ("security.key_file is set", "FRESHET_SECURITY_CERTIFICATE_FILE"),
        ),
        (
            {"PROTOCOL": "ssl", "KEY_PASSWORD": "k"},
            ("security.key_password is set", "FRESHET_SECURITY_CERTIFICATE_FILE"),
        ),
        ({"PROTOCOL": "tls"}, ("must be plaintext, sasl_plaintext, sasl_ssl or ssl",)),
        ({"MECHANISM": "GSSAPI"}, ("'GSSAPI'", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")),
    ],
)
def test_what_does_not_go_together_is_refused(
    environ: Mapping[str, str], parts: tuple[str, ...]
) -> None:
    message = refusal({f"FRESHET_SECURITY_{name}": value for name, value in environ.items()})
    for part in parts:
        assert part in message
