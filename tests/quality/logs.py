"""Public logs as pairs of files: to train on and to measure with. In: a folder. Out: `Pair`."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stream.errors import UsageError


@dataclass(frozen=True, slots=True)
class Pair:
    """What two commands of `freshet-export` are given.

    Attributes
    ----------
    train, test : files
    train_format, test_format : theirs
    extra : more options of `evaluate`
    targets : what the lists must reach, by metric, in the protocol of the published numbers
    """

    train: Path
    train_format: str
    test: Path
    test_format: str
    extra: tuple[str, ...]
    targets: dict[str, float]


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
    """
    train, test = scratch / "ml-1m-train.txt", scratch / "ml-1m-test.txt"
    with (
        gzip.open(folder / "sequences.txt.gz", "rt", encoding="utf-8") as lines,
        train.open("w", encoding="utf-8") as known,
        test.open("w", encoding="utf-8") as asked,
    ):
        for line in lines:
            *history, last = line.split()
            known.write(" ".join(history) + "\n")
            asked.write(" ".join(history) + "\t" + last + "\n")
    targets = {"recall@10": 0.355, "ndcg@10": 0.212}
    return Pair(train, "histories", test, "prefixes", ("--whole-history",), targets)


PAIRS: dict[str, Callable[[Path, Path], Pair]] = {"diginetica": diginetica, "ml-1m": ml_1m}
