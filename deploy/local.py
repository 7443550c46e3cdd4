"""The Compose file's processes without containers: Kafka, topics, workers, gateway, Prometheus.

    python -m deploy.local                                 (`make local`)
    python -m deploy.local --workers 2 --port 9092 --bundle build/bundle

In: compose/compose.yaml, its freshet.toml and prometheus.yml, which say what runs with which
settings, in which order, and what is started again. Out: the same processes on 127.0.0.1, until
Ctrl-C or SIGTERM. Only what a container gives is replaced: addresses, ports, and mounted folders.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from stream.errors import BrokerError, FreshetError, UsageError
from stream.kafka.broker import HOST, free_port
from tests.support.kafka import ApacheKafka

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
_LOOK_EVERY_S = 0.2
_RESTART_AFTER_S = 1.0
_IMAGE = {
    "PYTHONUNBUFFERED": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}  # what the image's ENV says besides
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}

Service = Mapping[str, Any]


def services() -> dict[str, Service]:
    """What the Compose file runs, by name."""
    read: dict[str, Service] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return read


def properties(service: Service) -> dict[str, str]:
    """A broker's properties from the variables of Kafka's image: KAFKA_NODE_ID is node.id."""
    return {
        re.sub("^kafka_", "", name.lower()).replace("_", "."): str(value)
        for name, value in service["environment"].items()
    }


def seconds(duration: str) -> float:
    """A duration of the Compose file, such as 90s."""
    return float(duration[:-1]) * _UNITS_S[duration[-1]]


class ComposedKafka(ApacheKafka):
    """The Compose file's broker. Its address for the host is `port`, that of containers another."""

    def __init__(self, service: Service, data: Path, port: int) -> None:
        super().__init__(data, port)
        self.service = service
        self.inside_port = free_port()

    def local(self, text: str) -> str:
        """`text` with the Compose file's addresses replaced by those of this machine."""
        ports = {"9092": self.port, "29092": self.inside_port, "9093": self.controller_port}
        return re.sub(
            r"(//|\b)(127\.0\.0\.1|localhost|kafka)?:(9092|29092|9093)\b",
            lambda found: f"{found[1]}{HOST}:{ports[found[3]]}",
            text,
        )

    def _configuration(self) -> str:
        given = {name: self.local(value) for name, value in properties(self.service).items()}
        given["log.dirs"] = str(self.data.resolve())
        return "".join(f"{name}={value}\n" for name, value in given.items())

    def _shape(self) -> str:
        return self._configuration().replace(str(self.inside_port), "")


def mounts(service: Service) -> dict[str, Path]:
    """What a service's container sees, by its path there: files and folders of this checkout."""
    mounted = {}
    for volume in service["volumes"]:
        source, target = re.sub(r"\$\{BUNDLE:-(.+?)\}", r"\1", volume).split(":")[:2]
        mounted[target] = (COMPOSE.parent / source).resolve()
    return mounted


def environment(service: Service, kafka: ComposedKafka, bundle: Path | None) -> dict[str, str]:
    """What a service of Freshet's image finds in its environment, in words of this machine."""
    mounted = mounts(service)
    if bundle is not None:
        mounted["/srv/freshet/bundle"] = bundle.resolve()
    given = {
        "FRESHET_PROVIDER": service["build"]["args"]["PROVIDER"],  # as the image has it
        **{name: str(value) for name, value in service["environment"].items()},
        "FRESHET_METRICS_HOST": HOST,
        "FRESHET_GATEWAY_HOST": HOST,
    }
    of_others = {k: v for k, v in os.environ.items() if not k.startswith("FRESHET_")}
    told = {k: str(mounted.get(v, kafka.local(v))) for k, v in given.items()}
    return {**of_others, **told, "PYTHONPATH": str(ROOT), **_IMAGE}


class Process:
    """A service's process: started, started again when it ends, ended in order."""

    def __init__(
        self, name: str, service: Service, command: list[str], environ: Mapping[str, str]
    ) -> None:
        self.name = name
        self._again = service.get("restart") == "unless-stopped"
        self._grace_s = seconds(service.get("stop_grace_period", "10s"))
        self._command, self._environ = command, environ
        self._ended_s = 0.0
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        # A group of its own: Ctrl-C reaches this script alone, which ends things in order.
        return subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            env=dict(self._environ),
            cwd="/",
            start_new_session=True,
        )

    def look(self) -> None:
        """Start it again if it ended, as the Compose file says; else say that it did."""
        if (code := self._process.poll()) is None:
            return
        if not self._again:
            raise BrokerError(f"{self.name} ended with code {code}")
        if not self._ended_s:
            print(f"{self.name} ended with code {code}; it starts again", flush=True)
            self._ended_s = time.monotonic()
        elif time.monotonic() - self._ended_s > _RESTART_AFTER_S:
            self._ended_s = 0.0
            self._process = self._start()

    def end(self) -> None:
        """SIGTERM, and SIGKILL when the time of grace is over."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._grace_s)
        self._process.kill()
        self._process.wait()


def prometheus(
    service: Service, ports: Mapping[str, list[int]], folder: Path, port: int | None = None
) -> Process | None:
    """Prometheus over these jobs, if this machine has it; its port is the Compose file's."""
    program = shutil.which("prometheus")
    if program is None:
        print("prometheus is not installed, so it is left out", flush=True)
        return None
    config = yaml.safe_load((COMPOSE.parent / "prometheus.yml").read_text(encoding="utf-8"))
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"]
        targets = [f"{HOST}:{target}" for target in ports[job["job_name"]]]
        job["static_configs"] = [{"targets": targets}]
    mounted = mounts(service)
    config["rule_files"] = [str(mounted[path]) for path in config["rule_files"]]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    mounted |= {"/etc/prometheus/prometheus.yml": file, "/prometheus": folder / "prometheus"}
    flags = [flag.split("=") for flag in service["command"]]
    command = [program, *(f"{name}={mounted[path]}" for name, path in flags)]
    (published,) = service["ports"]
    address = published.rsplit(":", 1)[0] if port is None else f"{HOST}:{port}"
    return Process("prometheus", service, [*command, f"--web.listen-address={address}"], os.environ)


def ready(port: int) -> bool:
    """Whether the worker or gateway whose endpoints are on `port` serves."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=4) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@contextlib.contextmanager
def running(
    options: argparse.Namespace, stopped: Callable[[], bool]
) -> Iterator[tuple[ComposedKafka, list[Process], list[int]]]:
    """Start everything in the order that `depends_on` asks for, and end it in the other."""
    composed = services()
    options.data.mkdir(parents=True, exist_ok=True)
    kafka = ComposedKafka(composed["kafka"], options.data / "kafka", options.port)
    with contextlib.ExitStack() as ends:
        ends.enter_context(kafka)
        command = [sys.executable, "-m", "stream.cli"]
        topics, worker = composed["topics"], composed["worker"]
        environ = environment(topics, kafka, options.bundle)
        if code := subprocess.run(
            [*command, *topics["command"]], env=environ, cwd="/", check=False
        ).returncode:
            raise BrokerError(f"topics ended with code {code}")
        ports = [options.metrics_port + number for number in range(options.workers)]
        processes = []
        for number, port in enumerate(ports):
            if stopped():
                break
            environ = environment(worker, kafka, options.bundle)
            environ["FRESHET_METRICS_PORT"] = str(port)
            name = f"worker {number + 1}"
            process = Process(name, worker, [*command, *worker["command"]], environ)
            ends.callback(process.end)
            processes.append(process)
        if not stopped():
            environ = environment(composed["gateway"], kafka, options.bundle)
            environ["FRESHET_GATEWAY_PORT"] = str(options.gateway_port)
            gateway = composed["gateway"]
            process = Process("gateway", gateway, [*command, *gateway["command"]], environ)
            ends.callback(process.end)
            processes.append(process)
        jobs = {"freshet": ports, "freshet-gateway": [options.gateway_port]}
        watcher = prometheus(composed["prometheus"], jobs, options.data, options.prometheus_port)
        if watcher is not None:
            ends.callback(watcher.end)
            processes.append(watcher)
        yield kafka, processes, ports


def main(arguments: list[str] | None = None) -> int:
    """Run the Compose file's processes on this machine until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=main.__doc__)
    parser.add_argument("--workers", type=int, default=1, help="how many share the partitions")
    parser.add_argument("--port", type=int, default=9092, help="Kafka's; 0 takes any free one")
    parser.add_argument("--metrics-port", type=int, default=9464, help="of the first worker")
    parser.add_argument("--gateway-port", type=int, default=8420)
    parser.add_argument("--prometheus-port", type=int, help="where one is installed (9090)")
    parser.add_argument("--bundle", type=Path, help="a bundle's folder (default: the demo's)")
    parser.add_argument(
        "--data", type=Path, default=ROOT / "build" / "local", help="kept between runs"
    )
    options = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        if options.workers < 1:
            raise UsageError("--workers: at least one")
        with running(options, ended.is_set) as (kafka, processes, ports):
            told = False
            while not ended.wait(_LOOK_EVERY_S):
                if kafka.pid is None:
                    raise BrokerError(f"Apache Kafka ended by itself:\n{kafka.log_tail()}")
                for process in processes:
                    process.look()
                if not told and all(map(ready, [*ports, options.gateway_port])):
                    told = True
                    where = ", ".join(f"http://{HOST}:{port}/metrics" for port in ports)
                    front = f"http://{HOST}:{options.gateway_port}"
                    print(
                        f"ready: Kafka at {kafka.bootstrap}, {where}, gateway at {front}; Ctrl-C "
                        f"ends all",
                        flush=True,
                    )
            print("ending", flush=True)
    except FreshetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
