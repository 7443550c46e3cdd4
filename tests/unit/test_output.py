"""Standard output that cannot be written: one line says so, and the exit code; no traceback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from export import cli as training
from export.commands import EXAMPLES
from stream import cli
from stream.cli import COMMANDS
from stream.errors import EXIT_READER_GONE, OutputError, ReaderGoneError, UsageError
from stream.output import whole_output
from tests.support.kafka import ROOT

FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which Linux has")


@contextmanager
def printing_to(output: IO[str]) -> Iterator[None]:
    """In a test and not in a fixture: pytest sets its own output between the two."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdout", output)
        yield


@contextmanager
def full(unbuffered: bool = False) -> Iterator[io.TextIOWrapper]:
    """A standard output on a full disk."""
    with FULL.open("wb", buffering=0) as raw:
        buffer = raw if unbuffered else io.BufferedWriter(raw)
        output = io.TextIOWrapper(buffer, write_through=unbuffered)
        with printing_to(output):
            yield output


@contextmanager
def unread() -> Iterator[None]:
    """A standard output whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as output, printing_to(output):
        yield


def assert_one_error(said: str) -> None:
    """The last line is the one error; those before are progress."""
    *_, last = said.splitlines()
    assert last.startswith("error: standard output: cannot be written (No space left on device)")
    assert said.count("error:") == 1


@pytest.mark.parametrize(
    ("main", "name"),
    [*((cli.main, name) for name in COMMANDS), *((training.main, name) for name in EXAMPLES)],
)
def test_every_command_says_that_its_output_is_lost(
    main: Callable[[list[str]], int], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with full():
        assert main([name, "--help"]) == 1
    assert_one_error(capsys.readouterr().err)


@pytest.mark.parametrize("main", [cli.main, training.main])
def test_nobody_is_told_that_nobody_reads(
    main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with unread():
        assert main(["--help"]) == EXIT_READER_GONE
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("package", ["stream", "export"])
def test_a_process_ends_without_a_traceback(package: str) -> None:
    """What is left in buffers is written when a process ends, outside of every function."""
    line = [sys.executable, "-m", f"{package}.cli", "--help"]
    with FULL.open("w") as output:
        done = subprocess.run(
            line, stdout=output, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False
        )
    assert done.returncode == 1
    assert_one_error(done.stderr)


@pytest.mark.parametrize("unbuffered", [False, True])
def test_the_first_failure_ends_it_and_the_rest_is_swallowed(unbuffered: bool) -> None:
    @whole_output()
    def command() -> None:
        try:
            print("a line", flush=True)
        except OutputError:
            print("what ends in order may go on to print", flush=True)

    with full(unbuffered) as output:
        with pytest.raises(OutputError, match="No space left"):
            command()
        assert sys.stdout is output


@pytest.mark.parametrize(
    ("own", "told"),
    [(UsageError("the better reason"), UsageError), (SystemExit(0), OutputError)],
)
def test_an_error_of_the_command_comes_first_and_help_is_none(
    own: BaseException, told: type[Exception]
) -> None:
    @whole_output()
    def command() -> None:
        print("a line")
        raise own

    with full(), pytest.raises(told):
        command()


def test_a_gone_reader_has_an_error_of_its_own() -> None:
    with unread(), pytest.raises(ReaderGoneError), whole_output():
        print("a line")


def test_what_can_be_written_is(tmp_path: Path) -> None:
    file = tmp_path / "out"
    output = file.open("w", encoding="ascii", errors="backslashreplace")
    with output, printing_to(output), whole_output():
        print("a line\nand öne more")
    assert file.read_bytes() == b"a line\nand \\xf6ne more\n"


def test_output_of_a_test_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with whole_output():
        assert sys.stdout is before
        print("a line")
    assert capsys.readouterr().out == "a line\n"


def test_closed_output_is_an_error_once_something_is_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with whole_output():
        pass
    with pytest.raises(OutputError, match="is closed; send it to a file"), whole_output():
        print("lost")
    assert sys.stdout is None
    command = f"{sys.executable} -m stream.cli --version >&-"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output: is closed")
