"""What is measured is what is served: a test split through a worker, and the offline evaluation.

`tests/training/test_glr_streamed.py` has the model that needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from export.measuring.evaluate import RING
from stream.contracts import EventType
from stream.core.policy.placement import LeavesOut
from stream.kafka.broker import BrokerProcess
from tests.support.freshet import Freshet
from tests.support.streamed import REGULAR, Case, case_of, differences, offline, streamed

LEAVES_OUT = {  # by model, in the manifest
    "mf": LeavesOut(seen=True, bought=True),
    "cooccurrence": LeavesOut(seen=False, bought=False),
}
PARAMETERS = {"mf": {"dim": 32}, "cooccurrence": {}}

# The tests of a model in one process, for the sake of its training.
MODELS = [
    pytest.param(name, marks=pytest.mark.xdist_group(f"streamed {name}")) for name in LEAVES_OUT
]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """A model's case, trained once for all brokers."""

    @cache
    def of_model(name: str) -> Case:
        folder = tmp_path_factory.mktemp("streamed")
        return case_of(name, LEAVES_OUT[name], PARAMETERS[name], folder)

    return of_model


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest, cases: Callable[[str], Case]) -> Case:
    return cases(request.param)


def test_published_lists_are_those_of_the_evaluation(
    case: Case, broker: BrokerProcess, unique: str
) -> None:
    published = streamed(Freshet(broker.bootstrap, unique), case)
    assert differences(case.expected, published) == []


def test_the_split_has_what_could_make_a_difference(case: Case) -> None:
    """Repeats, items that the bundle does not know, events of all types, a ring that overflows."""
    log, known = case.shop.asked.log, set(case.bundle.item_ids)
    user, position = max(case.expected, key=lambda at: at[1])
    assert user == REGULAR
    assert position > RING + 5
    assert len(case.expected) > 200
    assert {EventType(code) for code in log.event_type.tolist()} == {*EventType} - {
        EventType.CANCEL  # takes a purchase out of a log
    }
    assert not known.issuperset(log.items[code] for code in log.item.tolist())
    assert len(set(zip(log.user.tolist(), log.item.tolist(), strict=True))) < len(log)
    assert sum(map(len, case.shop.deliveries.values())) > len(log)
    manifest = case.bundle.manifest
    for kind, excluded in (
        (EventType.CLICK, manifest.exclude_seen),
        (EventType.PURCHASE, manifest.exclude_bought),
    ):
        assert comes_back(case, "home", kind) is not excluded
        assert comes_back(case, "cart", kind) is excluded


def comes_back(case: Case, placement: str, kind: EventType) -> bool:
    """Whether an item is listed that stands in its user's ring with an event of this type."""
    asked = case.shop.asked
    log = asked.log
    for query, shown in zip(asked.queries, case.expected.values(), strict=True):
        ring = asked.histories[query.user][max(query.position - RING, 0) : query.position]
        done = {log.items[log.item[at]] for at in ring if log.event_type[at] == kind}
        if not done.isdisjoint(shown[placement].items):
            return True
    return False


def test_a_ring_of_another_length_would_be_noticed(case: Case) -> None:
    other = offline(case.bundle, case.settings, case.shop.asked, ring=RING - 1)
    assert differences(case.expected, other.items())
