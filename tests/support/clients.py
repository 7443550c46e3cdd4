"""Producers of events in other languages: the programs of stream/README.md, and what they run on.

In: the page's blocks of code; Java with the jars of Apache Kafka, Node with the packages that
`packages/` names and locks. Out: the command of each program.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from stream.errors import BrokerError
from tests.support.kafka import ROOT, fetch_jars, java

PAGE = ROOT / "stream" / "README.md"
PACKAGES = ROOT / "tests" / "support" / "packages"
BUILD = ROOT / "build" / "node"
_FETCH_TIMEOUT_S = 300.0


class ToolMissingError(BrokerError):
    """A client cannot run here; the message says what to install."""


def fetch_packages(packages: Path = PACKAGES, build: Path = BUILD) -> Path:
    """Install what `package-lock.json` names, by its sums, unless it is there; nothing of it runs.

    Returns
    -------
    The folder of packages, for NODE_PATH.

    Raises
    ------
    ToolMissingError
        Node or npm is missing, or npm could not fetch them or fetched something else.
    """
    found, stamp = build / "node_modules", build / "packages.sha256"
    files = [packages / "package.json", packages / "package-lock.json"]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise ToolMissingError("Node and npm are not installed (Debian: apt install nodejs npm)")
    build.mkdir(parents=True, exist_ok=True)
    with (build / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once fetch once
        if stamp.is_file() and stamp.read_text() == wanted:
            return found
        stamp.unlink(missing_ok=True)
        for file in files:
            shutil.copy(file, build)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            subprocess.run(
                command, cwd=build, check=True, capture_output=True, timeout=_FETCH_TIMEOUT_S
            )
        except subprocess.TimeoutExpired as error:
            raise ToolMissingError(f"npm did not end in {_FETCH_TIMEOUT_S:g} s") from error
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()[:3]
            raise ToolMissingError("npm could not fetch packages: " + " ".join(said)) from error
        stamp.write_text(wanted)
    return found


def _jdk() -> Path:
    """Return the folder of jars, which have the client and Jackson; a compiler must be there."""
    java()
    if shutil.which("javac") is None:
        raise ToolMissingError("javac is not installed (Debian: apt install default-jdk-headless)")
    return fetch_jars()


def _python() -> Path:
    return Path(sys.executable)


class Client(NamedTuple):
    """How a program of the page runs.

    Attributes
    ----------
    file : what the program is called
    tool : what runs it, as in REQUIRE_...
    fetch : where it finds its packages; raises BrokerError where it cannot run
    """

    file: str
    tool: str
    fetch: Callable[[], Path]


CLIENTS: Final = {
    "java": Client("Produce.java", "JDK", _jdk),
    "node": Client("produce.js", "NODE", fetch_packages),
    "kafka-python": Client("produce.py", "PYTHON", _python),
    "confluent-kafka": Client("produce_confluent.py", "PYTHON", _python),
}


def programs() -> dict[str, str]:
    """Client -> its program, as the page has it."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"<!-- producer: (\S+) -->\n```\w+\n(.*?)```", text, re.DOTALL)
    return dict(found)


def why_missing(name: str) -> str | None:
    """Why this machine cannot run a client, None when it can. Fetches its packages."""
    try:
        CLIENTS[name].fetch()
    except BrokerError as error:
        return str(error)
    return None


def must_run(name: str) -> bool:
    """Whether a client that cannot run is a failure: REQUIRE_JDK=1, REQUIRE_NODE=1."""
    return os.environ.get(f"REQUIRE_{CLIENTS[name].tool}", "") not in ("", "0")


def produce(name: str, folder: Path, bootstrap: str, topic: str, events: list[bytes]) -> None:
    """Send events, JSON without line breaks, by the page's program; it must end well."""
    client = CLIENTS[name]
    program = folder / client.file
    program.write_text(programs()[name], encoding="utf-8")
    packages = client.fetch()
    command = {
        "JDK": [java(), "-XX:TieredStopAtLevel=1", "-cp", f"{packages}/*"],
        "NODE": ["node"],
        "PYTHON": [sys.executable],
    }[client.tool]
    done = subprocess.run(
        [*command, str(program), bootstrap, topic],
        input=b"\n".join(events),
        capture_output=True,
        env={**os.environ, "NODE_PATH": str(packages)},
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
