"""The pages' commands typed by bash as they stand, by a reader with a broker and a log of events.

What serves until it is stopped goes on to the end of its shell. Only addresses are other ones; what
is not run says why in `tests/support/pages.py`.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from stream.demo import sample
from stream.kafka.broker import BrokerProcess, free_port
from tests.support.brokers import must_run, start_broker, why_missing
from tests.support.pages import READ, ROOT, blocks, command_lines, program_of, why_not_run

EVENTS: Final = 400
# What serves until it is stopped, and what it says once it does.
SERVES: Final = {"worker": "took partitions", "gateway": "ready: ", "watch": "watching "}
MODULES: Final = {"freshet": "stream.cli", "freshet-export": "export.cli"}
# `serve WORDS COMMAND` goes on when the command, behind, has said the words.
SHELL: Final = """
set -eEu
trap 'echo "this failed: $BASH_COMMAND" >&2' ERR
serve() {
    words=$1 log=$3.log; shift
    "$@" > $log 2>&1 & serving+=($!)
    for _ in $(seq 600); do
        if grep -q "$words" $log; then return 0; fi
        if ! kill -0 $!; then break; fi
        sleep 0.1
    done
    cat $log >&2; return 1
}
ended() { for one in "${serving[@]}"; do kill -TERM $one; wait $one || test $? = 130; done; }
serving=()
"""


def typed(*pages: str) -> list[str]:
    """The lines that are run, of these pages."""
    return [
        line
        for page in pages
        for block in blocks()
        if block.kind == "shell" and block.page == ROOT / page
        for line in command_lines(block)
        if why_not_run(line) is None
    ]


def script(typed: list[str], addresses: dict[str, str]) -> str:
    """Lines as one script of bash."""
    lines = [SHELL]
    for line in typed:
        words = shlex.split(line, comments=True)
        serves = program_of(line) == "freshet" and words[1] in SERVES
        lines.append(f"serve {shlex.quote(SERVES[words[1]])} {line}" if serves else line)
    text = "\n".join([*lines, "ended", ""])
    for told, ours in addresses.items():
        text = text.replace(told, ours)
    return text


def run(text: str, folder: Path, environ: dict[str, str]) -> tuple[int, str]:
    """Have bash run it; whatever it started is gone afterwards."""
    bash = subprocess.Popen(
        ["bash", "-c", text],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = bash.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(bash.pid, signal.SIGKILL)
        bash.communicate()
    return bash.returncode, said


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One for all pages, in their order: what a page made is there for the next."""
    if lacking := [name for name in ("bash", "curl") if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    if reason := why_missing("embedded"):
        if must_run("embedded"):
            pytest.fail(f"embedded is required here: {reason}", pytrace=False)
        pytest.skip(f"no embedded broker: {reason}")
    with start_broker("embedded", tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's home and checkout: the commands, and a log of events."""
    home = tmp_path_factory.mktemp("reader")
    for place in (".venv/bin", ".zfunc", ".config/fish/completions"):
        (home / place).mkdir(parents=True)
    for name, module in MODULES.items():
        command = home / ".venv" / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n')
        command.chmod(0o755)
    with gzip.open(sample.EVENTS, "rt", encoding="utf-8") as log:
        (home / "events.jsonl").write_text("".join(itertools.islice(log, EVENTS)))
    (home / ".curlrc").write_text('fail\nsilent\nshow-error\nnoproxy = "*"\n')
    return home


def test_what_the_pages_tell_to_type_runs(embedded: BrokerProcess, folder: Path) -> None:
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FRESHET_")}
    environ = {
        **kept,
        "HOME": str(folder),
        "PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "FRESHET_BOOTSTRAP": embedded.bootstrap,
        "FRESHET_METRICS_PORT": "0",
        "FRESHET_GATEWAY_PORT": str(port),
        "FRESHET_BROKER_SESSION_TIMEOUT_S": "2",  # a join to the embedded broker takes half of it
        "FRESHET_BROKER_HEARTBEAT_S": "0.5",
    }
    addresses = {"kafka:9092": embedded.bootstrap, "127.0.0.1:8420": f"127.0.0.1:{port}"}
    front, records, cli = READ
    # Requests want a worker, as the README's is; so its shell is that of the next page as well.
    for lines in (typed(front, records), typed(cli)):
        assert len(lines) >= 3
        code, said = run(script(lines, addresses), folder, environ)
        assert code == 0, said
        assert "Traceback" not in said
    assert re.search(r"^u1\b", (folder / "watch.log").read_text(), re.MULTILINE), "a list came"
    for file in (".zfunc/_freshet", ".config/fish/completions/freshet.fish"):
        assert "freshet" in (folder / file).read_text()
