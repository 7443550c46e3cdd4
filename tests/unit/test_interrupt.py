"""Ctrl-C while a command is still being imported: it ends with 130 and says nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stream.errors import EXIT_INTERRUPTED
from tests.support.kafka import ROOT

# A module finder that finds nothing, and interrupts its process when the named module is sought.
CHILD = """
import os, signal, sys

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIG{signal})

sys.meta_path.insert(0, Interrupter())
from {package}.cli import main
arguments = sys.argv[2:]
code = main(arguments)
sys.exit("never interrupted" if any(type(f) is Interrupter for f in sys.meta_path) else code)
"""
COMMANDS = {
    "send": ["send", "click", "--user", "u1", "--item", "i1"],
    "worker": ["worker", "--bundle", "stream/demo/data/bundle", "--metrics-port", "0"],
    "bundle": ["bundle", "check", "stream/demo/data/bundle"],
    "help": ["--help"],
}
EXPORT = ["describe", "none.jsonl"]


@pytest.mark.parametrize(
    ("module", "command", "number"),
    [
        ("click", "help", "INT"),
        ("kafka.errors", "send", "INT"),
        ("numpy", "send", "INT"),
        ("stream.cli.send", "send", "TERM"),
        ("faust", "worker", "INT"),
        ("onnxruntime", "worker", "TERM"),
        ("onnxruntime", "bundle", "INT"),
    ],
)
def test_an_interrupt_during_the_imports_is_silent(module: str, command: str, number: str) -> None:
    done = _interrupted("stream", module, number, COMMANDS[command])
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == EXIT_INTERRUPTED


@pytest.mark.parametrize("module", ["export.commands", "numpy", "onnxruntime"])
def test_an_interrupt_during_the_imports_of_training_is_silent(module: str) -> None:
    done = _interrupted("export", module, "INT", EXPORT)
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == EXIT_INTERRUPTED


def test_what_training_imports_late_is_interrupted_in_order() -> None:
    done = _interrupted("export", "kafka", "INT", [*EXPORT, "--format", "kafka"])
    assert (done.stdout, done.stderr.splitlines()[-1:]) == ("", ["freshet-export: interrupted"])
    assert "Traceback" not in done.stderr
    assert done.returncode == EXIT_INTERRUPTED


def test_a_training_that_ignores_ctrl_c_goes_on_to() -> None:
    ignoring = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    done = _interrupted("export", "numpy", "INT", EXPORT, before=ignoring)
    assert "no such file" in done.stderr
    assert done.returncode == 2


def _interrupted(
    package: str, module: str, number: str, arguments: list[str], before: str = ""
) -> subprocess.CompletedProcess[str]:
    child = before + CHILD.replace("{signal}", number).replace("{package}", package)
    return subprocess.run(
        [sys.executable, "-c", child, module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
