"""The loader refuses whatever is not exactly what was written, and says what to do."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream.core.bundle import MANIFEST, Bundle, Head
from stream.core.model import Model
from stream.errors import BundleError
from tests.support.bundles import random_decay_bundle
from tests.support.hostile_bundles import DEMO, FILES, Fields, seal

SUMS = [{"half_life_s": 10.0, "share": 1.0}, {"half_life_s": 1.0, "share": 0.5}]


@pytest.fixture(scope="module")
def decay_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_decay_bundle(tmp_path_factory.mktemp("bundles") / "decay", 500).path


@pytest.fixture
def folder(decay_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(decay_bundle, tmp_path / "bundle"))


def reshape(folder: Path, name: str, change: Callable[[Fields], None]) -> None:
    """Change the arrays of an npz file and seal the bundle."""
    with np.load(folder / name) as archive:
        arrays = dict(archive)
    change(arrays)
    target = io.BytesIO()
    np.savez(target, **arrays)
    (folder / name).write_bytes(target.getvalue())
    seal(folder)


def test_loads_what_was_written(folder: Path) -> None:
    bundle = Bundle.load(folder)
    assert bundle.item_ids[0] == ""
    assert not bundle.embeddings[0].any()
    assert bundle.biases[0] == np.float32(-1e30)
    assert bundle.embeddings.shape == (bundle.manifest.items, bundle.manifest.embedding_dim)
    assert bundle.version == int(bundle.bundle_id[:8], 16)
    seal(folder)
    assert Bundle.load(folder).bundle_id == bundle.bundle_id


def test_a_bundle_that_says_nothing_of_bought_items_excludes_them(folder: Path) -> None:
    seal(folder, lambda fields: fields.pop("exclude_bought", None))
    assert Bundle.load(folder).manifest.exclude_bought
    seal(folder, lambda fields: fields.update(exclude_bought=False))
    assert not Bundle.load(folder).manifest.exclude_bought
    seal(folder, lambda fields: fields.update(exclude_bought=1))
    with pytest.raises(BundleError, match="exclude_bought"):
        Bundle.load(folder)


def test_a_bundle_may_name_its_head(folder: Path) -> None:
    seal(folder, lambda fields: fields.pop("head", None))
    assert Bundle.load(folder).manifest.head is None
    seal(folder, lambda fields: fields.update(head={"affinity": "cosine", "loss": "softmax"}))
    assert Bundle.load(folder).manifest.head == Head("cosine", "softmax", "sigmoid")
    seal(folder, lambda fields: fields.update(head={"affinity": "cosine", "loss": 1}))
    with pytest.raises(BundleError, match=r"head\.loss"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_flipped_byte_anywhere_is_found(folder: Path, name: str) -> None:
    file = folder / name
    content = file.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(content), 25):
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        file.write_bytes(damaged)
        with pytest.raises(BundleError, match=name):
            Bundle.load(folder)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("left", ["nothing", "half", "folder"])
def test_a_missing_or_cut_file_is_named(folder: Path, name: str, left: str) -> None:
    file = folder / name
    content = file.read_bytes()
    file.unlink()
    if left == "half":
        file.write_bytes(content[: len(content) // 2])
    elif left == "folder":
        file.mkdir()
    with pytest.raises(BundleError, match=name):
        Bundle.load(folder)


def test_no_folder_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="freshet-export train"):
        Bundle.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", 0, "older.*make the bundle again"),
        ("format", 2, "newer.*upgrade Freshet"),
        ("opset", 16, "below"),
        ("opset", 99, "above"),
        ("items", "many", "items"),
        ("surprise", 1, "surprise"),
        ("embedding_dim", 32, "do not fill the state"),
        ("items", 7, "embeddings is float32"),
        ("beta", None, "beta"),
        ("event_types", {"click": 1}, "event_types are not those"),
        ("event_weights", {"clik": 1.0}, "event_weights are of other types"),
        ("additive", {"sums": [], "strength": 1.0}, "do not fill the state"),
        ("additive", {"sums": SUMS[:1], "strength": 1.0}, "do not fill the state"),
        ("additive", {"sums": SUMS, "strength": 0.0}, "must be positive"),
        (
            "additive",
            {"sums": [*SUMS[:1], {"half_life_s": 0.0, "share": 1.0}], "strength": 1.0},
            "must be positive",
        ),
    ],
)
def test_a_manifest_of_another_kind_is_refused(
    folder: Path, field: str, value: object, message: str
) -> None:
    seal(folder, lambda fields: fields.update({field: value}))
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder)


@pytest.mark.parametrize("text", ["[]", "{}", "null", "{", "[" * 100_000, '{"format": "1"}', ""])
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=MANIFEST):
        Bundle.load(folder)


def test_a_manifest_edited_by_hand_is_refused(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"exclude_seen": false', '"exclude_seen": true'))
    assert text != (folder / MANIFEST).read_text()
    with pytest.raises(BundleError, match="id does not match"):
        Bundle.load(folder)
    (folder / MANIFEST).write_text(text.replace('"beta"', '"beta": 1, "beta"', 1))
    with pytest.raises(BundleError, match="twice"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", ".hidden", "a\\b", ""])
def test_no_file_outside_the_folder_is_opened(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("x")
    seal(folder, lambda fields: fields["files"].update({name: "0" * 64}))
    with pytest.raises(BundleError, match="not a plain file name"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_every_file_must_be_listed(folder: Path, name: str) -> None:
    seal(folder, lambda fields: fields["files"].pop(name))
    with pytest.raises(BundleError, match=name):
        Bundle.load(folder)


def test_arrays_are_never_unpickled(folder: Path) -> None:
    def put_object(arrays: Fields) -> None:
        arrays["embeddings"] = np.array([{"a": 1}], dtype=object)

    reshape(folder, "items.npz", put_object)
    with pytest.raises(BundleError, match=r"items\.npz: not a plain NumPy archive"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("name", "array", "change"),
    [
        ("items.npz", "embeddings", lambda a: a.astype(np.float64)),
        ("items.npz", "embeddings", lambda a: a[:-1]),
        ("items.npz", "embeddings", lambda a: a.ravel()),
        ("items.npz", "embeddings", lambda a: a * np.nan),
        ("items.npz", "biases", lambda a: a[:, None]),
        ("items.npz", "item_ids", lambda a: a.astype("S20")),
        ("items.npz", "item_ids", lambda a: np.full_like(a, "same")),
        ("golden.npz", "states", lambda a: a[:, :, 1:]),
        ("golden.npz", "gaps_s", lambda a: a.astype(np.int64)),
        ("golden.npz", "rows", lambda a: a[:0]),
        ("golden.npz", "item_rows", lambda a: a[:0]),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(
    folder: Path, name: str, array: str, change: Callable[[Any], Any]
) -> None:
    reshape(folder, name, lambda arrays: arrays.update({array: change(arrays[array])}))
    with pytest.raises(BundleError, match=name):
        Bundle.load(folder)


@pytest.mark.parametrize("array", ["states", "scores"])
def test_golden_sequences_that_differ_tell_by_how_much(folder: Path, array: str) -> None:
    reshape(folder, "golden.npz", lambda arrays: arrays.update({array: arrays[array] + 0.25}))
    with pytest.raises(BundleError, match=r"golden\.npz.*differs by up to 0\.25"):
        Model(Bundle.load(folder), "cpu")


def test_golden_lists_of_other_items_are_refused(folder: Path) -> None:
    def shift(arrays: Fields) -> None:
        arrays["rows"] = arrays["rows"] + 1

    reshape(folder, "golden.npz", shift)
    with pytest.raises(BundleError, match="lists other items"):
        Model(Bundle.load(folder), "cpu")


def test_a_golden_row_out_of_the_table_is_refused(folder: Path) -> None:
    reshape(folder, "golden.npz", lambda a: a.update(item_rows=a["item_rows"] + 10**6))
    with pytest.raises(BundleError, match="cannot be replayed"):
        Model(Bundle.load(folder), "cpu")


def test_a_graph_that_is_none_is_refused(folder: Path) -> None:
    (folder / "score.onnx").write_bytes(b"not a graph")
    seal(folder)
    with pytest.raises(BundleError, match=r"score\.onnx: not an ONNX graph"):
        Model(Bundle.load(folder), "cpu")


def test_swapped_graphs_are_refused(folder: Path) -> None:
    (folder / "score.onnx").write_bytes((folder / "update.onnx").read_bytes())
    seal(folder)
    with pytest.raises(BundleError, match=r"score\.onnx: inputs or outputs"):
        Model(Bundle.load(folder), "cpu")


def test_a_replay_that_is_no_number_is_a_fault() -> None:
    golden = Bundle.load(DEMO).golden
    assert golden.fault(golden.states, golden.rows, golden.scores, 0.0) is None
    spoilt = golden.states.copy()
    spoilt[0, 0, 0] = np.nan
    assert golden.fault(spoilt, golden.rows, golden.scores, 0.01) == "differs by up to nan"
