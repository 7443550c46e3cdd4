"""The commands without a broker: help, usage, error texts, exit codes."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.cli import COMMANDS, main
from stream.cli.doctor import AT_THE_BROKER
from stream.demo import sample

LEAVES = [
    *((name,) for name in COMMANDS if name not in ("topics", "bundle", "completion")),
    ("topics", "create"),
    ("topics", "check"),
    ("bundle", "show"),
    ("bundle", "check"),
]
AT_BROKER = {
    "send": ["send", "click", "--user", "u1", "--item", "i1"],
    "watch": ["watch"],
    "ask": ["ask", "list", "--user", "u1"],
    "simulate": ["simulate"],
    "topics create": ["topics", "create"],
    "topics check": ["topics", "check"],
    "replay": ["replay", str(sample.EVENTS)],
}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "BOOTSTRAP", "BUNDLE", "PROVIDER"):
        monkeypatch.delenv(f"FRESHET_{name}", raising=False)


@pytest.fixture
def no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that may start no broker."""

    def start() -> None:
        raise AssertionError("a broker was started")

    monkeypatch.setattr("stream.cli.demo.EmbeddedBroker", start)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody answers, and nobody else can start to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_help_names_the_common_options(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--config" in shown
    assert "--bootstrap" in shown


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("freshet")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["send", "click", "--user", "u1"],
        ["send", "clack", "--user", "u1", "--item", "i1"],
        ["send", "click", "--user", "u1", "--item", "i1", "--price", "3"],
        ["send", "click", "--user", "u1", "--item", "i1", "--property", "novalue"],
        ["send", "click", "--user", "u1", "--item", "i1", "--wait", "--timeout", "0"],
        ["ask", "list"],
        ["ask", "best", "--user", "u1"],
        ["ask", "rank", "--user", "u1"],
        [
            "ask",
            "rank",
            "--user",
            "u1",
            "--candidate",
            "i1",
            "--relevance",
            "1",
            "--relevance",
            "2",
        ],
        ["ask", "similar", "--user", "u1"],
        ["ask", "list", "--user", "u1", "--k", "0"],
        ["ask", "list", "--user", "", "--timeout", "1"],
        ["replay", "log", "--speed", "0"],
        ["replay", "log", "--speed", "fast"],
        ["replay", "/no/such/log"],
        ["simulate", "--rate", "-1"],
        ["simulate", "--rate", "inf"],
        ["simulate", "--rate", "nan"],
        ["simulate", "--drift", "2"],
        ["simulate", "--drift", "nan"],
        ["simulate", "--new-items", "nan"],
        ["simulate", "--new-items", "0"],
        ["demo", "--pace", "0"],
        ["demo", "--pace", "nan"],
        ["demo", "--pace", "inf"],
        ["watch", "--count", "0"],
        ["watch", "--bootstrap", "no port"],
        ["watch", "--config", "/no/such/file"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_one_message(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert "rror: " in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


@pytest.mark.parametrize("arguments", AT_BROKER.values(), ids=AT_BROKER)
def test_no_broker_is_1_and_says_the_cure(
    arguments: list[str],
    nobody: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main([*arguments, "--bootstrap", nobody]) == 1
    shown = capsys.readouterr().err
    assert f"no Kafka broker answers at {nobody}" in shown
    assert "freshet broker" in shown
    assert "FRESHET_BOOTSTRAP" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (["click", "--user", "", "--item", "i1"], "empty_id in user_id"),
        (["click", "--user", "u" * 257, "--item", "i1"], "user_id"),
        (["click", "--user", "\udcff", "--item", "i1"], "UTF-8"),
        (["click", "--user", "u1", "--item", "i1", "--time-ms", "1700000000"], "event_time"),
        (["purchase", "--user", "u1", "--item", "i1", "--quantity", "-1"], "quantity"),
    ],
)
def test_send_refuses_what_would_be_a_dead_letter(
    event: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["send", *event]) == 2
    assert why in capsys.readouterr().err


def test_worker_without_a_bundle_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker"]) == 2
    assert "FRESHET_BUNDLE" in capsys.readouterr().err


# Bundles


def test_bundle_show_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "show", str(sample.BUNDLE), "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    written = json.loads((sample.BUNDLE / "manifest.json").read_text())
    assert manifest == {
        "content": None,
        "exclude_bought": True,
        "item_storage": "float32",
        "recent": 0,
        "head": None,
        "live_weights": False,
        "half_lives_s": [],
        **written,
    }  # which a bundle from before it does not say
    assert main(["bundle", "check", str(sample.BUNDLE), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["id"] == manifest["id"]


def test_damaged_bundle_is_1_and_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(sample.BUNDLE, folder)
    damaged = folder / "update.onnx"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    for arguments in (["bundle", "check", str(folder)], ["worker", "--bundle", str(folder)]):
        assert main(arguments) == 1
        shown = capsys.readouterr().err
        assert "update.onnx" in shown
        assert "checksum" in shown


@pytest.mark.usefixtures("no_start")
@pytest.mark.parametrize(
    ("there", "words"),
    [(True, "is a file; give the folder of a bundle"), (False, "no such bundle folder; give")],
)
@pytest.mark.parametrize("command", ["worker", "demo", "bundle show", "bundle check"])
def test_what_is_no_bundle_folder_is_told_in_the_same_words(
    command: str,
    there: bool,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = tmp_path / "named"
    if there:
        named.touch()
    arguments = command.split()
    if command.startswith("bundle"):
        arguments.append(str(named))
    else:
        monkeypatch.setenv("FRESHET_BUNDLE", str(named))
    assert main(arguments) == 1
    assert f"error: {named}: {words}" in capsys.readouterr().err


# Demo


@pytest.mark.usefixtures("no_start")
def test_a_taken_port_of_the_page_is_told_before_a_broker_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--page-port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"error: the page's port {port} on 127.0.0.1 is taken: "
        f"give --page-port another one, or 0 for any free one\n"
    )


# Doctor


def test_doctor_tells_each_fault(
    nobody: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor", "--json", "--bootstrap", nobody]) == 1
    told = json.loads(capsys.readouterr().out)
    status = {finding["check"]: finding["status"] for finding in told["findings"]}
    assert told["ok"] is False
    for endpoint in ("worker", "gateway"):
        assert status.pop(endpoint) in ("note", "ok", "fault"), "whatever runs on this machine"
    assert status == {
        "versions": "ok",
        "machine": "ok",
        "configuration": "ok",
        "broker": "fault",
        **dict.fromkeys(AT_THE_BROKER, "skip"),
        "bundle": "fault",
        "provider": "skip",
        "disk": "skip",
    }


def test_doctor_with_wrong_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESHET_STATE_RING", "many")
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "FRESHET_STATE_RING" in shown
    assert shown.count("needs the configuration") == 12


def test_errors_with_hostile_text_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "/no/\x1b[2Jlog"]) == 2
    assert "\x1b" not in capsys.readouterr().err
