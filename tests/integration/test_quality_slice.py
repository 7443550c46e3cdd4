"""Three months of a real shop: the models without PyTorch reach what they are known to reach.

`make quality DATA=online-retail` is the whole of it; bounds here are 5% below what was seen.
"""

from __future__ import annotations

import csv
import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from export.data.dataset import Log, read_log
from export.measuring.exclusions import REPEATS
from export.measuring.measure import Measured, measure_model
from export.measuring.questions import Questions, baskets
from export.models import train
from export.training.train import loaded
from tests.support.data import needed

BEGIN, UNTIL = "2011-08-01", "2011-10-22"
SINCE_MS = int(datetime(2011, 10, 8, tzinfo=UTC).timestamp() * 1000)

# What is built in minutes, not in a quarter of an hour.
PARAMETERS = {"mf": {"dim": 64, "sweeps": 4}}
# recall@20 and ndcg@20 of the next basket, then of the rest of a basket.
FLOORS = {
    "cooccurrence": (0.193, 0.190, 0.185, 0.167),
    "decay": (0.147, 0.172, 0.153, 0.128),
    "mf": (0.193, 0.211, 0.168, 0.146),
}

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("quality_slice")]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    whole = needed("online-retail/online_retail.csv.gz")
    part: Path = tmp_path_factory.mktemp("slice") / "slice.csv"
    with (
        gzip.open(whole, "rt", encoding="utf-8", newline="") as lines,
        part.open("w", encoding="utf-8", newline="") as kept,
    ):
        rows = csv.reader(lines)
        header = next(rows)
        day, customer = header.index("InvoiceDate"), header.index("CustomerID")
        within = (row for row in rows if BEGIN <= row[day] < UNTIL and row[customer])
        csv.writer(kept).writerows([header, *within])
    return read_log(part, "online-retail")


@pytest.fixture(scope="module")
def measured(log: Log) -> dict[str, dict[str, Measured]]:
    """By model, then by moment."""
    older, asked = log.before(SINCE_MS), baskets(log, SINCE_MS)
    found: dict[str, dict[str, Measured]] = {}
    for name in FLOORS:
        with loaded(train(name, older, **PARAMETERS.get(name, {}))) as served:
            found[name] = {
                moment: measure_model(
                    served,
                    Questions(
                        log, asked.histories, [q for q in asked.queries if q.moment == moment]
                    ),
                    [20],
                    rules=REPEATS,
                )
                for moment in ("next_basket", "rest_of_basket")
            }
    return found


@pytest.mark.parametrize("name", FLOORS)
def test_lists_are_worth_what_they_were(
    name: str, measured: dict[str, dict[str, Measured]]
) -> None:
    found = tuple(
        of.metrics[metric] for of in measured[name].values() for metric in ("recall@20", "ndcg@20")
    )
    assert all(value >= floor for value, floor in zip(found, FLOORS[name], strict=True)), found


def test_factors_are_ahead_of_the_baseline_before_an_order(
    measured: dict[str, dict[str, Measured]],
) -> None:
    ahead = measured["mf"]["next_basket"].against(measured["cooccurrence"]["next_basket"])
    assert ahead["ndcg@20"]["low"] > 0


def test_the_baseline_is_ahead_of_popularity(
    log: Log, measured: dict[str, dict[str, Measured]]
) -> None:
    older, asked = log.before(SINCE_MS), baskets(log, SINCE_MS)
    with loaded(train("cooccurrence", older, last=1, neighbours=1, beta=1e-9)) as served:
        popular = measure_model(served, asked, [20], rules=REPEATS)
    for of in measured["cooccurrence"].values():
        assert of.metrics["ndcg@20"] > 1.5 * popular.metrics["ndcg@20"]
