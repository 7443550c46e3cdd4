"""`make fuzz`: hostile records by the million. In: how many, a seed. Out: tables, build/fuzz.json.

    make fuzz [RECORDS=1000000] [SEED=20261125] [ARGS="--live 50000 --bomb-mib 1024"]

RECORDS go through decode, engine and catalogue feed in this process; `--live` more through a
worker on Apache Kafka (0 leaves that out), with bombs that unpack to so many MiB. Exit code 0: all
is right; 1: something is wrong, or Apache Kafka cannot run here; 2: a wrong option, or a place that
cannot be written; 130: Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from stream.errors import BrokerError
from tests.fuzz.inside import Inside
from tests.fuzz.live import Live, Session
from tests.fuzz.records import TOPICS, Records
from tests.fuzz.speed import Speed, speeds, table, too_slow
from tests.support.brokers import start_broker, why_missing
from tests.support.runs import check_file, told

ROOT = Path(__file__).parents[2]
AT_ONCE = 1024
SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--live", type=int, default=50_000)
    parser.add_argument("--bomb-mib", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fuzz.json")
    given = parser.parse_args(arguments)
    if given.records < 1 or given.live < 0 or given.bomb_mib < 1:
        parser.error("--records and --bomb-mib are above 0, --live is not below")
    return told(lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    check_file(given.out)
    if given.live and (missing := why_missing("kafka")):  # told before the rest takes its minutes
        raise BrokerError(f"{missing}; --live 0 does without")
    folder = given.out.parent / "fuzz"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"seed {given.seed}", flush=True)
    wrong: list[str] = []
    inside, took_s = run_inside(folder, given.seed, given.records)
    print("\n".join(counts(inside)), flush=True)
    print(f"in process: {sum(inside.made.values()):,} records in {took_s:.0f} s", flush=True)
    wrong += inside.wrong
    found = speeds(folder, given.seed)
    print("\n".join(table(found)), flush=True)
    wrong += [f"too slow: {slow}" for slow in too_slow(found)]
    live = None
    if given.live:
        live = run_live(folder, given.seed, given.live, given.bomb_mib << 20)
        print("\n".join(live_lines(live)), flush=True)
        wrong += live.wrong
    for line in wrong[:SHOWN]:
        print(f"wrong: {line}")
    print(f"{len(wrong)} things are wrong")
    given.out.write_text(
        json.dumps(summary(given.seed, inside, found, live, wrong), indent=2) + "\n"
    )
    return 1 if wrong else 0


def run_inside(folder: Path, seed: int, records: int) -> tuple[Inside, float]:
    """All topics in turn; the seconds that it took, with drawing, judging and comparing."""
    source, inside = Records(seed), Inside(folder)
    started = time.monotonic()
    with tqdm(total=records, unit=" records", disable=not sys.stderr.isatty()) as bar:
        left = records
        while left > 0:
            for topic in TOPICS:
                count = min(AT_ONCE, left)
                if count:
                    inside.put(topic, [source.draw(topic) for _ in range(count)])
                left -= count
                bar.update(count)
    return inside, time.monotonic() - started


def run_live(folder: Path, seed: int, records: int, bomb_bytes: int) -> Live:
    with start_broker("kafka", folder / "broker") as broker:
        return Session(broker.bootstrap, "fuzz", folder / "live", seed).run(records, bomb_bytes)


def _rows(title: str, count: Counter[tuple[str, str]]) -> list[str]:
    """A row for each second part of the keys, a column for each topic."""
    names = sorted(
        {name for _, name in count}, key=lambda n: (-sum(count[t, n] for t in TOPICS), n)
    )
    lines = ["", f"| {title} | {' | '.join(TOPICS)} | all |", "|---" * (len(TOPICS) + 2) + "|"]
    for name in [*names, "all"]:
        cells = [
            sum(number for (t, n), number in count.items() if t == topic and name in ("all", n))
            for topic in TOPICS
        ]
        lines.append(f"| {name} | {' | '.join(f'{n:,}' for n in cells)} | {sum(cells):,} |")
    return lines


def counts(inside: Inside) -> list[str]:
    """Tables by how records were made, by verdict and by reason."""
    verdicts: Counter[tuple[str, str]] = Counter()
    verdicts.update({(topic, verdict): n for (topic, verdict), n in inside.verdicts.items()})
    return [
        *_rows("made", inside.made),
        *_rows("judged", verdicts),
        *_rows("dead letter", inside.reasons),
        "",
    ]


def live_lines(live: Live) -> list[str]:
    sent = Counter(at.topic for at in live.sent)
    refused: Counter[str] = Counter()
    for (topic, _), number in live.refused.items():
        refused[topic] += number
    return [
        *_rows("dead letter, live", live.reasons),
        "",
        f"live: sent {dict(sent)}, {len(live.unreadable)} batches that cannot be read, refused by "
        f"the broker {dict(refused)}",
        f"live: {live.letters:,} letters, {live.good:,} good events in the states of "
        f"{live.users:,} users, {live.took_s:.0f} s",
        f"live: the worker took {live.memory_mib:.0f} MiB at most, {live.grown_mib:.0f} of them "
        f"since it was ready",
    ]


def summary(
    seed: int, inside: Inside, found: list[Speed], live: Live | None, wrong: list[str]
) -> dict[str, object]:
    good = {speed.topic: speed for speed in found if speed.kind == "good"}
    return {
        "seed": seed,
        "records": sum(inside.made.values()),
        "letters": sum(inside.reasons.values()),
        "reasons": {f"{topic}: {reason}": n for (topic, reason), n in inside.reasons.items()},
        "slowest": min(speed.share_of(good[speed.topic]) for speed in found),
        "live_records": len(live.sent) if live else 0,
        "live_letters": live.letters if live else 0,
        "live_memory_mib": live.memory_mib if live else 0,
        "wrong": wrong,
    }


if __name__ == "__main__":
    raise SystemExit(main())
