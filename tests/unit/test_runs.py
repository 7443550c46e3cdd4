"""What the long runs of tests/ say when they cannot run, and with which exit code they end."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from stream.errors import BrokerError, UsageError
from tests.bench import __main__ as bench
from tests.bench import contexts, demo, gateway, recovery, scale_out
from tests.chaos import __main__ as chaos
from tests.fuzz import __main__ as fuzz
from tests.fuzz import bombs
from tests.soak import __main__ as soak
from tests.support import kafka
from tests.support.runs import check_file, told

Main = Callable[[list[str]], int | None]
NOWHERE = ["--bootstrap", "127.0.0.1:1"]
FLOOR = ["--only", "latency_floor"]


@pytest.fixture(autouse=True)
def _own_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its own


@pytest.mark.parametrize(
    ("main", "arguments", "said"),
    [
        (bench.main, "--repeats 0", "--repeats: 0: give a whole number from 1 on"),
        (bench.main, "--rate 0", "--rate: 0: give a number above 0"),
        (bench.main, "--seconds nan", "--seconds: nan: give a number above 0"),
        (bench.main, "--bootstrap here", "--bootstrap: is 'here'; must be HOST:PORT"),
        (soak.main, "--users x", "--users: invalid int value: 'x'"),
        (soak.main, "--minutes -1", "--minutes is -1.0; it must be above 0"),
        (soak.main, "--bootstrap :9", "--bootstrap: is ':9'; must be HOST:PORT"),
        (chaos.main, "--kills 0", "--kills is 0; it must be above 0"),
        (chaos.main, "--minutes x", "--minutes: invalid float value: 'x'"),
        (fuzz.main, "--records x", "--records: invalid int value: 'x'"),
        (bombs.main, "--bombs 0", "--bombs: 0: give a whole number from 1 on"),
        (recovery.main, "--bootstrap a:b", "--bootstrap: is 'a:b'; must be HOST:PORT"),
        (scale_out.main, "--events 0", "--events: 0: give a whole number from 1 on"),
        (scale_out.main, "--workers 9", "--workers: from 1 to"),
        (gateway.main, "--users -1", "--users: -1: give a whole number from 1 on"),
        (gateway.main, "--rate inf", "--rate: inf: give a number above 0"),
        (contexts.main, "--items 0", "--items: 0: give a whole number from 1 on"),
        (demo.main, "--clicks 0", "--clicks: at least 1"),
    ],
)
def test_nonsense_is_refused_with_what_would_do(
    main: Main, arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "arguments"),
    [(bench.main, FLOOR), (soak.main, []), (recovery.main, ["--users", "10"])],
)
def test_a_broker_that_does_not_answer_is_named(
    main: Main,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    older = tmp_path / "older.json"
    older.write_text("kept")
    out = [] if main is recovery.main else ["--out", str(older)]
    assert main([*NOWHERE, *arguments, *out]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: no Kafka broker answers at 127.0.0.1:1: start one")
    assert older.read_text() == "kept"


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (bench.main, FLOOR),
        (soak.main, []),
        (chaos.main, []),
        (fuzz.main, []),
        (recovery.main, []),
        (scale_out.main, []),
        (gateway.main, ["--kafka"]),
        (kafka.main, ["--port", "0"]),
    ],
)
def test_without_java_it_is_told_what_to_install(
    main: Main,
    arguments: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(soak, "DISK_BYTES", 0)
    monkeypatch.setattr(chaos, "BUILD", tmp_path)
    monkeypatch.setattr(gateway, "RESULT_KAFKA", tmp_path / "gateway.json")
    places = {bench.main: "--out", soak.main: "--out", fuzz.main: "--out", kafka.main: "--data"}
    place = [places[main], str(tmp_path / "placed")] if main in places else []
    assert main([*arguments, *place]) == 1
    said = capsys.readouterr().err
    assert "error: Java (17 or newer) is not installed" in said
    assert "Debian: default-jre-headless" in said


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (bench.main, [*FLOOR, "--out", "{}/x.json"]),
        (soak.main, ["--out", "{}/x.json"]),
        (fuzz.main, ["--out", "{}/x.json"]),
        (chaos.main, []),
        (gateway.main, []),
        (kafka.main, ["--data", "{}/data"]),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_run(
    main: Main,
    arguments: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "a file"
    place.touch()
    monkeypatch.setattr(chaos, "BUILD", place)
    monkeypatch.setattr(gateway, "RESULT", place / "x.json")
    assert main([argument.format(place) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {place}")
    assert "cannot be written" in said
    assert "make it a folder that can be" in said


def test_jars_that_cannot_be_kept_are_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(kafka.KafkaMissingError, match="file/kafka cannot be written"):
        kafka.fetch_jars(build=tmp_path / "file" / "kafka")


def test_nothing_is_measured_when_all_that_was_asked_for_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "bench.json"
    assert bench.main(["--only", "kafka_streams", "--out", str(out), *NOWHERE]) == 1
    said = capsys.readouterr()
    assert "left out: Kafka Streams" in said.out
    assert said.err.startswith("error: all that was asked for is left out: install what is missing")
    assert not out.exists()


def test_results_go_to_a_file(tmp_path: Path) -> None:
    check_file(tmp_path / "new" / "x.json")
    with pytest.raises(UsageError, match="is a folder: name a file in it"):
        check_file(tmp_path)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "\nstopped\n"),
        (BrokerError("no broker"), 1, "error: no broker\n"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/x"), 2, "both must be writ"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 2, "with room on their disks"),
    ],
)
def test_what_ends_a_run_is_told(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> int:
        raise error

    assert told(run, "stopped") == code
    assert said in capsys.readouterr().err


def test_an_error_of_the_run_itself_is_not_hidden() -> None:
    def run() -> int:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    with pytest.raises(ConnectionResetError):
        told(run)
