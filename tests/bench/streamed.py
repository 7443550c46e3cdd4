"""Streamed equals offline: a test split through a worker, and the offline evaluation of it.

In: the benchmark's broker. Out: how many lists were compared, and in how many places they differ.
Everything is that of `tests/support/streamed.py`, which tests use as well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from stream.core.policy.placement import LeavesOut
from tests.bench.cluster import Cluster
from tests.support.freshet import Freshet
from tests.support.streamed import Compared, case_of, compare, streamed

NAME = "streamed"  # for --only and build/bench.json
MODEL = "mf"  # trains in seconds, without PyTorch
PARAMETERS = {"dim": 32}


class StreamedError(Exception):
    """A list did not come, or a command failed; the message says what."""


@dataclass(frozen=True)
class StreamedRun:
    """What was compared, and how long training, both replays and the comparison took."""

    model: str
    compared: Compared
    seconds: float


def run(cluster: Cluster, folder: Path, unique: str) -> StreamedRun:
    """Train on a toy shop's older events, send the newest users' one by one, compare every list.

    Parameters
    ----------
    unique : in the names of its topics, which are deleted at the end

    Raises
    ------
    StreamedError
        The lists could not be compared.
    """
    started = time.monotonic()
    scratch = folder / NAME
    scratch.mkdir()
    freshet = Freshet(cluster.bootstrap, unique)
    try:
        case = case_of(MODEL, LeavesOut(seen=True, bought=True), PARAMETERS, scratch)
        compared = compare(case.expected, streamed(freshet, case))
    except AssertionError as error:
        raise StreamedError(str(error)) from error
    finally:
        for name in (*freshet.topic.values(), freshet.environ["FRESHET_GROUP"]):
            cluster.delete(name)
    return StreamedRun(MODEL, compared, time.monotonic() - started)
