"""The network, its NumPy reference and its graphs agree on what a real shop's customers did: carts,
orders of many lines at one time, cancellations, days between them; step by step and in batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.special import expit

from export.bundle import write_bundle
from export.data.dataset import Log, read_log
from export.models.base import Run, Trained
from export.models.glr.learning import learn
from export.models.glr.network import Network
from export.models.glr.sequences import Sequences, trained_kinds
from export.models.glr.settled import Settled
from stream.contracts import EventType
from stream.core.model import Model
from stream.core.recent import Recent
from tests.training.corrections import drawn

SAMPLE = Path(__file__).parents[2] / "stream" / "demo" / "data"
USERS = 30  # of the sample, with all of their events
STEPS = 120  # of each, at most

# float32 against float64 over all steps of a user; relative to the largest number of a state.
STATES = 2e-5
LOGITS = 2e-4
SCORES = 2e-5  # as of golden sequences

NETWORKS: dict[str, dict[str, Any]] = {
    "the demo's": {
        "members": 1,
        "layers": 1,
        "state": 64,
        "dim": 64,
        "hidden": 128,
        "mean": False,
        "cosine": False,
        "smoothing": 0.0,
    },
    "means, two members": {
        "members": 2,
        "layers": 2,
        "state": 32,
        "dim": 32,
        "hidden": 64,
        "mean": True,
        "cosine": True,
        "smoothing": 0.5,
    },
}


class Case(NamedTuple):
    """A trained network in its three forms, and its users' events, time first.

    Attributes
    ----------
    networks : of PyTorch, one a member
    rows, types, gaps_s : int64, int64, float32, shape (steps, users); 0 where a user has ended
    stops : int64, shape (users,); the events of each
    windows : of `sequences`, the same events and one more
    """

    trained: Trained
    networks: list[Network]
    model: Model
    sequences: Sequences
    windows: np.ndarray[Any, np.dtype[np.int64]]
    rows: np.ndarray[Any, np.dtype[np.int64]]
    types: np.ndarray[Any, np.dtype[np.int64]]
    gaps_s: np.ndarray[Any, np.dtype[np.float32]]
    stops: np.ndarray[Any, np.dtype[np.int64]]


@pytest.fixture(scope="module")
def log() -> Log:
    everything = read_log(SAMPLE / "online_retail_sample.events.jsonl.gz", "events")
    some = everything.select(everything.user < USERS)
    assert {EventType(code).name for code in np.unique(some.event_type)} >= {
        "ADD_TO_CART",
        "PURCHASE",
        "CANCEL",
    }
    return some


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest, log: Log, tmp_path_factory: Any) -> Case:
    networks: list[Network] = []
    weights = tuple(1.5 / lag for lag in range(1, 7))
    settled = Settled(1, again=weights, together=weights[::-1], temperature=0.8, correction=drawn())
    given = {**NETWORKS[request.param], "epochs": 1, "batch": 1024}
    trained = learn(log, settled=settled, run=Run(keep=networks.append, device="cpu"), **given)
    bundle = write_bundle(trained, tmp_path_factory.mktemp("parity") / "bundle")
    row = {item_id: at for at, item_id in enumerate(trained.item_ids)}
    row_by_code = np.array([row.get(item_id, 0) for item_id in log.items], np.int64)
    sequences = Sequences.of(log, row_by_code, trained_kinds(log))
    begins = sequences.starts[:-1]
    stops = np.minimum(np.diff(sequences.starts) - 1, STEPS)
    kept = stops > 0
    begins, stops = begins[kept], stops[kept]
    steps = np.arange(stops.max())[:, None]
    there = steps < stops
    at = np.where(there, begins + steps, 0)
    event = sequences.position[at]
    gaps_s = np.where(steps > 0, log.time_ms[event] - log.time_ms[np.roll(event, 1, 0)], 0) / 1000
    return Case(
        trained,
        networks,
        Model(bundle, "cpu", spare_rows=0),
        sequences,
        np.stack([begins, begins + stops + 1], axis=1),
        np.where(there, row_by_code[log.item[event]], 0),
        np.where(there, log.event_type[event], 0),
        np.where(there, gaps_s, 0).astype(np.float32),
        stops,
    )


def _folded(case: Case, update: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """States after each step, all users at once: float32 [steps, users, S]."""
    state = np.zeros((len(case.stops), case.model.state_size), np.float32)
    states = []
    for step in zip(case.rows, case.types, case.gaps_s, strict=True):
        state = update(state, *step)
        states.append(state)
    return np.stack(states)


def test_users_are_real_ones(case: Case) -> None:
    assert len(case.stops) == USERS
    assert np.median(case.stops) >= STEPS / 2
    assert (case.gaps_s == 0).mean() > 0.2  # lines of an order
    assert case.gaps_s.max() > 86_400


def test_the_graph_folds_as_the_reference_does(case: Case) -> None:
    graph, reference = (
        _folded(case, case.model.update),
        _folded(case, case.trained.reference.update),
    )
    largest = np.abs(reference).max(axis=2, keepdims=True).clip(1)
    assert np.abs(graph - reference).max() > 0  # two computations, not one
    assert (np.abs(graph - reference) / largest).max() < STATES


def test_a_batch_of_users_is_folded_as_each_of_them_alone(case: Case) -> None:
    together = _folded(case, case.model.update)
    for user in range(0, USERS, 3):
        state = np.zeros((1, case.model.state_size), np.float32)
        for step in range(int(case.stops[user])):
            one = slice(user, user + 1)
            state = case.model.update(
                state, case.rows[step, one], case.types[step, one], case.gaps_s[step, one]
            )
            assert np.array_equal(state[0].view(np.int32), together[step, user].view(np.int32))


def test_the_network_says_of_every_step_what_the_states_say(case: Case) -> None:
    graph = _folded(case, case.model.update)
    batch = case.sequences.pack(case.windows)
    parts = []
    with torch.no_grad():
        for network, scale in zip(case.networks, case.trained.training["scales"], strict=True):
            columns = [torch.from_numpy(column) for column in batch[:3]]
            interest = network(*columns, network.table()).numpy()  # all steps in one scan
            parts.append(interest * scale * case.trained.training["settled"]["temperature"])
    vectors = np.concatenate(parts, axis=2) * len(parts) ** 0.5
    nothing = Recent.nothing(len(case.stops), case.trained.recent)
    for step, (own, state) in enumerate(zip(vectors, graph, strict=True)):
        there = step < case.stops
        expected = own @ case.trained.embeddings.T + case.trained.biases
        found = case.trained.reference.logits(state, 1.0, nothing)
        np.testing.assert_allclose(found[there, 1:], expected[there, 1:], atol=LOGITS)


def test_lists_of_both_are_the_same(case: Case) -> None:
    users, last, k = len(case.stops), case.trained.recent, 20
    states = _folded(case, case.model.update)[case.stops - 1, np.arange(users)]
    back = case.stops - 1 - np.arange(last)[:, None]
    at = (np.maximum(back, 0), np.arange(users))
    recent = Recent(
        np.where(back >= 0, case.rows[at], 0).T.copy(),
        np.where(back >= 0, case.types[at], 0).T.copy(),
    )
    logits = case.trained.reference.logits(states, 1.0, recent)
    barred = np.zeros((users, 1), np.int64)
    rows, scores = case.model.score(states, case.model.new_bias(), barred, 1.0, k, recent)
    best = -np.sort(-expit(logits), axis=1)[:, :k]
    np.testing.assert_allclose(scores, best, atol=SCORES)
    np.testing.assert_allclose(scores, expit(np.take_along_axis(logits, rows, 1)), atol=SCORES)
    alone = [
        case.model.score(
            states[u : u + 1],
            case.model.new_bias(),
            barred[:1],
            1.0,
            k,
            Recent(recent.rows[u : u + 1], recent.types[u : u + 1]),
        )
        for u in range(0, users, 5)
    ]
    for u, (rows_alone, scores_alone) in zip(range(0, users, 5), alone, strict=True):
        assert np.array_equal(rows_alone[0], rows[u])
        np.testing.assert_allclose(scores_alone[0], scores[u], atol=SCORES)
