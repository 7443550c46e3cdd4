"""A worker's log: text for people, JSON for programs, and nothing of a user in either."""

from __future__ import annotations

import ast
import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import log_lines
from stream.config import Settings, load_settings, log_format_asked
from stream.kafka.transport import BatchApp, describe
from stream.terminal import printable
from tests.support.freshet import ROOT

ID = "user-4711"


Start = Callable[[str, log_lines.LogFormat], io.StringIO]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Sets up logging and returns what is written; logging is as it was afterwards."""
    root, hooks = logging.root, (sys.excepthook, threading.excepthook)
    before = (root.level, list(root.handlers))

    def begin(level: str, log_format: log_lines.LogFormat) -> io.StringIO:
        # Here, not in the fixture: pytest puts its own output in place between the two.
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        output = sys.stderr
        log_lines.start_logging(level, log_format)
        assert isinstance(output, io.StringIO)
        return output

    yield begin
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook = hooks
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_json_line_has_time_level_logger_message_and_fields(start: Start) -> None:
    written = start("info", "json")
    log = logging.getLogger("stream.kafka.table")
    log.info("took %s over", [1, 2], extra={"partitions": (1, 2), "seconds": 0.5, "left": None})
    log.debug("not told")
    logging.getLogger("aiokafka.consumer").warning("two\nlines")
    first, second = lines(written)
    assert first.pop("time").endswith("Z")
    assert isinstance(first.pop("process"), int)
    assert first == {
        "level": "info",
        "logger": "stream.kafka.table",
        "message": "took [1, 2] over",
        "partitions": [1, 2],
        "seconds": 0.5,
        "left": None,
    }
    assert (second["logger"], second["message"]) == ("aiokafka.consumer", "two\nlines")


def test_text_is_for_people(start: Start) -> None:
    written = start("warning", "text")
    log = logging.getLogger("stream.any")
    log.warning("partition %d \x1b[31m", 3, extra={"partition": 3})
    log.info("not told")
    assert written.getvalue().endswith("[WARNING] partition 3 \\x1b[31m\n")
    assert written.getvalue().count("\n") == 1


@settings(deadline=None, max_examples=50)
@given(
    st.text(),
    st.dictionaries(
        st.text().map(lambda name: f"x{name}"),
        st.one_of(st.text(), st.floats(), st.binary(), st.lists(st.floats()), st.sets(st.text())),
        max_size=3,
    ),
)
def test_any_record_is_one_line_that_can_be_read(message: str, fields: dict[str, Any]) -> None:
    record = logging.makeLogRecord({"msg": message, "args": (), **fields})
    line = log_lines.JsonLines().format(record)
    assert line == printable(line)
    told = json.loads(line, parse_constant=pytest.fail)
    assert told["message"] == message
    assert fields.keys() <= told.keys()


def test_a_field_takes_no_others_place() -> None:
    record = logging.makeLogRecord({"msg": "m", "level": "none", "time": 0, "logger": "none"})
    told = json.loads(log_lines.JsonLines().format(record))
    assert "none" not in (told["level"], told["logger"])
    assert told["time"].endswith("Z")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_exception_is_told_without_its_message(
    log_format: log_lines.LogFormat, start: Start
) -> None:
    written = start("info", log_format)
    try:
        try:
            raise KeyError(ID)
        except KeyError as error:
            raise ValueError(f"of {ID}") from error
    except ValueError as error:
        logging.getLogger("faust").exception("crashed")
        sys.excepthook(ValueError, error, error.__traceback__)
        described = describe(error)
    assert ID not in described

    def fail() -> None:
        raise RuntimeError(ID)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    told = written.getvalue()
    assert ID not in told
    for part in ("crashed", "ValueError", "KeyError", "RuntimeError", "test_log_lines.py"):
        assert part in told
    if log_format == "json":
        assert [one["level"] for one in lines(written)] == ["error", "critical", "critical"]
        assert "KeyError" in lines(written)[0]["exception"]


def test_warnings_of_python_are_lines(start: Start) -> None:
    written = start("info", "json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (told,) = lines(written)
    assert (told["logger"], told["level"]) == ("py.warnings", "warning")


def test_the_app_sets_up_the_same_for_faust(tmp_path: Path) -> None:
    for log_format in ("text", "json"):
        app = BatchApp(Settings(log_level="error", log_format=log_format), datadir=tmp_path)
        config = log_lines.logging_config("error", log_format)
        assert app.conf.logging_config == config
        assert config["root"]["level"] == "ERROR"


@pytest.mark.parametrize(
    ("file", "environ", "flag", "asked"),
    [
        ("", {}, None, "text"),
        ('log_format = "json"', {}, None, "json"),
        ('log_format = "json"', {"FRESHET_LOG_FORMAT": "text"}, None, "text"),
        ("", {"FRESHET_LOG_FORMAT": " json "}, None, "json"),
        ("", {"FRESHET_LOG_FORMAT": "text"}, "json", "json"),
        ('log_format = "json"\nnonsense = 1', {}, None, "json"),
        ("no toml", {}, None, "text"),
    ],
)
def test_the_format_is_known_before_the_settings(
    file: str, environ: dict[str, str], flag: str | None, asked: str, tmp_path: Path
) -> None:
    path = tmp_path / "freshet.toml"
    path.write_text(file)
    assert log_format_asked(path, flag, environ) == asked
    if "no" not in file:
        assert load_settings(path, {"log_format": flag}, environ).log_format == asked


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--bundle", "/no/such/bundle"], 1, "/no/such/bundle"),
        (["--config", "/no/such/file"], 2, "/no/such/file"),
    ],
)
def test_what_keeps_a_worker_from_starting_is_a_line(
    arguments: list[str], code: int, message: str
) -> None:
    command = [sys.executable, "-m", "stream.cli", "worker", "--metrics-port", "0", *arguments]
    done = subprocess.run(
        command,
        env={"PYTHONPATH": str(ROOT), "FRESHET_LOG_FORMAT": "json", "FRESHET_PROVIDER": "cpu"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert (told[-1]["level"], told[-1]["exit_code"]) == ("critical", code)
    assert message in told[-1]["message"]


LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def _log_calls() -> Iterator[tuple[Path, ast.Call]]:
    for module in sorted((ROOT / "stream").rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
                and node.func.attr in LEVELS
            ):
                yield module, node


# What a user's or an item's id stands in.
OF_IDS = {"user_id", "item_id", "user_ids", "item_ids", "key", "keys", "value", "record"}


def test_no_line_holds_an_id() -> None:
    calls = list(_log_calls())
    assert len(calls) > 20
    for module, call in calls:
        where = f"{module}:{call.lineno}"
        assert isinstance(call.args[0], ast.Constant), f"{where}: no fixed text"
        told = [*call.args[1:], *(keyword.value for keyword in call.keywords)]
        names = {
            part.id if isinstance(part, ast.Name) else part.attr
            for one in told
            for part in ast.walk(one)
            if isinstance(part, ast.Name | ast.Attribute)
        }
        assert not names & OF_IDS, where
