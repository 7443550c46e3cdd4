"""Apache Kafka as a child process: fetched once by Maven, one KRaft process on Java.

    python -m tests.support.kafka --port 9092 --data build/kafka/data     (`make kafka`)

or, in a script, `with ApacheKafka(data=folder) as broker: use(broker.bootstrap)`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from string import Template
from typing import IO

from stream.errors import BrokerError
from stream.kafka.broker import BrokerProcess, free_port
from tests.support.runs import check_folder, told

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy" / "kafka"
BUILD = ROOT / "build" / "kafka"
# 16 bytes in URL-safe base64. Always the same: a cluster is one process with one data folder.
CLUSTER_ID = "ZnJlc2hldC1rYWZrYS0wMQ"
_FETCH_TIMEOUT_S = 900.0
_FORMAT_TIMEOUT_S = 60.0


class KafkaMissingError(BrokerError):
    """Apache Kafka cannot run here; the message says what to install."""


def fetch_jars(pom: Path = CONFIG / "pom.xml", build: Path = BUILD) -> Path:
    """Copy the broker's jars to `build`/lib, unless those of this very pom.xml are there.

    They must be the ones whose SHA-256 stand in `jars.sha256` beside the pom.xml, and no others.

    Returns
    -------
    The folder of jars.

    Raises
    ------
    KafkaMissingError
        Maven is missing, could not fetch them, or fetched something else; or `build` cannot be
        written.
    """
    lib, stamp, sums = build / "lib", build / "pom.sha256", pom.with_name("jars.sha256")
    wanted = hashlib.sha256(pom.read_bytes() + sums.read_bytes()).hexdigest()
    with _lock_of(build) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once fetch once
        if stamp.is_file() and stamp.read_text() == wanted:
            return lib
        maven = shutil.which("mvn")
        if maven is None:
            raise KafkaMissingError(
                "Maven (mvn) is not installed; it fetches Apache Kafka: install it (Debian: maven)"
            )
        stamp.unlink(missing_ok=True)
        shutil.rmtree(lib, ignore_errors=True)
        goal = [
            "dependency:copy-dependencies",
            f"-DoutputDirectory={lib}",
            "-DincludeScope=runtime",
        ]
        command = [maven, "-q", "-B", "-C", "-f", str(pom), *goal]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_FETCH_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise KafkaMissingError(f"Maven did not end in {_FETCH_TIMEOUT_S:g} s") from error
        except subprocess.CalledProcessError as error:
            said = error.stdout.decode(errors="replace").strip().splitlines()[:3]
            raise KafkaMissingError(
                "Maven could not fetch Apache Kafka: " + " ".join(said)
            ) from error
        if other := _other_jars(lib, sums):
            raise KafkaMissingError(
                f"Maven fetched other jars than {sums} names ({', '.join(other[:3])}). After a "
                f"change of {pom.name}: look at them in {lib}, then write their sums anew "
                f"(deploy/kafka/README.md); else somebody has tampered with them"
            )
        stamp.write_text(wanted)
    return lib


def _lock_of(build: Path) -> IO[str]:
    try:
        build.mkdir(parents=True, exist_ok=True)
        return (build / "lock").open("w")
    except OSError as error:
        raise KafkaMissingError(
            f"{build} cannot be written ({error.strerror}), where Apache Kafka's jars are kept: "
            "make it a folder that can be"
        ) from error


def _other_jars(lib: Path, sums: Path) -> list[str]:
    """Names of jars that are missing, too many, or not what `sums` (as of sha256sum) says."""
    lines = sums.read_text(encoding="utf-8").splitlines()
    wanted = {(name, digest) for digest, name in (line.split(maxsplit=1) for line in lines)}
    found = {(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in lib.iterdir()}
    return sorted({name for name, _ in wanted ^ found})


def java() -> str:
    """Return the path of Java, 17 or newer.

    Raises
    ------
    KafkaMissingError
        There is none.
    """
    found = shutil.which("java")
    if found is None:
        raise KafkaMissingError(
            "Java (17 or newer) is not installed; Apache Kafka runs on it: install it (Debian: "
            "default-jre-headless)"
        )
    return found


class ApacheKafka(BrokerProcess):
    """One broker in KRaft mode; `stop` or `kill`, then `start`, goes on with the same data.

    Parameters
    ----------
    data : its data folder, made and formatted when it is new
    port : 0 chooses a free one at the first start and keeps it
    short_lived : no second compilation, which takes half of the CPU of a run of seconds and pays
        off after minutes
    """

    kind = "kafka"
    start_timeout_s = 60.0

    def __init__(self, data: Path, port: int = 0, *, short_lived: bool = False) -> None:
        super().__init__(port, log=data.with_name(data.name + ".log"))
        self.data = data
        self.short_lived = short_lived
        self.controller_port = 0  # chosen at the first start

    def _configuration(self) -> str:
        """Return the text of server.properties, filled in."""
        template = Template((CONFIG / "server.properties").read_text(encoding="utf-8"))
        return template.substitute(
            port=self.port, controller_port=self.controller_port, data=self.data.resolve()
        )

    def _shape(self) -> str:
        """Return what, ports and place apart, decides what formatting writes."""
        return self._configuration()

    def _format_options(self) -> list[str]:
        """Return what else the data folder is formatted with."""
        return []

    def _prepare(self) -> list[str]:
        program = [java(), "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{fetch_jars()}/*"]
        if self.short_lived:
            program.append("-XX:TieredStopAtLevel=1")
        program.append(f"-Dlog4j2.configurationFile={CONFIG / 'log4j2.properties'}")
        while self.controller_port in (0, self.port):
            self.controller_port = free_port()
        properties = self.data.with_name(self.data.name + ".properties")
        properties.parent.mkdir(parents=True, exist_ok=True)
        properties.write_text(self._configuration())
        if not (self.data / "meta.properties").is_file():
            self._format(program, properties)
        return [*program, "kafka.Kafka", str(properties)]

    def _format(self, program: list[str], properties: Path) -> None:
        """Format the data folder, or copy one that was formatted for the like of this broker.

        Formatting takes a Java process of 2 s and, ports and place apart, always writes the same.
        """
        alike = re.sub(
            rf"{self.port}|{self.controller_port}|{re.escape(str(self.data.resolve()))}",
            "",
            self._shape(),
        )
        stamp = (BUILD / "pom.sha256").read_text() + alike
        made = BUILD / "formatted" / hashlib.sha256(stamp.encode()).hexdigest()
        if made.is_dir():
            shutil.copytree(made, self.data, dirs_exist_ok=True)
            return
        command = [*program, "kafka.tools.StorageTool", "format"]
        command += ["--cluster-id", CLUSTER_ID, "--config", str(properties)]
        command += self._format_options()
        done = subprocess.run(command, check=False, capture_output=True, timeout=_FORMAT_TIMEOUT_S)
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise BrokerError(f"Apache Kafka could not format {self.data}: {said}")
        made.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as copy:
            shutil.copytree(self.data, Path(copy) / "data")
            with contextlib.suppress(OSError):  # another run was quicker
                (Path(copy) / "data").rename(made)


def main(arguments: list[str] | None = None) -> int:
    """Run one broker in the foreground until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.kafka", description=main.__doc__)
    parser.add_argument("--port", type=int, default=9092, help="0 takes any free one")
    parser.add_argument("--data", type=Path, default=BUILD / "data", help="kept between runs")
    options = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    return told(lambda: _serve(ApacheKafka(options.data, options.port), ended))


def _serve(broker: ApacheKafka, ended: threading.Event) -> int:
    check_folder(broker.data)
    with broker:
        print(f"Apache Kafka at {broker.bootstrap}, data in {broker.data}; Ctrl-C ends it")
        sys.stdout.flush()
        while not ended.wait(0.2):
            if broker.pid is None:
                raise BrokerError(f"Apache Kafka ended by itself:\n{broker.log_tail()}")
        with contextlib.suppress(BrokenPipeError):
            print("ending Apache Kafka", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
