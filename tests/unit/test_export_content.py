"""Content: the same features everywhere, a map that the graph repeats, cold items above chance."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.data.dataset import Log
from export.models import content_map, train
from export.models.content import record
from export.models.content_map import ContentMap
from stream.contracts import EventType, Item
from stream.core.content import MAX_TAGS, MAX_TITLE, Features, features, texts
from stream.errors import UsageError

BEGIN_MS = 1_700_000_000_000
THEMES = (
    "garden lantern",
    "kitchen mug",
    "party bunting",
    "travel bag",
    "retro clock",
    "wool scarf",
)


def themed_log(themes: int = 6, of_each: int = 12, visits: int = 240) -> Log:
    """Visits that stay within a theme, whose items' titles name it."""
    rng = np.random.default_rng(0)
    theme = np.repeat(np.arange(visits) % themes, 6)
    item = theme * of_each + rng.integers(0, of_each, len(theme))
    colours = ("red", "blue", "green", "white")
    return Log(
        users=[f"u{i}" for i in range(visits)],
        items=[f"i{i}" for i in range(themes * of_each)],
        user=np.repeat(np.arange(visits), 6),
        item=item,
        event_type=np.full(len(item), int(EventType.PURCHASE)),
        time_ms=BEGIN_MS + np.arange(len(item)) * 60_000,
        session=np.repeat(np.arange(visits), 6),
        quantity=np.ones(len(item)),
        price=np.ones(len(item)),
        titles={
            f"i{i}": f"{THEMES[i // of_each]} {colours[i % 4]} no {i % of_each}".upper()
            for i in range(themes * of_each)
        },
    )


def test_what_is_hashed_of_an_item() -> None:
    item = Item(
        "i1",
        kind="coupon",
        title="Red Mug, 3L!",
        category="Home.Kitchen > Mugs",
        brand=" ACME ",
        price=3.0,
        tags=("Gift idea", ""),
    )
    assert texts(item) == [
        *("w:red", "n:<re", "n:red", "n:ed>", "n:<red", "n:red>"),
        *("w:mug", "n:<mu", "n:mug", "n:ug>", "n:<mug", "n:mug>"),
        *("w:3l", "n:<3l", "n:3l>", "n:<3l>"),
        *("p:red mug", "p:mug 3l"),
        *("c:home", "c:home/kitchen", "c:home/kitchen/mugs"),
        *("b:acme", "t:gift", "t:idea", "$:1", "k:coupon"),
    ]
    assert texts(Item("i2", kind="shop", available=False)) == []


def test_features_are_the_same_for_ever() -> None:
    """Bundles hold what was learned of these ids: another hash would make noise of them."""
    found = features([Item("i", title="mug"), Item("j")], 4096, 0)
    assert found.ids.tolist() == [[572, 2649, 1999, 3204, 2444, 2560, 4017], [0] * 7]
    assert found.values.tolist() == [[-1, -1, -1, -1, 1, 1, 1], [0] * 7]
    twice = features([Item("i", title="mug mug")], 4096, 0)
    assert dict(zip(twice.ids[0].tolist(), twice.values[0].tolist(), strict=True))[572] == -2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Item("a", title="RED  mug"), Item("b", title="red mug")),
        (Item("a", title="\uff52\uff45\uff44 mug"), Item("b", title="red mug")),  # full width
        (Item("a", brand="Straße"), Item("b", brand="STRASSE")),
        (Item("a", category="x.y"), Item("b", category=" X / Y ")),
        (Item("a", price=4.0), Item("b", price=5.0)),
    ],
)
def test_the_same_written_otherwise_is_the_same(one: Item, other: Item) -> None:
    found = features([one, other], 4096, 0)
    assert sorted(texts(one)) == sorted(texts(other))
    assert (found.ids[0] == found.ids[1]).all()
    assert (found.values[0] == found.values[1]).all()


def test_a_price_has_a_step_a_doubling() -> None:
    def step(price: float) -> list[str]:
        return [text for text in texts(Item("i", price=price)) if text.startswith("$")]

    assert len({tuple(step(price)) for price in np.linspace(1, 3.99, 50)}) == 2
    assert step(1) != step(0.99)
    assert step(0) == step(math.inf) == []
    assert len(step(5e-324)) == len(step(1.7e308)) == 1


@settings(deadline=None, max_examples=50)
@given(
    title=st.text(max_size=2_000),
    category=st.text(max_size=600),
    tags=st.lists(st.text(max_size=20), max_size=100),
    price=st.floats(min_value=0, allow_nan=False),
    embedding=st.lists(st.floats(width=32), min_size=3, max_size=4),
)
def test_whatever_a_record_says_has_bounded_features(
    title: str, category: str, tags: list[str], price: float, embedding: list[float]
) -> None:
    item = Item(
        "i",
        title=title,
        category=category,
        price=price,
        tags=tuple(tags),
        embedding=tuple(embedding),
    )
    found = features([item, Item("none")], 64, 3)
    assert found.ids.shape == found.values.shape
    assert found.ids.shape[1] <= 64 + 3
    assert ((found.ids >= 0) & (found.ids < 64 + 3)).all()
    assert np.isfinite(found.values).all()
    assert not found.values[1].any()
    assert len(texts(item)) < 4 * MAX_TITLE + 64 * MAX_TAGS


def test_long_lists_and_titles_are_cut() -> None:
    assert len(texts(Item("i", tags=("new",) * 1_000))) == MAX_TAGS + 1
    assert texts(Item("i", title="a " * 1_000)).count("w:a") == MAX_TITLE // 2
    assert len(texts(Item("i", brand="x" * 10_000))[0]) == len("b:") + 256


def test_an_embedding_follows_the_texts_at_length_1() -> None:
    items = [Item("a", embedding=(3.0, 4.0)), Item("b", embedding=(1.0, 2.0, 3.0)),
             Item("c", embedding=(0.0, 0.0)), Item("d", embedding=(math.nan, 1.0))]  # fmt: skip
    found = features(items, 16, 2)
    assert found.ids[0].tolist() == [16, 17]
    np.testing.assert_allclose(found.values[0], [0.6, 0.8])
    assert not found.values[1:].any()


def some_map(items: int, size: int, embedding: int = 0) -> tuple[ContentMap, Features, np.ndarray]:
    rng = np.random.default_rng(0)
    given = [tuple(rng.normal(size=embedding)) if embedding else None for _ in range(items)]
    found = features(
        [Item(f"i{i}", title=f"thing {i % 7} of {i}", embedding=given[i]) for i in range(items)],
        size,
        embedding,
    )
    vectors = rng.normal(size=(items, 5))
    return ContentMap.fit(found, vectors, size, embedding, 0.5), found, vectors


@pytest.mark.parametrize(("items", "size"), [(40, 256), (40, 16)])
def test_the_map_is_the_ridge_regression(items: int, size: int) -> None:
    made, found, vectors = some_map(items, size)
    rows = np.zeros((items, size))
    for row, (ids, weights) in enumerate(zip(found.ids, made.weights(found), strict=True)):
        np.add.at(rows[row], ids, weights)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
    stacked = np.concatenate([rows, math.sqrt(0.5) * np.eye(size)])
    aims = np.concatenate([vectors, np.zeros((size, 5))])
    expected = np.linalg.lstsq(stacked, aims, rcond=None)[0]
    np.testing.assert_allclose(made.matrix, expected, atol=1e-5)


def test_a_rare_word_weighs_more_than_a_common_one() -> None:
    items = [Item(f"i{i}", title=f"common w{i}") for i in range(30)]
    found = features(items, 4096, 0)
    made = ContentMap.fit(found, np.eye(30), 4096, 0, 1.0)
    common, rare = features([Item("a", brand="x", title=t) for t in ("common", "w3")], 4096, 0)[0]
    assert made.idf[features([Item("a", title="common")], 4096, 0).ids].min() == 1
    assert made.idf[rare].max() > 2
    assert made.idf[common].max() > 3  # the brand, which no item has: as rare as can be


@pytest.mark.parametrize("embedding", [0, 3])
def test_the_graph_is_the_reference_and_padding_says_nothing(embedding: int) -> None:
    made, found, _ = some_map(40, 64, embedding)
    session = ort.InferenceSession(made.to_onnx(), providers=["CPUExecutionProvider"])

    def run(some: Features) -> np.ndarray:
        (vectors,) = session.run(None, {"feature_ids": some.ids, "feature_values": some.values})
        return np.asarray(vectors)

    assert (made.idf[64:] == 1).all()  # of the embedding's numbers
    whole = run(found)
    np.testing.assert_allclose(whole, made.vectors(found), atol=1e-6)
    assert np.linalg.norm(whole, axis=1).min() > 0.1
    wide = Features(np.pad(found.ids, ((0, 0), (0, 9))), np.pad(found.values, ((0, 0), (0, 9))))
    np.testing.assert_allclose(run(wide), whole, atol=1e-6)
    single = np.concatenate([run(found.of(slice(i, i + 1))) for i in range(40)])
    np.testing.assert_allclose(single, whole, atol=1e-6)
    nothing = Features(np.zeros((2, 4), np.int64), np.zeros((2, 4), np.float32))
    assert not run(nothing).any()
    assert run(nothing.of(slice(0))).shape == (0, 5)
    no_features = Features(np.zeros((2, 0), np.int64), np.zeros((2, 0), np.float32))
    assert run(no_features).tolist() == [[0] * 5] * 2


def above_chance(log: Log, cold: np.ndarray) -> float:
    """How far up, among items held out of training, those of the theme of warm ones stand: 0.5 is
    chance."""
    trained = train("content", log.select(~cold[log.item]), dim=8)
    assert trained.content is not None
    ids = np.flatnonzero(cold)
    found = features(
        [record(log, log.items[i]) for i in ids], trained.content.size, trained.content.embedding
    )
    vectors = trained.content.vectors(found)
    ranks = []
    for row, item_id in enumerate(trained.item_ids[1:], 1):
        theme = int(item_id[1:]) // 12
        order = np.argsort(np.argsort(vectors @ trained.embeddings[row]))
        ranks.append(order[ids // 12 == theme].mean() / (len(ids) - 1))
    return float(np.mean(ranks))


def test_items_held_out_of_training_are_ranked_above_chance() -> None:
    log = themed_log()
    cold = np.random.default_rng(1).random(len(log.items)) < 0.3
    assert above_chance(log, cold) > 0.85
    shuffled = themed_log()
    titles = list(shuffled.titles.values())
    np.random.default_rng(2).shuffle(titles)
    shuffled.titles = dict(zip(shuffled.titles, titles, strict=True))
    assert above_chance(shuffled, cold) < 0.65


def test_attributes_and_embeddings_say_it_as_well_as_titles() -> None:
    cold = np.random.default_rng(1).random(72) < 0.3
    by_category = themed_log()
    by_category.titles = {}
    by_category.attributes = {f"i{i}": {"category": f"shop.{i // 12}"} for i in range(72)}
    assert above_chance(by_category, cold) > 0.85
    by_image = themed_log()
    rng = np.random.default_rng(3)
    images = np.eye(6, 10)[np.arange(72) // 12] + rng.normal(0, 0.1, (72, 10))
    by_image.titles = {}
    by_image.embeddings = {f"i{i}": tuple(images[i]) for i in range(72)}
    assert above_chance(by_image, cold) > 0.85


def test_what_users_did_counts_more_the_more_they_did() -> None:
    log = themed_log()
    plain, fused = train("mf", log, dim=8), train("content", log, dim=8, trust=10.0)
    assert fused.content is not None
    found = features([record(log, i) for i in fused.item_ids], 4096, 0)
    sessions = np.array(
        [0, *(len(set(log.session[log.item == log.items.index(i)])) for i in fused.item_ids[1:])]
    )
    share = (sessions / (sessions + 10))[:, None]
    expected = share * plain.embeddings + (1 - share) * fused.content.vectors(found)
    np.testing.assert_allclose(fused.embeddings[1:], expected[1:], atol=1e-6)
    assert not fused.embeddings[0].any()


def test_an_item_of_which_nothing_is_known_keeps_its_factors() -> None:
    log = themed_log()
    del log.titles["i5"]
    plain, fused = train("mf", log, dim=8), train("content", log, dim=8)
    row = fused.item_ids.index("i5")
    np.testing.assert_array_equal(fused.embeddings[row], plain.embeddings[row])
    assert (fused.embeddings[row + 1] != plain.embeddings[row + 1]).any()


def test_what_cannot_be_learned_from_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    log = themed_log()
    titles, log.titles = log.titles, {}
    with pytest.raises(UsageError, match="train --model mf"):
        train("content", log)
    log.embeddings = {"i1": (1.0,), "i2": (1.0, 2.0)}
    with pytest.raises(UsageError, match="2 lengths, 1 to 2"):
        train("content", log)
    log.titles, log.embeddings = titles, {}
    monkeypatch.setattr(content_map, "MAX_FEATURES", 4_000)
    with pytest.raises(UsageError, match="features=N"):
        train("content", log)


def test_a_record_is_what_the_log_knows() -> None:
    log = themed_log()
    log.attributes = {
        "i0": {"category": "a.b", "brand": "x", "price": "2.5", "tags": "new, ,sale", "kind": "ad"},
        "i1": {"price": "cheap", "kind": "nonsense"},
        "i2": {"price": "inf", "tags": "new sale"},
        "i3": {"price": "8-16"},
        "i4": {"price": "1e-05-2e-05"},
    }
    assert record(log, "i0") == Item(
        "i0", "ad", log.titles["i0"], "a.b", "x", 2.5, tags=("new", "sale")
    )
    assert (record(log, "i1").kind, record(log, "i1").price) == ("product", None)
    assert record(log, "i2").price is None
    assert record(log, "i2").tags == ("new", "sale")
    assert record(log, "i3").price == 8
    assert record(log, "i4").price == 1e-5
