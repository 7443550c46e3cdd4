"""Metrics are those of another library of the field."""

from __future__ import annotations

import warnings

import pytest

from export.measuring.metrics.ranking import RANKING, by_list, find_hits
from tests.unit.test_metrics_of_lists import random_lists


@pytest.mark.filterwarnings("ignore:unsafe cast from uint64")  # Numba's, of ranx's own code
def test_metrics_are_those_of_ranx() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # when its modules are compiled
        import ranx

    listed, targets = random_lists(40, 30, 20)
    qrels = ranx.Qrels({f"q{n}": {f"i{row}": 1 for row in of} for n, of in enumerate(targets)})
    run = ranx.Run(
        {
            f"q{n}": {f"i{row}": float(20 - place) for place, row in enumerate(of)}
            for n, of in enumerate(listed)
        }
    )
    names = [f"{name}@{k}" for name in RANKING for k in (1, 5, 20)]
    theirs = ranx.evaluate(qrels, run, names)
    ours = by_list(find_hits(listed, targets), (1, 5, 20))
    for name in names:
        assert ours[name].mean() == pytest.approx(theirs[name], abs=1e-9), name
