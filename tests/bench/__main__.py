"""`python -m tests.bench`: every peer in turns on one Apache Kafka, then the latency runs."""

from __future__ import annotations

import argparse
import contextlib
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from stream.errors import BrokerError
from tests.bench import machine, report, streamed
from tests.bench.bench import Bench
from tests.bench.cluster import open_cluster
from tests.bench.latency import SUBJECTS, LatencyRun, Subject
from tests.bench.peers import BUILD, PEERS, Peer
from tests.bench.runner import JobError, Measurement
from tests.bench.workload import Workload
from tests.support import runs
from tests.support.kafka import ApacheKafka


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [*(one.name for one in (*PEERS, *SUBJECTS)), streamed.NAME]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few events, 5 s of latency: a smoke test"
    )
    parser.add_argument(
        "--repeats", type=runs.whole(1), default=3, help="rounds, in turns (default 3)"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="names or their beginnings: " + ", ".join(names)
    )
    parser.add_argument(
        "--rate", type=runs.above_zero, default=1000.0, help="events/s of the latency runs"
    )
    parser.add_argument(
        "--seconds", type=runs.above_zero, help="length of a latency run (default 60)"
    )
    parser.add_argument(
        "--bootstrap", type=runs.bootstrap, help="a running Apache Kafka; default: start one"
    )
    parser.add_argument("--out", type=Path, default=BUILD.parent / "bench.json")
    options = parser.parse_args(arguments)
    for name in options.only or []:
        if not any(known.startswith(name) for known in names):
            parser.error(f"nothing is called {name!r}; there are: {', '.join(names)}")
    return options


@contextlib.contextmanager
def _broker(bootstrap: str | None, folder: Path) -> Iterator[tuple[str, int | None]]:
    if bootstrap:
        yield bootstrap, None
    else:
        print("starting Apache Kafka ...", flush=True)
        with ApacheKafka(folder / "kafka") as broker:
            yield broker.bootstrap, broker.pid


def _run(options: argparse.Namespace, folder: Path) -> int:
    def wanted(name: str) -> bool:
        return not options.only or any(name.startswith(beginning) for beginning in options.only)

    runs.check_file(options.out)
    machine_line = machine.describe_machine()
    print(machine_line, flush=True)
    peers = [peer for peer in PEERS if wanted(peer.name)]
    subjects = [subject for subject in SUBJECTS if wanted(subject.name)]
    for peer in {
        peer.name: peer for peer in [*peers, *(s.peer for s in subjects if s.peer)]
    }.values():
        if why := peer.missing():
            print(f"left out: {peer.title}: {why}", flush=True)
            peers = [other for other in peers if other.name != peer.name]
            subjects = [s for s in subjects if s.peer is None or s.peer.name != peer.name]
    if not (peers or subjects or wanted(streamed.NAME)):
        raise BrokerError("all that was asked for is left out: install what is missing")
    events = max((p.quick_events if options.quick else p.events for p in peers), default=1)
    workload = Workload(events)
    results: dict[str, list[Measurement]] = {peer.name: [] for peer in peers}
    latencies: list[LatencyRun] = []
    compared = None
    with (
        _broker(options.bootstrap, folder) as (bootstrap, broker_pid),
        open_cluster(bootstrap) as cluster,
    ):
        bench = Bench(cluster, broker_pid, folder, options.quick)
        try:
            workload.write_vectors(bench.vectors)
            if peers:
                _throughput_rounds(bench, peers, workload, options.repeats, results)
            latencies += _latency_runs(bench, subjects, options)
            if wanted(streamed.NAME):
                compared = _compared(bench)
        finally:
            cluster.delete(bench.token)
    print()
    if any(results.values()):
        _print_throughput(results, peers, events, options.repeats)
    if latencies:
        print(f"\nLatency, send to receipt by one clock, Poisson {options.rate:,.0f} events/s\n")
        print(report.latency_table(latencies))
    if compared is not None:
        print("\n" + report.STREAMED_DEFINITION + "\n")
        print(report.streamed_table(compared))
    report.write_json(options.out, report.to_json(results, latencies, machine_line, compared))
    print(f"\nwritten to {options.out}")
    return 0


def _print_throughput(
    results: dict[str, list[Measurement]], peers: Sequence[Peer], events: int, repeats: int
) -> None:
    print(report.DEFINITION.format(events=events, repeats=repeats) + "\n")
    print(report.throughput_table(results, peers) + "\n")
    for peer in peers:
        print(f"{peer.title}: {peer.includes}")
    for peer in peers:
        if (measured := results[peer.name]) and measured[-1].stages:
            print("\n" + report.stage_table(peer, measured) + "\n")
    if found := report.ratios(results):
        print("state-only against: " + ", ".join(f"{k} {v:.1f}x" for k, v in found.items()))
    if (more := report.overwriting(results)) is not None:
        print(f"overwriting what is freed: {more:+.0%} CPU an event of the full engine")


def _latency_runs(
    bench: Bench, subjects: Sequence[Subject], options: argparse.Namespace
) -> Iterator[LatencyRun]:
    for subject in subjects:
        print(f"latency: {subject.title} ...", flush=True)
        warm_up_s = 3.0 if options.quick else 10.0
        seconds = options.seconds or (5.0 if options.quick else 60.0)
        try:
            yield bench.latency(subject, options.rate, warm_up_s, seconds)
        except JobError as error:
            print(f"    failed: {error}", flush=True)


def _compared(bench: Bench) -> streamed.StreamedRun | None:
    print("streamed lists beside offline ones ...", flush=True)
    try:
        return streamed.run(bench.cluster, bench.folder, bench.token)
    except streamed.StreamedError as error:
        print(f"    failed: {error}", flush=True)
        return None


def _throughput_rounds(
    bench: Bench,
    peers: Sequence[Peer],
    workload: Workload,
    repeats: int,
    results: dict[str, list[Measurement]],
) -> None:
    source = f"{bench.token}-clicks"
    print(f"producing {workload.events:,} clicks ...", flush=True)
    bench.cluster.create([source])
    workload.preload(bench.cluster.bootstrap, source)
    for turn in range(repeats):
        for peer in peers:
            try:
                measured = bench.throughput(peer, source, workload, check=turn == 0)
            except JobError as error:
                print(f"round {turn + 1}  {peer.title}: failed: {error}", flush=True)
                continue
            results[peer.name].append(measured)
            print(
                f"round {turn + 1}  {peer.title}: {measured.eps:,.0f} events/s, "
                f"{1e6 * measured.cpu_s / measured.events:,.1f} us CPU an event, "
                f"steal {measured.steal_percent:.0f}%, others {measured.others_percent:.0f}%",
                flush=True,
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit codes of `tests.support.runs`, 0 when it is through."""
    options = _arguments(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def run() -> int:
        with tempfile.TemporaryDirectory(prefix="freshet-bench-") as folder:
            return _run(options, Path(folder))

    return runs.told(run, "interrupted; every process ended, every topic deleted")


if __name__ == "__main__":
    raise SystemExit(main())
