"""Some thousand visits of a real shop: the network is ahead of the baseline.

`make quality DATA=diginetica` is the whole of it.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from export.data.cleaning import Rules, clean
from export.data.dataset import read_log
from export.models.base import Run
from export.training.sides import Sides, hold_out
from export.training.train import Tried, attempt
from tests.support.data import needed

SESSIONS = 20_000  # the newest
LEAST_EVENTS = 8  # of an item: a log as short as this tells a network little of rarer ones
PARAMETERS = {"dim": 64, "state": 64, "hidden": 128, "batch": 640, "epochs": 8}
FLOOR = (0.72, 0.40)  # recall@20 and ndcg@20; .743 and .425 were seen, the baseline's .711 and .395

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    part: Path = tmp_path_factory.mktemp("slice") / "sessions.txt"
    whole = needed("diginetica/train_sessions.txt.gz")
    with gzip.open(whole, "rt", encoding="utf-8") as lines:
        part.write_text("".join(lines.readlines()[-SESSIONS:]), encoding="utf-8")
    rules = Rules(min_count=LEAST_EVENTS, min_user_events=2)
    held = hold_out(clean(read_log(part, "sessions"), rules)[0])
    assert held is not None
    return held


def test_the_network_is_ahead_of_the_baseline(sides: Sides) -> None:
    def tried(name: str, **parameters: object) -> Tried:
        return attempt(name, sides, parameters, Run(device="cpu"), lambda message: None)

    learned = set(sides.log.user[sides.held_out.asked].tolist())
    asked = [sides.asked.histories[query.user][0] for query in sides.asked.queries]
    assert not learned & set(sides.log.user[asked].tolist())  # it is ahead on what it never saw
    baseline, network = tried("cooccurrence"), tried("glr", **PARAMETERS)
    found = tuple(network.measured.metrics[name] for name in ("recall@20", "ndcg@20"))
    assert network.measured.against(baseline.measured)["ndcg@20"]["low"] > 0
    assert all(value >= floor for value, floor in zip(found, FLOOR, strict=True)), found
