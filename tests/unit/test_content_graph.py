"""An item that training never saw: its record arrives, and lists can hold it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from export.bundle import write_bundle
from export.data.dataset import Log
from export.models import train
from export.models.base import Trained
from export.models.content import record as record_of
from stream.config import Placement, load_settings
from stream.contracts import EventType, Item, ListedItem, decode_recommendation
from stream.core import content as tokens
from stream.core import content_graph
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.content import features
from stream.core.content_graph import ContentGraph
from stream.core.engine import Engine
from stream.core.model import Model
from stream.errors import BundleError
from stream.feed import CatalogueFeed
from stream.kafka.batches import RecordBatch
from stream.placements import Explore
from tests.support.hostile_bundles import DEMO, seal
from tests.support.parts import Part

BEGIN_MS = 1_700_000_000_000
THEMES = ("garden lantern", "kitchen mug", "party bunting", "travel bag")
DIM = 8


def themed_log(embedding: int = 0) -> Log:
    """Visits that stay within a theme of eight items, whose titles name it."""
    rng = np.random.default_rng(0)
    theme = np.repeat(np.arange(200) % len(THEMES), 5)
    item = theme * 8 + rng.integers(0, 8, len(theme))
    n, items = len(item), 8 * len(THEMES)
    images = np.eye(len(THEMES), embedding) if embedding else np.zeros((len(THEMES), 0))
    return Log(
        users=[f"u{i}" for i in range(200)],
        items=[f"i{i}" for i in range(items)],
        user=np.repeat(np.arange(200), 5),
        item=item,
        event_type=np.full(n, int(EventType.PURCHASE)),
        time_ms=BEGIN_MS + np.arange(n) * 60_000,
        session=np.repeat(np.arange(200), 5),
        quantity=np.ones(n),
        price=np.ones(n),
        titles={} if embedding else {f"i{i}": f"{THEMES[i // 8]} {i}" for i in range(items)},
        embeddings={f"i{i}": tuple(images[i // 8]) for i in range(items) if embedding},
    )


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train("content", themed_log(), dim=DIM, features=512)


@pytest.fixture(scope="module")
def written(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(trained, tmp_path_factory.mktemp("content") / "bundle").path


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "bundle"))


class Shop:
    """A bundle that serves, and the feed of its catalogue; no broker."""

    def __init__(self, folder: Path, home: Placement | None = None) -> None:
        self.model = Model(Bundle.load(folder), "cpu")
        self.catalogue = Catalogue(self.model.bundle.item_ids)
        self.engine = Engine(
            self.model,
            self.catalogue,
            kinds={"purchases": "purchases"},
            placements={"home": home or Placement(k=3)},
            ring=10,
        )
        self.feed = CatalogueFeed(
            load_settings(environ={}),
            self.catalogue,
            DIM,
            owns=lambda partition: True,
            content=self.model.content,
        )
        self.shard = self.engine.new_shard(0, 1)
        self.offset = 0

    def put(self, *items: dict[str, Any]) -> None:
        self.feed._put([Arrived(msgspec.json.encode(item), item["item_id"]) for item in items])

    def vector(self, item_id: str) -> np.ndarray:
        self.engine._lists.follow_catalogue(now_ms=0)
        return self.model.embeddings[self.catalogue.rows([item_id])[0]].copy()

    def listed_after(self, item_id: str) -> list[str]:
        return [item.item_id for item in self.list_after(item_id)]

    def list_after(self, item_id: str, now_ms: int = BEGIN_MS) -> list[ListedItem]:
        """The list of a new user who bought an item."""
        self.offset += 1
        user = f"u{self.offset}"
        event = {"user_id": user, "item_id": item_id, "type": "purchase", "event_time_ms": BEGIN_MS}
        batch = RecordBatch(
            "purchases", 0, 0, 1, [user.encode()], [json.dumps(event).encode()], [self.offset], [0]
        )
        (part,) = self.engine.step([Part(self.shard, batch)], now_ms).parts
        (listed,) = part.list_values
        return decode_recommendation(listed).lists["home"].items


class Arrived:
    """A record of the items topic."""

    partition, offset = 0, 0
    headers: Sequence[tuple[str, bytes | None]] = ()

    def __init__(self, value: bytes, item_id: str) -> None:
        self.key, self.value = item_id.encode(), value


def test_the_bundle_makes_the_vectors_that_training_would(trained: Trained, written: Path) -> None:
    graph = Model(Bundle.load(written), "cpu").content
    assert graph is not None
    assert trained.content is not None
    items = [Item(f"n{i}", title=f"{THEMES[i % 4]} xyz {i}", price=float(i)) for i in range(150)]
    found = graph.vectors(items)
    np.testing.assert_allclose(found, trained.content.vectors(features(items, 512, 0)), atol=1e-6)
    assert found.shape == (150, DIM)
    assert graph.vectors([]).shape == (0, DIM)
    assert not graph.vectors([Item("silent")]).any()
    log = themed_log()
    known = graph.vectors([record_of(log, item_id) for item_id in trained.item_ids[1:]])
    cosine = (known * trained.embeddings[1:]).sum(axis=1) / (
        np.linalg.norm(known, axis=1) * np.linalg.norm(trained.embeddings[1:], axis=1)
    )
    assert cosine.min() > 0.5


def test_an_item_is_listed_from_the_moment_its_record_arrives(written: Path) -> None:
    shop = Shop(written)
    shop.put(
        {"item_id": "i8"}, {"item_id": "i0"}, {"item_id": "new mug", "title": "Kitchen Mug, red"}
    )
    shop.put({"item_id": "new bag", "title": "TRAVEL BAG"}, {"item_id": "odd", "title": "qqq"})
    assert shop.listed_after("i9")[0] in ("i8", "new mug")
    assert set(shop.listed_after("i9")[:2]) == {"i8", "new mug"}
    assert shop.listed_after("i25")[0] == "new bag"
    assert shop.listed_after("new bag")[0] != "new mug"  # and it moves its buyers


def test_a_new_item_is_shown_to_who_it_fits_within_a_second_of_its_record(written: Path) -> None:
    """By the content map of the bundle, and the bonus of a placement that explores."""
    explores = Placement(k=6, beta=8.0, explore=Explore(optimism=4.0))
    shop = Shop(written, explores)
    shop.put(*({"item_id": item_id} for item_id in shop.model.bundle.item_ids[1:]))
    lately_ms = BEGIN_MS + 10_000
    assert "new mug" not in {item.item_id for item in shop.list_after("i9", lately_ms)}
    shop.put({"item_id": "new mug", "title": "Kitchen mug, red"})
    fitting = {item.item_id: item for item in shop.list_after("i9", lately_ms + 1000)}
    assert fitting["new mug"].reason.code == "new"
    assert "new mug" not in {item.item_id for item in shop.list_after("i25", lately_ms + 1000)}
    # Without the bonus the mugs that everybody knows come first.
    plain = Shop(written, Placement(k=6, beta=8.0))
    plain.put(*({"item_id": item_id} for item_id in shop.model.bundle.item_ids[1:]))
    plain.put({"item_id": "new mug", "title": "Kitchen mug, red"})
    ranks = {item.item_id: item.rank for item in plain.list_after("i9", lately_ms)}
    assert ranks.get("new mug", 7) > fitting["new mug"].rank


def test_a_changed_record_changes_the_vector_and_a_trained_item_keeps_its_own(
    written: Path,
) -> None:
    shop = Shop(written)
    shop.put({"item_id": "new", "title": "kitchen mug"}, {"item_id": "i0", "title": "kitchen mug"})
    mug, trained_vector = shop.vector("new"), shop.vector("i0")
    assert (trained_vector == shop.model.bundle.embeddings[shop.catalogue.rows(["i0"])[0]]).all()
    shop.put({"item_id": "new", "title": "travel bag"})
    assert np.abs(shop.vector("new") - mug).max() > 0.1
    shop.put({"item_id": "new"})
    assert not shop.vector("new").any()


def test_a_vector_that_comes_with_the_record_wins(written: Path) -> None:
    shop = Shop(written)
    shop.put({"item_id": "new", "title": "kitchen mug", "embedding": [0, 2] + [0] * (DIM - 2)})
    assert shop.vector("new").tolist() == [0, 1] + [0] * (DIM - 2)
    shop.put(
        {"item_id": "later", "title": "kitchen mug"},
        {"item_id": "later", "title": "kitchen mug", "embedding": [3] + [0] * (DIM - 1)},
    )
    assert shop.vector("later").tolist() == [1] + [0] * (DIM - 1)
    shop.put({"item_id": "worse", "embedding": [1, 2, 3]})
    assert [bad.reason for bad in shop.feed._bad] == ["out_of_range"]


def test_where_content_reads_embeddings_a_records_is_one_of_those(tmp_path: Path) -> None:
    trained = train("content", themed_log(embedding=5), dim=DIM, features=64)
    shop = Shop(write_bundle(trained, tmp_path / "bundle").path)
    one, other = np.eye(4, 5)[1], np.eye(4, 5)[3]
    shop.put(
        {"item_id": "a", "embedding": one.tolist()},
        {"item_id": "b", "embedding": (9 * one).tolist()},
    )
    shop.put({"item_id": "c", "embedding": other.tolist()})
    a, b, c = (shop.vector(item_id) for item_id in "abc")
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert np.abs(a - c).max() > 0.1
    row = trained.item_ids.index("i8")
    assert a @ trained.embeddings[row] > abs(c @ trained.embeddings[row])
    shop.put({"item_id": "d", "embedding": [1.0] * DIM}, {"item_id": "e", "embedding": [0] * 5})
    assert [bad.reason for bad in shop.feed._bad] == ["out_of_range"] * 2
    assert shop.catalogue.rows(["d", "e"]).tolist() == [0, 0]


def test_numbers_that_are_not_finite_are_no_vector(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = ContentGraph.of(Bundle.load(written))
    assert graph is not None
    monkeypatch.setattr(graph, "_run", lambda some: np.full((len(some.ids), DIM), np.nan))
    assert not graph.vectors([Item("a", title="kitchen mug")]).any()


def test_items_by_the_dozen_are_described_like_one_by_one(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = ContentGraph.of(Bundle.load(written))
    assert graph is not None
    items = [Item(f"n{i}", title=THEMES[i % 4] * (1 + i % 5)) for i in range(30)]
    whole = graph.vectors(items)
    monkeypatch.setattr(content_graph, "AT_ONCE", 7)
    np.testing.assert_allclose(graph.vectors(items), whole, atol=1e-6)


def test_records_read_otherwise_than_in_training_are_found_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "GRAMS", (3,))
    with pytest.raises(BundleError, match=r"content\.onnx: differs by up to .* otherwise than"):
        Model(Bundle.load(folder), "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 513, "embedding": 0}, "cannot be run"),
        ({"size": 512, "embedding": 1}, "cannot be run"),
        ({"size": 256, "embedding": 0}, "differs by up to"),
        ({"size": 0, "embedding": 0}, "content must have 1 to"),
        ({"size": 1 << 21, "embedding": 0}, "content must have 1 to"),
        ({"size": 1, "embedding": -1}, "content must have 1 to"),
        ({"size": 1, "embedding": 10**9}, "content must have 1 to"),
        (None, "lists files that format 1 does not know"),
    ],
)
def test_a_manifest_that_claims_other_content_is_refused(
    folder: Path, change: object, message: str
) -> None:
    seal(folder, lambda fields: fields.update(content=change))
    with pytest.raises(BundleError, match=message):
        Model(Bundle.load(folder), "cpu")


def test_a_bundle_without_its_content_graph_is_refused(folder: Path) -> None:
    seal(folder, lambda fields: fields["files"].pop("content.onnx"))
    with pytest.raises(BundleError, match=r"lists no 'content\.onnx'"):
        Bundle.load(folder)


def test_another_graph_in_its_place_is_refused(folder: Path) -> None:
    shutil.copy(folder / "score.onnx", folder / "content.onnx")
    seal(folder)
    with pytest.raises(BundleError, match=r"content\.onnx: inputs or outputs are not those"):
        Model(Bundle.load(folder), "cpu")
    (folder / "content.onnx").write_bytes(b"\x08\xff")
    seal(folder)
    with pytest.raises(BundleError, match=r"content\.onnx: "):
        Bundle.load(folder)


def test_records_that_prove_nothing_are_refused(folder: Path) -> None:
    golden = dict(np.load(folder / "golden.npz", allow_pickle=False))
    for records in (
        np.array(["{"] * len(golden["content_records"])),
        np.zeros(3),
        np.array([], "U"),
    ):
        np.savez_compressed(folder / "golden.npz", **{**golden, "content_records": records})
        seal(folder)
        with pytest.raises(BundleError, match="content"):
            Model(Bundle.load(folder), "cpu")


def test_a_bundle_of_before_has_no_content() -> None:
    bundle = Bundle.load(DEMO)
    assert bundle.content is None
    assert Model(bundle, "cpu").content is None
