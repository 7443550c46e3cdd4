"""Live weights: inputs of the graph, refused where they cannot be, and what else goes by them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest

from export.bundle import write_bundle
from export.models import train
from export.models.base import Trained
from export.models.ensemble import assemble
from stream.config import Placement
from stream.contracts import EVENT_TYPES, EventType
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.core.policy.exploring import Explorer
from stream.core.weighing import Weighing
from stream.errors import BundleError, SettingsError
from stream.placements import Explore
from stream.revision import revision_of
from stream.settings.weights import Weights
from tests.support.adopting import adopt
from tests.support.bundles import fixed_weights
from tests.support.engine import NOW_MS, Shop, items, lists
from tests.unit.test_model import random_log

OTHER = Weights(click=-0.7, view=3.0, half_lives_s=(3600.0, 60.0))
HOUR_MS = 3_600_000
HOME = Placement(k=10)


def folded(model: Model, *events: tuple[EventType, float]) -> np.ndarray:
    """One user's state after events on row 5, each by its type and gap."""
    state = np.zeros((1, model.state_size), np.float32)
    for kind, gap_s in events:
        state = model.update(state, np.array([5]), np.array([kind]), np.array([gap_s], np.float32))
    return state


def test_a_weight_of_no_sign_is_one_revision() -> None:
    assert revision_of({}, Weights(view=-0.0)) == revision_of({}, Weights(view=0.0))


def test_the_settings_know_every_type_of_event() -> None:
    fields = [field.name for field in msgspec.structs.fields(Weights)]
    assert fields == [*EVENT_TYPES, "half_lives_s"]


def test_with_its_own_weights_a_graph_computes_as_with_fixed_ones(
    decay_bundle: Bundle, tmp_path: Path
) -> None:
    """To the bit, so that states go on as they are."""
    fixed = fixed_weights(decay_bundle, tmp_path / "fixed")
    assert not fixed.manifest.live_weights
    rng = np.random.default_rng(0)
    types = rng.integers(1, 10, 50)
    events = [(EventType(kind), rng.normal(0, 1e5)) for kind in types.tolist()]
    models = Model(decay_bundle, "cpu"), Model(fixed, "cpu")
    one, other = (folded(model, *events) for model in models)
    assert one.any()
    assert one.tobytes() == other.tobytes()


def test_weights_hold_from_the_next_event_on_and_states_stay(decay_bundle: Bundle) -> None:
    model, item = Model(decay_bundle, "cpu"), decay_bundle.embeddings[5].astype(np.float64)
    before = folded(model, (EventType.CLICK, 0.0))
    model.weigh(Weighing.of(decay_bundle.manifest, OTHER))
    after = model.update(before, np.array([5]), np.array([EventType.CLICK]), np.float32([60]))
    left = 0.2 * np.array([2 ** (-60 / 3600), 0.5]) - 0.7
    np.testing.assert_allclose(after.reshape(2, -1), left[:, None] * item, atol=1e-6)
    bought = folded(model, (EventType.PURCHASE, 0.0))
    np.testing.assert_allclose(bought.reshape(2, -1), np.tile(item, (2, 1)), atol=1e-6)
    model.weigh(Weighing.of(decay_bundle.manifest))
    assert folded(model, (EventType.CLICK, 0.0)).tobytes() == before.tobytes()


@pytest.mark.parametrize("name", ["decay", "mf", "content"])
def test_models_of_fading_sums_have_live_weights(name: str, tmp_path: Path) -> None:
    bundle = write_bundle(train(name, random_log(events=400), dim=8), tmp_path / "bundle")
    assert bundle.manifest.live_weights
    model = Model(bundle, "cpu")
    model.weigh(Weighing.of(bundle.manifest, Weights(like=2.0)))
    purchase = folded(model, (EventType.PURCHASE, 0.0))
    np.testing.assert_allclose(folded(model, (EventType.LIKE, 0.0)), 2 * purchase, rtol=1e-6)


def test_others_say_that_theirs_are_fixed(tmp_path: Path) -> None:
    trained = train("cooccurrence", random_log(events=400), dim=8)
    manifest = write_bundle(trained, tmp_path / "bundle").manifest
    assert not manifest.live_weights
    assert Weighing.of(manifest).inputs == {}
    for weights in (Weights(like=0.0), Weights(half_lives_s=(60.0,))):
        said = r"weights\.\w+: .* model \(cooccurrence\) has its weights fixed"
        with pytest.raises(SettingsError, match=said):
            Weighing.of(manifest, weights)


def test_members_of_an_ensemble_fold_by_the_weights_in_force(tmp_path: Path) -> None:
    """Each to the bit as alone; the half-lives are its own ones of all."""
    log, sizes = random_log(), {"decay": 8, "cooccurrence": 8, "mf": 8}
    members = [train(name, log, dim=dim) for name, dim in sizes.items()]
    bundle = write_bundle(assemble(members, (0.2, 0.3, 0.5)), tmp_path / "whole")
    assert bundle.manifest.live_weights
    assert bundle.manifest.half_lives_s == (2_592_000.0, 7_200.0, *of_mf(members[2]))
    given = {"decay": (3_600.0, 60.0), "cooccurrence": None, "mf": (900.0,)}
    all_of = Weights(click=-0.7, view=3.0, half_lives_s=(3_600.0, 60.0, 900.0))
    rng = np.random.default_rng(0)
    types = rng.integers(1, 10, 50)
    events = [(EventType(kind), rng.normal(0, 1e3)) for kind in types.tolist()]
    models = {"whole": Model(bundle, "cpu")}
    for member in members:
        alone = write_bundle(member, tmp_path / member.model)
        models[member.model] = Model(alone, "cpu")
    before = folded(models["whole"], *events)
    models["whole"].weigh(Weighing.of(bundle.manifest, all_of))
    for name, half_lives_s in given.items():
        if half_lives_s is not None:
            weights = msgspec.structs.replace(all_of, half_lives_s=half_lives_s)
            models[name].weigh(Weighing.of(models[name].bundle.manifest, weights))
    after, begin = folded(models["whole"], *events), 0
    for name, half_lives_s in given.items():
        stop = begin + models[name].state_size
        found = after[:, begin:stop]
        assert found.tobytes() == folded(models[name], *events).tobytes()
        assert (found.tobytes() == before[:, begin:stop].tobytes()) == (half_lives_s is None)
        begin = stop
    with pytest.raises(SettingsError, match=r"half_lives_s: has 2; .* sums, 3 \(its own: 2\.592"):
        Weighing.of(bundle.manifest, Weights(half_lives_s=(60.0, 60.0)))


def of_mf(trained: Trained) -> tuple[float, ...]:
    assert trained.additive is not None
    return tuple(fading.half_life_s for fading in trained.additive.sums)


def test_lists_of_an_ensemble_follow(tmp_path: Path) -> None:
    log = random_log(events=400)
    members = [train(name, log, dim=8) for name in ("mf", "cooccurrence")]
    bundle = write_bundle(assemble(members, (0.7, 0.3)), tmp_path / "bundle")
    weights = Weights(like=-2.0, half_lives_s=(60.0,))
    mine, other = Shop(bundle, home=HOME), Shop(bundle, weights=weights, home=HOME)
    (before,) = lists(mine.step({"user_id": "before", "item_id": "i7", "type": "like"}))
    weigh(mine, weights)
    events = [{"item_id": "i7", "type": "like"}, {"item_id": "i9", "type": "view"}]
    (record,), (wanted,) = lists(mine.step(*events)), lists(other.step(*events))
    assert record.lists == wanted.lists
    assert record.settings == wanted.settings == revision_of({"home": HOME}, weights)
    assert record.settings != before.settings


@pytest.mark.parametrize("half_lives_s", [(60.0,), (60.0, 60.0, 60.0)])
def test_there_must_be_a_half_life_for_each_sum(
    decay_bundle: Bundle, half_lives_s: tuple[float, ...]
) -> None:
    words = rf"weights\.half_lives_s: has {len(half_lives_s)}; .* 2 \(its own: 2\.592e\+06, 7200\)"
    with pytest.raises(SettingsError, match=words):
        Weighing.of(decay_bundle.manifest, Weights(half_lives_s=half_lives_s))


def test_what_the_manifest_says_must_be_what_the_graph_takes(tmp_path: Path) -> None:
    trained = train("decay", random_log(events=400), dim=8)
    for live in (True, False):
        silent = dataclasses.replace(trained, live_weights=live, additive=trained.additive)
        bundle = write_bundle(silent, tmp_path / str(live))
        if live:
            Model(bundle, "cpu")
        else:
            with pytest.raises(BundleError, match=r"update\.onnx: .* live_weights false"):
                Model(bundle, "cpu")
    with pytest.raises(BundleError, match="live_weights need additive sums"):
        write_bundle(dataclasses.replace(trained, additive=None), tmp_path / "no sums")
    for half_lives_s, words in (((0.0,), "must be positive"), ((60.0,) * 65, "more than 64")):
        named = dataclasses.replace(trained, additive=None, half_lives_s=half_lives_s)
        with pytest.raises(BundleError, match=words):
            write_bundle(named, tmp_path / words)
    with pytest.raises(BundleError, match="additive sums or else half_lives_s"):
        write_bundle(dataclasses.replace(trained, half_lives_s=(60.0,)), tmp_path / "twice")
    named = dataclasses.replace(trained, additive=None, half_lives_s=(60.0,))
    fewer = write_bundle(named, tmp_path / "fewer")
    with pytest.raises(BundleError, match=r"fading_rates is 2 wide, the manifest says 1"):
        Model(fewer, "cpu")
    assert trained.additive is not None
    one_sum = msgspec.structs.replace(trained.additive, sums=trained.additive.sums[:1])
    with pytest.raises(BundleError, match="do not fill the state"):
        write_bundle(dataclasses.replace(trained, additive=one_sum), tmp_path / "one sum")


def weigh(shop: Shop, weights: Weights) -> None:
    adopt(shop.engine, {"home": HOME}, weights, NOW_MS)


def test_lists_reasons_and_provenance_follow(decay_bundle: Bundle) -> None:
    mine, other = Shop(decay_bundle, home=HOME), Shop(decay_bundle, weights=OTHER, home=HOME)
    began = mine.step({"item_id": "i7", "type": "like"})
    (of_start,) = lists(began)
    weigh(mine, OTHER)
    events = [
        {"user_id": "v", "item_id": "i7"},
        {"user_id": "v", "item_id": "i9", "type": "like"},
        {"user_id": "v", "item_id": "i3", "type": "view"},
    ]
    (record,), (wanted,) = lists(mine.step(*events)), lists(other.step(*events))
    assert record.lists == wanted.lists
    named = {item.reason.item_id for item in record.lists["home"].items}
    assert "i3" in named  # a view of 3 is more than a like
    assert "i7" not in named  # a click turns away now
    assert record.settings == wanted.settings != of_start.settings
    assert record.settings == revision_of({"home": HOME}, OTHER)
    weigh(mine, Weights())
    (back,) = lists(mine.step({"user_id": "w", "item_id": "i7"}))
    assert back.settings == of_start.settings


def test_what_exploring_has_paid_is_counted_anew_by_other_weights(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, home=Placement(k=10))

    def key() -> bytes:
        model, counts = shop.engine.model, shop.engine._own_counts
        assert counts is not None
        return Explorer("home", Explore(temperature=0.2), model, shop.catalogue, counts)._key

    before = key()
    weigh(shop, Weights(click=0.5))
    assert key() != before
    weigh(shop, Weights())
    assert key() == before


def test_fewer_old_events_count_by_a_shorter_half_life(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, home=Placement(k=10, exclude_seen=False))
    purchase = {"item_id": "i7", "type": "purchase", "event_time_ms": NOW_MS - HOUR_MS}
    first = items(shop.step(purchase))
    weigh(shop, Weights(half_lives_s=(60.0, 60.0)))
    shop.step({"item_id": "unknown"})
    guest = items(shop.step({"user_id": "guest", "item_id": "unknown"}))
    assert items(shop.step({"item_id": "unknown"})) == guest != first


def test_a_revision_is_the_same_where_no_weight_is_set() -> None:
    placements = {"home": Placement()}
    revisions = [revision_of(placements, of) for of in (Weights(), Weights(click=0.2), OTHER)]
    assert revisions[0] == revision_of(placements)
    assert len(set(revisions)) == 3
