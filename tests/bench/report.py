"""Tables for people and build/bench.json for programs, from what the runs measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.latency import LatencyRun
from tests.bench.latency_client import Percentiles
from tests.bench.peers import Peer
from tests.bench.runner import Measurement
from tests.bench.stages import Stages, work
from tests.bench.streamed import NAME as STREAMED
from tests.bench.streamed import StreamedRun

DEFINITION = """\
One broker, one source topic of {events:,} clicks in 4 partitions, produced before.
Rounds, in turns: {repeats}; medians.
Included: fetch, JSON decode, state = state * 0.9 + item vector (64 float32), one changelog
record per changed state, one 200 B output per event, all acknowledged by the broker.
Not included: start-up, the producer of the clicks.
Clock: outside the job and the same for all, from the first progress that the broker shows to
the last event's (outputs readable as committed, or source offsets committed after them).
CPU: the job's process in that time, and per event. RSS: the peak of the whole run.
Broker, job and watcher share the cores; steal is what the host took, others what other
processes of this machine took, in percent of all cores."""

STREAMED_DEFINITION = """\
Streamed equals offline: a toy shop's newest day, sent event by event; every list that the worker
publishes beside the one that the evaluation of the same bundle makes, place by place."""


def _median(runs: Sequence[Measurement], what: str) -> float:
    return float(statistics.median(getattr(run, what) for run in runs))


def _row(cells: Sequence[object], widths: Sequence[int]) -> str:
    first, *rest = (str(cell) for cell in cells)
    right = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
    return "  ".join([first.ljust(widths[0]), *right])


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    widths = [max(len(str(row[at])) for row in [head, *rows]) for at in range(len(head))]
    return "\n".join(
        [_row(head, widths), "-" * (sum(widths) + 2 * len(widths) - 2)]
        + [_row(row, widths) for row in rows]
    )


def throughput_table(results: Mapping[str, Sequence[Measurement]], peers: Sequence[Peer]) -> str:
    """One line a peer, medians; the spread of the rate beside it."""
    head = [
        "",
        "events/s",
        "min..max",
        "CPU s",
        "us/event",
        "broker CPU s",
        "RSS MiB",
        "steal %",
        "others %",
        "events",
    ]
    rows = []
    for peer in peers:
        if not (runs := results.get(peer.name)):
            continue
        rates = [run.eps for run in runs]
        cpu_us = statistics.median(run.cpu_s / run.events * 1e6 for run in runs)
        rows.append(
            [
                peer.title,
                f"{statistics.median(rates):,.0f}",
                f"{min(rates):,.0f}..{max(rates):,.0f}",
                f"{_median(runs, 'cpu_s'):.1f}",
                f"{cpu_us:.1f}",
                f"{_median(runs, 'broker_cpu_s'):.1f}",
                f"{_median(runs, 'peak_rss_mib'):.0f}",
                f"{_median(runs, 'steal_percent'):.1f}",
                f"{_median(runs, 'others_percent'):.1f}",
                f"{runs[0].asked:,}",
            ]
        )
    return _table(head, rows)


def _percentile_cells(values: Percentiles) -> list[str]:
    return [f"{value:.1f}" for value in (values.p50, values.p90, values.p99, values.max)]


def _stage_lines(stages: Stages) -> list[str]:
    """Mean of a micro-batch in each stage, and its share of all."""
    working = work(stages)
    whole = sum(stage.seconds for stage in working.values()) or 1.0
    return [
        f"stage {name}: {1000.0 * stage.seconds / stage.batches:.2f} ms a batch, "
        f"{stage.seconds / whole:.0%} of the stages' time"
        for name, stage in working.items()
    ]


def stage_table(peer: Peer, runs: Sequence[Measurement]) -> str:
    """Where a throughput run's time went, by the engine's own histograms; of the last round.

    Publishing is waiting for the broker, several batches at a time; the others are work.
    """
    last = runs[-1]
    rows = [
        [
            f"    {name}",
            f"{1e6 * stage.seconds / last.asked:.1f}",
            f"{1000.0 * stage.seconds / stage.batches:.1f}",
        ]
        for name, stage in work(last.stages).items()
    ]
    return _table([f"{peer.title}, stages", "us/event", "ms/batch"], rows)


def latency_table(runs: Sequence[LatencyRun]) -> str:
    """One line a run, and one for each part of the way below it."""
    head = [
        "milliseconds",
        "p50",
        "p90",
        "p99",
        "max",
        "answered",
        "late p99",
        "steal %",
        "others %",
    ]
    rows: list[list[str]] = []
    for run in runs:
        result = run.result
        rows.append(
            [
                run.subject.title,
                *_percentile_cells(result.send_to_receipt),
                f"{result.answered:,}/{result.sent:,}",
                f"{result.lateness.p99:.1f}",
                f"{run.steal_percent:.1f}",
                f"{run.others_percent:.1f}",
            ]
        )
        if len(result.parts) > 1:
            for name, part in result.parts.items():
                rows.append([f"    {name}", *_percentile_cells(part), *[""] * 4])
    lines = [f"{run.subject.title}, {line}" for run in runs for line in _stage_lines(run.stages)]
    return "\n".join([_table(head, rows), "", *lines])


def streamed_table(run: StreamedRun) -> str:
    """One line: what was compared, and what differs."""
    found = run.compared
    head = ["", "users", "events", "lists", "places", "that differ", "max score difference", "s"]
    cells = [f"{n:,}" for n in (found.users, found.events, found.lists, found.places)]
    row = [run.model, *cells]
    row += [
        f"{found.places_differing:,}",
        f"{found.max_score_difference:.1e}",
        f"{run.seconds:.0f}",
    ]
    return _table(head, [row])


def ratios(results: Mapping[str, Sequence[Measurement]]) -> dict[str, float]:
    """How many times each peer's events/s the state-only engine does."""
    if not (ours := results.get("state_only")):
        return {}
    rate = _median(ours, "eps")
    return {
        name: round(rate / _median(results[name], "eps"), 2)
        for name in ("plain_faust", "confluent_loop", "kafka_streams")
        if results.get(name)
    }


def overwriting(results: Mapping[str, Sequence[Measurement]]) -> float | None:
    """How much more CPU an event takes where freed memory is overwritten: 0.1 is a tenth more.

    The full engine and the same one overwriting, in one run's rounds; None without both.
    """
    cpu_s = {
        name: statistics.median(run.cpu_s / run.events for run in runs)
        for name in ("full", "full_overwriting")
        if (runs := results.get(name))
    }
    if len(cpu_s) < 2:
        return None
    return cpu_s["full_overwriting"] / cpu_s["full"] - 1


_KEYS = {
    "plain_faust": "plain_faust_eps",
    "kafka_streams": "kafka_streams_eos_eps",
    "confluent_loop": "confluent_loop_eps",
    "state_only": "state_only_eps",
    "user_state": "user_state_eps",
    "full": "full_eps",
    "full_overwriting": "full_overwriting_eps",
    "full_policy": "full_policy_eps",
}


def to_json(
    results: Mapping[str, Sequence[Measurement]],
    runs: Sequence[LatencyRun],
    machine: str,
    streamed: StreamedRun | None = None,
) -> dict[str, Any]:
    """Everything measured, under the names that other programs read; what did not run is absent."""
    out: dict[str, Any] = {"machine": machine}
    for name, key in _KEYS.items():
        if measured := results.get(name):
            out[key] = round(_median(measured, "eps"), 1)
            out[key.replace("_eps", "_runs")] = [
                {**msgspec.to_builtins(run), "eps": round(run.eps, 1)} for run in measured
            ]
    if found := ratios(results):
        out["state_only_ratio"] = found
    if (more := overwriting(results)) is not None:
        out["overwriting_more_cpu"] = round(more, 3)
    for run in runs:
        values: dict[str, Any] = msgspec.to_builtins(run.result.send_to_receipt)
        values["parts"] = msgspec.to_builtins(run.result.parts)
        values["steal_percent"] = run.steal_percent
        values["others_percent"] = run.others_percent
        if run.stages:
            values["stages"] = {name: stage._asdict() for name, stage in run.stages.items()}
        out[run.subject.key] = values
    if streamed is not None:
        found = msgspec.to_builtins(streamed.compared)
        del found["told"]  # each list that differs, in full
        out[STREAMED] = {"model": streamed.model, **found, "seconds": round(streamed.seconds, 1)}
    steals = [run.steal_percent for measured in results.values() for run in measured]
    steals += [run.steal_percent for run in runs]
    if steals:
        out["steal_percent"] = round(statistics.mean(steals), 2)
    return out


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write build/bench.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
