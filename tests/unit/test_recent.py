"""A score graph that takes last interactions gets them: which, in which order, how many."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.bundle import write_bundle
from export.measuring.evaluate import replay
from export.measuring.questions import moments_asked
from export.models import decay
from export.models.base import Trained
from stream.config import Placement
from stream.contracts import EVENT_TYPES, EventType, Item
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.core.recent import Recent
from stream.core.users import Users
from stream.core.wire import join, split
from stream.errors import BundleError
from tests.support.bundles import random_decay_bundle, recent_model
from tests.support.engine import Shop, items, lists
from tests.support.hostile_bundles import Fields, seal
from tests.unit.test_bundle import reshape
from tests.unit.test_model import random_log

ITEMS, R = 60, 3
EVERYTHING = Placement(k=ITEMS, exclude_seen=False, exclude_bought=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(recent_model(ITEMS, R), tmp_path_factory.mktemp("recent") / "bundle")


@pytest.fixture
def folder(written: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written.path, tmp_path / "bundle"))


def newest_first(history: list[tuple[int, EventType]], size: int, ring: int) -> Recent:
    """The last `size` of a user's interactions (row, type), as a ring that long remembers them."""
    remembered = [event for event in history if event[1] != EventType.IMPRESSION]
    last = remembered[::-1][: min(size, ring)]
    known = [event if event[0] else (0, 0) for event in last]
    padded = known + [(0, 0)] * (size - len(known))
    rows, types = np.array(padded, np.int64).T
    return Recent(rows[None, :], types[None, :])


def expected(trained: Trained, recent: Recent, struck: set[int]) -> dict[str, float]:
    """Scores by item, best first, of one user."""
    logits = trained.reference.logits(np.zeros((1, 1), np.float32), trained.beta, recent)[0]
    ranked = [row for row in np.argsort(-logits) if row > 0 and row not in struck]
    return {trained.item_ids[row]: 1 / (1 + np.exp(-float(logits[row]))) for row in ranked}


@pytest.mark.parametrize(
    ("recent", "ring"), [(3, 6), (3, 3), (3, 2), (3, 0), (1, 50), (12, 20), (12, 5), (64, 50)]
)
def test_the_engine_lists_what_the_reference_ranks(recent: int, ring: int, tmp_path: Path) -> None:
    """Event by event: impressions, dislikes, cancellations, unknown items, rings gone round."""
    trained = recent_model(ITEMS, recent)
    shop = Shop(write_bundle(trained, tmp_path / "bundle"), ring, home=EVERYTHING)
    rng = np.random.default_rng(recent + ring)
    types = list(EVENT_TYPES.items())
    histories: dict[str, list[tuple[int, EventType]]] = {"u": [], "v": [], "w": []}
    for number in range(90):
        user, row = str(rng.choice(list(histories))), int(rng.integers(0, ITEMS + 1))
        name, kind = types[rng.integers(len(types))]
        histories[user].append((row, kind))
        item = f"i{row}" if row else "never heard of"
        (record,) = lists(shop.step({"user_id": user, "item_id": item, "type": name}))
        remembered = [event for event in histories[user] if event[1] != EventType.IMPRESSION]
        disliked = remembered[::-1][:ring]
        struck = {row for row, kind in disliked if kind == EventType.DISLIKE}
        wanted = expected(trained, newest_first(histories[user], recent, ring), struck)
        listed = record.lists["home"].items
        assert [item.item_id for item in listed] == list(wanted), number
        scores = [item.score for item in listed]
        np.testing.assert_allclose(scores, list(wanted.values()), atol=2e-6)


def test_each_user_of_a_batch_has_interactions_of_their_own(written: Bundle) -> None:
    shop = Shop(written, home=EVERYTHING)
    trained = recent_model(ITEMS, R)
    events = [{"user_id": f"u{n}", "item_id": f"i{n % ITEMS + 1}"} for n in range(300)]
    for record in lists(shop.step(*events)):
        row = int(record.user_id[1:]) % ITEMS + 1
        wanted = expected(trained, newest_first([(row, EventType.CLICK)], R, 10), set())
        assert [item.item_id for item in record.lists["home"].items] == list(wanted)


def test_what_is_measured_sees_the_last_interactions_too(written: Bundle) -> None:
    log, trained = random_log(events=800), recent_model(ITEMS, R)
    rules = Placement(k=9, exclude_seen=False)
    asked = moments_asked(log)
    answers = replay(Model(written, "cpu", spare_rows=0), asked, rules=rules)
    assert len(asked.queries) > 100
    row_by_id = {item_id: row for row, item_id in enumerate(written.item_ids)}
    for query, listed in zip(asked.queries, answers.listed, strict=True):
        rows = [row_by_id.get(log.items[code], 0) for code in asked.known(query)]
        recent = newest_first([(row, EventType.CLICK) for row in rows], R, 50)
        found = [written.item_ids[row] for row in listed.tolist()]
        assert found == list(expected(trained, recent, set()))[:9]


@given(st.data())
def test_interactions_come_newest_first_and_padded(data: st.DataObject) -> None:
    ring = data.draw(st.integers(0, 6))
    size = data.draw(st.integers(1, 8))
    rows = np.array(data.draw(st.lists(st.integers(0, 3), min_size=ring, max_size=ring)), np.int64)
    kinds = st.sampled_from([0, 1, 9, 10, 255])
    types = np.array(data.draw(st.lists(kinds, min_size=ring, max_size=ring)), np.uint8)
    newest = np.array(data.draw(st.permutations(range(ring))), np.int64)
    looked_at = data.draw(st.integers(min(size, ring), ring))
    found = Recent.of(rows[None], types[None], newest[None, :looked_at], size)
    entries = list(zip(rows, types, strict=True))
    known = [(row, kind) if row and kind <= 9 else (0, 0) for row, kind in entries]
    wanted = [known[at] for at in newest][:size]
    wanted += [(0, 0)] * (size - len(wanted))
    assert list(zip(*(column[0].tolist() for column in found), strict=True)) == wanted
    assert all(column.dtype == np.int64 for column in found)


@pytest.mark.parametrize("unknown_type", [10, 15])
def test_a_type_of_a_later_version_is_as_nothing(written: Bundle, unknown_type: int) -> None:
    shop = Shop(written, home=EVERYTHING)
    shop.step({"item_id": "i1"}, {"item_id": "i2"})
    user = Users.of(shop.shard, [b"u"])
    first = user.ring[0, :1]
    first["item_and_type"] = join(split(first)[0], np.uint8(unknown_type))
    user.store()
    history = [(0, EventType.CLICK), (2, EventType.CLICK), (7, EventType.CLICK)]
    wanted = expected(recent_model(ITEMS, R), newest_first(history, R, 10), set())
    assert items(shop.step({"item_id": "i7"})) == list(wanted)


def test_an_item_added_after_training_is_a_last_interaction_like_any(written: Bundle) -> None:
    shop = Shop(written, home=EVERYTHING)
    shop.catalogue.put(Item("new"))
    shop.catalogue.put(Item("i5"))
    assert items(shop.step({"item_id": "i5"})) == ["i5", "new"]
    assert items(shop.step({"item_id": "new"})) == ["new", "i5"]


def test_reasons_look_no_further_back_than_before(tmp_path: Path) -> None:
    shop = Shop(write_bundle(recent_model(ITEMS, 12), tmp_path / "bundle"), 20, home=EVERYTHING)
    shop.step({"item_id": "i1"})
    for row in range(2, 9):
        (record,) = lists(shop.step({"item_id": f"i{row}", "type": "dislike"}))
        assert {item.reason.item_id for item in record.lists["home"].items} == {"i1"}
    (record,) = lists(shop.step({"item_id": "i9", "type": "dislike"}))
    assert {item.reason.item_id for item in record.lists["home"].items} == {None}


def test_scores_without_interactions_are_those_of_a_guest(written: Bundle) -> None:
    model = Model(written, "cpu")
    state, nothing = np.zeros((2, 1), np.float32), np.zeros((2, 1), np.int64)
    bias = model.new_bias()
    some = Recent(np.array([[5, 6, 7]] * 2), np.array([[1, 1, 1]] * 2))
    assert model.score(state, bias, nothing, 4.0, 3, some)[0].tolist() == [[5, 6, 7]] * 2
    guest = model.score(state, bias, nothing, 4.0, 3)
    given_none = model.score(state, bias, nothing, 4.0, 3, Recent.nothing(2, R))
    for found, wanted in zip(guest, given_none, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert guest[0][0].tolist() == np.argsort(-written.biases)[:3].tolist()


# -- bundles -----------------------------------------------------------------------------------


def test_a_bundle_from_before_the_field_still_loads(tmp_path: Path) -> None:
    old = random_decay_bundle(tmp_path / "bundle", 50).path
    seal(old, lambda fields: fields.pop("recent", None))
    assert Bundle.load(old).manifest.recent == 0
    assert Model(Bundle.load(old), "cpu").recent == 0


@pytest.mark.parametrize("value", [-1, 65, 10**9, 2**70, "3", 1.5, True, None, [3]])
def test_a_manifest_that_takes_another_number_is_refused(folder: Path, value: object) -> None:
    seal(folder, lambda fields: fields.update(recent=value))
    with pytest.raises(BundleError, match=r"manifest\.json: .*recent"):
        Bundle.load(folder)


def test_the_manifest_and_the_graphs_inputs_must_agree(folder: Path, tmp_path: Path) -> None:
    said = r"score\.onnx: inputs or outputs are not those of format 1 with recent "
    seal(folder, lambda fields: fields.update(recent=0))
    with pytest.raises(BundleError, match=said + "0"):
        Model(Bundle.load(folder), "cpu")
    trained = recent_model(ITEMS, R)
    parameters = decay.Parameters(dim=1)
    plain = decay.assemble(
        parameters, trained.item_ids, trained.embeddings, trained.biases, created="", training={}
    )
    other = dataclasses.replace(trained, score_onnx=plain.score_onnx)
    with pytest.raises(BundleError, match=said + str(R)):
        Model(write_bundle(other, tmp_path / "without"), "cpu")
    other = dataclasses.replace(trained, score_onnx=recent_model(ITEMS, R, width=5).score_onnx)
    with pytest.raises(BundleError, match="recent_rows is 5 wide, the manifest says 3"):
        Model(write_bundle(other, tmp_path / "wider"), "cpu")


def test_golden_interactions_are_those_of_the_golden_events(written: Bundle) -> None:
    golden = written.golden
    assert golden.recent is not None
    seen = set()
    for sequence in range(len(golden.item_rows)):
        events = zip(golden.item_rows[sequence], golden.event_types[sequence], strict=True)
        history = [(int(row), EventType(kind)) for row, kind in events if kind]
        wanted = newest_first(history, R, 50)
        np.testing.assert_array_equal(golden.recent.rows[sequence], wanted.rows[0])
        np.testing.assert_array_equal(golden.recent.types[sequence], wanted.types[0])
        seen |= set(golden.recent.types[sequence].tolist())
    assert len(seen) > 3


def _reversed(arrays: Fields) -> None:
    for name in ("recent_rows", "recent_types"):
        arrays[name] = arrays[name][:, ::-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_reversed, "provider (lists other items|differs by up to)"),
        (lambda a: a.update(recent_types=a["recent_types"] % 9 + 1), "provider (lists|differs)"),
        (lambda a: a.update(recent_rows=a["recent_rows"] + 10**6), "cannot be replayed"),
    ],
)
def test_a_replay_with_other_interactions_is_refused(
    folder: Path, change: object, message: str
) -> None:
    Model(Bundle.load(folder), "cpu")
    reshape(folder, "golden.npz", change)
    with pytest.raises(BundleError, match=rf"golden\.npz: .*{message}"):
        Model(Bundle.load(folder), "cpu")


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.pop("recent_rows"),
        lambda a: a.pop("recent_types"),
        lambda a: a.update(recent_rows=a["recent_rows"][:, :2]),
        lambda a: a.update(recent_types=a["recent_types"][:-1]),
        lambda a: a.update(recent_types=a["recent_types"][:, :2]),
        lambda a: a.update(recent_types=a["recent_types"].astype(np.uint8)),
    ],
)
def test_golden_interactions_of_another_shape_are_refused(folder: Path, change: object) -> None:
    reshape(folder, "golden.npz", change)
    with pytest.raises(BundleError, match=r"golden\.npz: .*recent_"):
        Bundle.load(folder)
