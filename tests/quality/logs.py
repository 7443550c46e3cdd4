"""Public logs as what is trained on and what is measured with. In: a folder. Out: `Pair`."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from export.data.cleaning import cleaned_at
from export.data.dataset import Log, read_log
from stream.errors import UsageError

NEWEST = 0.2  # of the lines of REES46's sample, which are measured on


@dataclass(frozen=True, slots=True)
class Pair:
    """What `freshet-export train` is given, and what its bundle is measured on.

    Attributes
    ----------
    train, test : files; `test` holds the events of `train` too where `since_ms` is given
    train_format, test_format : theirs
    extra : more options of `evaluate`
    targets : what the lists must reach, by metric, in the protocol of the published numbers
    since_ms : measure on the orders of `test` from this moment on; None: on the cases of `test`
    models : that are trained
    """

    train: Path
    train_format: str
    test: Path
    test_format: str
    extra: tuple[str, ...]
    targets: dict[str, float]
    since_ms: int | None = None
    models: tuple[str, ...] = ("cooccurrence", "decay", "mf", "glr")

    def log(self, since_ms: int) -> Log:
        """The whole log: what lies before a moment is clean as `train` was given it."""
        return cleaned_at(read_log(self.test, self.test_format), since_ms)


def diginetica(folder: Path, scratch: Path) -> Pair:
    """Sessions, and prefixes of later ones: the split of SR-GNN (Wu et al. 2019)."""
    return sessions(folder, {"recall@20": 0.570, "mrr@20": 0.205})


def sessions(folder: Path, targets: dict[str, float]) -> Pair:
    """Any folder with files in the form of Diginetica's."""
    train, test = folder / "train_sessions.txt.gz", folder / "test_prefixes.txt.gz"
    for file in (train, test):
        if not file.is_file():
            raise UsageError(f"{file}: missing; give a folder with both files")
    return Pair(train, "sessions", test, "prefixes", (), targets)


def ml_1m(folder: Path, scratch: Path) -> Pair:
    """Leave-one-out: the last item of each user is the target, the others are trained on.

    As in SASRec (Kang and McAuley 2018), all items that the user has seen are left out.
    Published models train without the item before the last, which is their validation; here the
    command validates on the newest events of what it is given, and then trains on all of that.
    Both files are `histories`, so that times are made up for the test as they were for training: a
    network that learned what an hour means is asked after hours.
    """
    train, test = scratch / "ml-1m-train.txt", scratch / "ml-1m-test.txt"
    with (
        gzip.open(folder / "sequences.txt.gz", "rt", encoding="utf-8") as lines,
        train.open("w", encoding="utf-8") as known,
        test.open("w", encoding="utf-8") as asked,
    ):
        for line in lines:
            *history, _ = line.split()
            known.write(" ".join(history) + "\n")
            asked.write(line)
    targets = {"recall@10": 0.355, "ndcg@10": 0.212}
    return Pair(train, "histories", test, "histories", ("--whole-history",), targets)


def online_retail(folder: Path, scratch: Path) -> Pair:
    """The orders of November and December 2011, trained on what came before them."""
    since = datetime(2011, 11, 1, tzinfo=UTC)
    return _by_time(folder / "online_retail.csv.gz", "online-retail", "InvoiceDate", since, scratch)


def rees46_sample(folder: Path, scratch: Path) -> Pair:
    """The visits of the newest fifth of the sample's lines, trained on what came before them."""
    file = folder / "2019-Oct.csv.gz"
    with gzip.open(file, "rt", encoding="utf-8", newline="") as lines:
        times = [line["event_time"] for line in csv.DictReader(lines)]
    since = _moment(times[int(len(times) * (1 - NEWEST))])
    return _by_time(file, "rees46", "event_time", since, scratch)


def _by_time(file: Path, name: str, column: str, since: datetime, scratch: Path) -> Pair:
    """Of a CSV file in time order: what is before a moment is trained on."""
    train = scratch / f"{name}-train.csv"
    with (
        gzip.open(file, "rt", encoding="utf-8", newline="") as lines,
        train.open("w", encoding="utf-8", newline="") as older,
    ):
        rows = csv.reader(lines)
        header = next(rows)
        csv.writer(older).writerows([header, *_before(rows, header.index(column), since)])
    models = ("cooccurrence", "decay", "mf", "content", "glr")
    return Pair(train, name, file, name, (), {}, int(since.timestamp() * 1000), models)


def _before(rows: Iterator[list[str]], column: int, since: datetime) -> list[list[str]]:
    every = list(rows)
    newer = [_moment(row[column]) >= since for row in every]
    if newer != sorted(newer):
        raise UsageError("the log is not in time order, so it cannot be cut at a moment")
    return every[: newer.index(True)]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix(" UTC")).replace(tzinfo=UTC)


PAIRS: dict[str, Callable[[Path, Path], Pair]] = {
    "diginetica": diginetica,
    "ml-1m": ml_1m,
    "online-retail": online_retail,
    "rees46-sample": rees46_sample,
}
