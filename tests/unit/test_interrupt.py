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
from stream.cli import main
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
    done = subprocess.run(
        [sys.executable, "-c", CHILD.replace("{signal}", number), module, *COMMANDS[command]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == EXIT_INTERRUPTED
