"""Several models as one: their logits add up, and held-out events say with which weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from scipy.special import softmax

from export.bundle import write_bundle
from export.compression.bundle import compress
from export.data.dataset import Log
from export.models import train
from export.models.base import Baskets, HeldOut, Trained
from export.models.content import record
from export.models.ensemble import assemble
from export.models.pooling import Asked, Pool, Weighed, weigh
from export.models.text import parse_parameters
from export.training.train import fit
from stream.contracts import EventType
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.core.packing import pack
from stream.core.recent import Recent
from stream.errors import UsageError
from tests.unit.test_export_cli import run, visits
from tests.unit.test_export_models import themed_log
from tests.unit.test_model import ITEMS, random_log
from tests.unit.test_packing import assert_lists_agree

WEIGHTS = (0.2, 0.3, 0.5)


@pytest.fixture(scope="module")
def members() -> list[Trained]:
    log = random_log()
    return [train("decay", log, dim=4), train("cooccurrence", log, dim=8), train("mf", log, dim=8)]


def served(trained: Trained, folder: Path) -> Model:
    return Model(write_bundle(trained, folder), "cpu", spare_rows=0)


def states_of(model: Model, users: int = 20) -> np.ndarray:
    """After some events, the same ones for every model."""
    rng = np.random.default_rng(1)
    state = np.zeros((users, model.state_size), np.float32)
    for _ in range(15):
        rows, types = rng.integers(0, ITEMS + 1, users), rng.integers(0, 10, users)
        state = model.update(state, rows, types, rng.normal(0, 1e5, users).astype(np.float32))
    return state


def logits_of(trained: Trained, states: np.ndarray, beta: float) -> np.ndarray:
    """What the score graph makes of states before the top-k: float32 [B, n]."""
    graph = onnx.load_model_from_string(trained.score_onnx)
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info("logits"))
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    pad = -len(trained.item_ids) % 128
    given = {
        "state": states,
        "item_table": np.pad(trained.embeddings, ((0, pad), (0, 0))),
        "bias": np.pad(trained.biases, (0, pad)),
        "excluded": np.zeros((len(states), 1), np.int64),
        "beta": np.array([beta], np.float32),
        "k": np.array([1]),
    }
    found: np.ndarray = session.run(["logits"], given)[0][:, : len(trained.item_ids)]
    return found


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_logits_are_the_weighted_sum_of_what_the_members_own_graphs_say(
    members: list[Trained], beta: float, tmp_path: Path
) -> None:
    whole = assemble(members, WEIGHTS)
    states = states_of(served(whole, tmp_path / "whole"))  # replays the golden sequences
    pooled, begin = np.zeros((20, ITEMS + 1)), 0
    for member, weight in zip(members, WEIGHTS, strict=True):
        own = states_of(served(member, tmp_path / member.model))
        stop = begin + member.state_size
        assert states[:, begin:stop].tobytes() == own.tobytes()
        begin = stop
        pooled += weight * logits_of(member, own, beta * member.beta).astype(np.float64)
    assert begin == whole.state_size
    found = logits_of(whole, states, beta)
    assert found[:, 1:].std() > 1
    np.testing.assert_allclose(found[:, 1:], pooled[:, 1:], rtol=1e-5, atol=1e-4)


def test_vectors_stand_side_by_side_where_they_are_looked_at(members: list[Trained]) -> None:
    decay, _, mf = members
    whole = assemble(members, WEIGHTS)
    assert (whole.embeddings == np.concatenate([decay.embeddings, mf.embeddings], axis=1)).all()
    assert whole.storage == "float32"  # rows of items are in the state
    assert assemble([decay, mf], (0.5, 0.5)).storage == "int8"


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_items_can_be_packed(members: list[Trained], storage: Any, tmp_path: Path) -> None:
    bundle = write_bundle(assemble(members, WEIGHTS), tmp_path / "plain")
    packed = compress(bundle, tmp_path / "packed", storage, "float32")
    ours, theirs = Model(packed, "cpu"), Model(bundle, "cpu")
    rounded = pack(bundle.embeddings, storage).unpacked()
    assert (rounded != bundle.embeddings).any()
    theirs.set_embeddings(np.arange(1, ITEMS + 1), rounded[1:])
    states, struck = states_of(theirs), np.arange(60).reshape(20, 3)
    assert_lists_agree(
        ours.score(states, ours.new_bias(), struck, 1.0, 10),
        theirs.score(states, theirs.new_bias(), struck, 1.0, 10),
    )


def test_members_of_other_items_are_refused(members: list[Trained]) -> None:
    with pytest.raises(ValueError, match="same rows"):
        assemble([members[0], train("mf", random_log(), dim=8, min_count=12)], (0.5, 0.5))


def test_all_members_know_the_same_items() -> None:
    log = random_log()
    known = Baskets.of(log, min_count=7).item_ids
    assert 100 < len(known) < ITEMS
    trained = train("ensemble", log, min_count=7, **{"mf.dim": 4, "cooccurrence.dim": 4})
    assert trained.item_ids == known
    held_out = HeldOut(log.time_ms < log.time_ms[2_000], np.arange(2_000, len(log)))
    trained = train("ensemble", log, held_out=held_out, min_count=5, **{"mf.dim": 4})
    assert trained.item_ids == Baskets.of(log.select(held_out.trained), min_count=5).item_ids
    assert trained.training["events"] == 2_000


def test_an_item_never_trained_on_has_the_vector_of_its_content(tmp_path: Path) -> None:
    log = random_log()
    of = {"of": "decay,content", "decay.dim": 4, "content.dim": 8, "content.features": 512}
    trained = train("ensemble", log, **of)
    alone = train("content", log, dim=8, features=512)
    model = served(trained, tmp_path / "whole")
    item = [record(log, "i3"), record(log, "i250")]
    assert model.content is not None
    vectors = model.content.vectors(item)
    content = served(alone, tmp_path / "alone").content
    assert content is not None
    np.testing.assert_allclose(vectors[:, 4:], content.vectors(item), atol=1e-6)
    assert vectors[:, 4:].any()
    assert not vectors[:, :4].any()


def logits(cases: int, items: int, members: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [2 * rng.standard_normal((cases, items)).astype(np.float32) for _ in range(members)]


def test_weights_are_those_that_the_events_came_from() -> None:
    of, true = logits(4_000, 50, 3), np.array([0.9, 0.3, 0.0])
    rng = np.random.default_rng(1)
    p = softmax(np.tensordot(true, np.stack(of), 1), axis=1)
    target = (p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1)
    found = Pool(of, target).fit()
    np.testing.assert_allclose(found, true / true.sum(), atol=0.03)
    assert Pool(of, target).ndcg(found) > max(Pool(of, target).ndcg(only) for only in np.eye(3))
    few = Pool([x[:3] for x in of], target[:3]).fit()
    np.testing.assert_allclose(few, 1 / 3, atol=0.15)
    none = Pool([x[:0] for x in of], target[:0])
    assert tuple(none.fit()) == Weighed.equal(3).weights
    assert none.ndcg(few) == 0


class Told:
    """A reference that keeps what it is told: rows, types and gaps that were folded."""

    def __init__(self) -> None:
        self.folded: list[tuple[list[int], list[int], list[float]]] = []
        self.recent: list[Recent] = []

    def update(self, state: np.ndarray, *event: np.ndarray) -> np.ndarray:
        self.folded.append(tuple(column.tolist() for column in event))  # type: ignore[arg-type]
        return state + event[0][:, None]

    def logits(self, state: np.ndarray, beta: float, recent: Recent) -> np.ndarray:
        self.recent.append(recent)
        return state + np.arange(5)


def shop(*events: tuple[str, str, int, EventType]) -> Log:
    """Of events in time order: user, item, second, type."""
    users, items, seconds, types = zip(*events, strict=True)
    n, known = len(events), sorted(set(items))
    names = sorted(set(users))
    user = np.array([names.index(name) for name in users])
    return Log(
        users=names,
        items=known,
        user=user,
        item=np.array([known.index(item) for item in items]),
        event_type=np.array(types, np.int64),
        time_ms=1_700_000_000_000 + np.array(seconds, np.int64) * 1000,
        session=user,
        quantity=np.ones(n),
        price=np.ones(n),
        titles={},
    )


CLICK, SHOWN, DISLIKE = EventType.CLICK, EventType.IMPRESSION, EventType.DISLIKE


def test_a_case_knows_what_lies_before_its_moment() -> None:
    log = shop(
        ("u", "a", 0, CLICK),
        ("u", "b", 10, DISLIKE),
        ("v", "c", 11, CLICK),
        ("u", "c", 13, SHOWN),
        ("u", "new", 14, CLICK),  # an item without a row
        ("w", "a", 20, CLICK),  # asked for, with nothing before it
        ("u", "d", 30, CLICK),  # an order of two lines
        ("u", "a", 30, CLICK),
        ("v", "new", 31, CLICK),
    )
    ids, older = ["", "a", "b", "c", "d"], log.time_ms < log.time_ms[5]
    assert len(Asked.of(log, HeldOut(older, np.array([5, 6, 7, 8])), ids)) == 1  # of an order
    asked = Asked.of(log, HeldOut(older, np.array([5, 7, 8])), ids)
    assert asked.target.tolist() == [1]
    told = Told()
    model: Any = type("Stub", (), {"reference": told, "state_size": 1, "recent": 3, "beta": 1.0})
    assert asked.logits(model).tolist() == [[7, 8, 9, 10]]  # 1 + 2 + 3 + 0, without row 0
    assert told.folded == [
        ([1], [CLICK], [0]),
        ([2], [DISLIKE], [10]),
        ([3], [SHOWN], [3]),
        ([0], [CLICK], [1]),
    ]
    ((rows, types),) = told.recent
    assert rows.tolist() == [[0, 2, 1]]  # newest first; what is shown only is not among them
    assert types.tolist() == [[0, DISLIKE, CLICK]]
    assert asked.seen().tolist() == [[True, True, True, False]]


def test_cases_of_any_length_are_folded_each_by_itself() -> None:
    log = random_log()
    trained = train("mf", log, dim=4)
    held_out = HeldOut(log.time_ms < log.time_ms[2_500], np.arange(2_500, len(log)))
    asked = Asked.of(log, held_out, trained.item_ids)
    assert len(set((asked.stops - asked.begins).tolist())) > 3
    found = asked.logits(trained)
    for case in (0, len(asked) // 2, len(asked) - 1):
        state = np.zeros((1, 4), np.float32)
        for at in range(asked.begins[case], asked.stops[case]):
            gap_s = asked.gap_s[at : at + 1] * (at > asked.begins[case])
            event = asked.row[at : at + 1], asked.event_type[at : at + 1], gap_s
            state = trained.reference.update(state, *event)
        wanted = trained.reference.logits(state, trained.beta)[0, 1:]
        np.testing.assert_allclose(found[case], wanted, atol=1e-4)


@pytest.mark.parametrize("again", [True, False])
def test_weights_are_of_lists_with_seen_items_where_these_come_back(again: bool) -> None:
    rng = np.random.default_rng(0)
    events: list[tuple[str, str, int, EventType]] = []
    for user in range(60):
        way: Sequence[int] = rng.permutation(12).tolist()
        if again:
            way = (way[:3] * 4)[:12]
        events += [(f"u{user}", f"i{item:02}", user + step, CLICK) for step, item in enumerate(way)]
    log = shop(*sorted(events, key=lambda event: event[2]))
    held_out = HeldOut(log.time_ms < log.time_ms[560], np.arange(560, len(log)))
    older = log.select(held_out.trained)
    members = [train("decay", older, dim=4), train("cooccurrence", older, dim=4)]
    weighed = weigh(members, log, held_out)
    assert weighed.exclude_seen is not again
    assert weighed.cases > 100
    assert abs(sum(weighed.weights) - 1) < 1e-5
    assert 0 < weighed.ndcg <= 1
    assert len(weighed.alone) == 2


def test_what_is_struck_has_no_say() -> None:
    of = logits(500, 50, 2)
    target = (2 * of[0] + of[1]).argmax(axis=1)
    struck = np.zeros((500, 50), np.bool_)
    struck[:, :25] = True
    left = np.flatnonzero(target >= 25)
    assert 100 < len(left) < 400
    found, wanted = Pool(of, target, struck), Pool([x[left, 25:] for x in of], target[left] - 25)
    np.testing.assert_allclose(found.fit(), wanted.fit(), atol=1e-4)
    half = np.array([0.5, 0.5])
    assert 500 * found.ndcg(half) == pytest.approx(len(left) * wanted.ndcg(half))


def test_training_weighs_by_the_newest_events_and_keeps_the_weights(tmp_path: Path) -> None:
    said: list[str] = []
    log = themed_log(tmp_path / "log.jsonl", visits=80)
    given = {"of": "decay,mf", "decay.dim": 8, "mf.dim": 4}
    trained = fit(log, "ensemble", given, said.append)
    weights = trained.training["weights"]
    assert list(weights) == ["decay", "mf"]
    assert abs(sum(weights.values()) - 1) < 1e-5
    assert weights["decay"] != 0.5
    assert trained.training["members"]["mf"]["dim"] == 4
    assert trained.training["events"] == trained.training["members"]["mf"]["events"] == len(log)
    assert set(trained.metrics["compared"]) == {"ensemble", "cooccurrence"}
    assert trained.calibration is not None
    model = served(trained, tmp_path / "bundle")  # replays the golden sequences
    assert model.bundle.manifest.training["weights"] == weights


def test_without_held_out_events_members_weigh_the_same() -> None:
    trained = train("ensemble", random_log(), **{"mf.dim": 4, "cooccurrence.dim": 4})
    assert trained.training["weights"] == {"mf": 0.5, "cooccurrence": 0.5}


def test_the_command_trains_an_ensemble(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, folder = visits(tmp_path / "log.jsonl"), tmp_path / "bundle"
    of = ("--model", "ensemble", "--set", "of=decay,cooccurrence", "--set", "decay.dim=8")
    code, _, err = run(capsys, "train", log, "--out", folder, *of)
    assert code == 0, err
    assert "weights: decay 0." in err
    manifest = Bundle.load(folder).manifest
    assert manifest.model == "ensemble"
    assert manifest.state.size == 2 * 8 + 20
    code, _, err = run(capsys, "tune", log, "--model", "ensemble")
    assert code == 2
    assert "'ensemble'" in err
    code, _, err = run(capsys, "train", log, "--out", tmp_path / "no", "--warm", folder, *of)
    assert code == 2
    assert "leave --warm out" in err


def test_parameters_of_members_bear_their_names() -> None:
    text = {"of": "mf, glr", "min_count": "2", "mf.dim": "8", "glr.cosine": "false"}
    assert parse_parameters("ensemble", text) == {
        "of": "mf, glr",
        "min_count": 2,
        "mf.dim": 8,
        "glr.cosine": False,
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"of": "mf"}, "two or more models"),
        ({"of": "mf,mf"}, "each named once"),
        ({"of": "mf,ensemble"}, "'ensemble' is no model"),
        ({"of": "mf,"}, "'' is no model"),
        ({"dim": "8"}, "ensemble has no parameter 'dim'"),
        ({"mf.dimm": "8"}, "mf has no parameter 'dimm'"),
        ({"mf.dim": "x"}, "dim=x: not a number"),
        ({"als.dim": "8"}, "'als' is not one of"),
        ({"decay.dim": "8"}, "decay is no member"),
        ({"mf.min_count": "2"}, "set min_count without a name"),
    ],
)
def test_what_an_ensemble_cannot_be_is_said_before_a_log_is_read(
    given: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        parse_parameters("ensemble", given)
