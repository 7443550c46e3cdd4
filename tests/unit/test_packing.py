"""Item vectors as float16 and int8: the numbers, the graphs, the bundles, rows that come later."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from export.bundle import npz, write_bundle, write_files
from export.compression.bundle import compress, packed_files
from export.compression.graphs import CONSIDERED, NotPackableError
from export.models import cooccurrence
from export.models.base import Trained
from stream.core import sessions
from stream.core.bundle import ITEMS as ITEMS_FILE
from stream.core.bundle import MANIFEST, SCORE, SCORE_CUDA, UPDATE, Bundle, manifest_id
from stream.core.model import Model
from stream.core.packing import Storage, pack
from stream.core.policy.reasons import Reasons
from stream.core.policy.ring import Ring
from stream.core.recent import Recent
from stream.errors import BundleError, ProviderError, UsageError
from tests.support.bundles import random_decay_bundle, recent_model, with_last_items
from tests.unit.test_model import random_log

ITEMS = 3_000
USERS = 24
K = 20
TOLERANCE = 2e-5  # as of the golden sequences
PACKED: list[Storage] = ["float16", "int8"]

vectors = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


@settings(deadline=None)
@given(vectors)
def test_int8_is_off_by_half_a_step_at_most(given: np.ndarray) -> None:
    packed = pack(given, "int8")
    assert packed.scales is not None
    assert packed.values.dtype == np.int8
    steps = packed.scales[:, None].astype(np.float64)
    error = np.abs(packed.unpacked() - given.astype(np.float64))
    assert (error <= 0.5001 * steps + 1e-36).all()
    assert (packed.unpacked()[~given.any(axis=1)] == 0).all()


@settings(deadline=None)
@given(vectors, st.sampled_from(PACKED))
def test_a_row_is_packed_by_itself_and_stays_as_it_is(given: np.ndarray, storage: Storage) -> None:
    packed = pack(given, storage)
    assert np.isfinite(packed.unpacked()).all()
    for row in range(len(given)):
        alone = pack(given[row : row + 1], storage).unpacked()
        assert alone.tobytes() == packed.unpacked()[row : row + 1].tobytes()


def test_bytes() -> None:
    table = np.ones((10, 64), np.float32)
    assert [pack(table, s).nbytes for s in ("float32", "float16", "int8")] == [2560, 1280, 680]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_decay_bundle(tmp_path_factory.mktemp("packing") / "plain", ITEMS)


@pytest.fixture(scope="module", params=["decay", "last items"])
def bundle(
    request: pytest.FixtureRequest, plain: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    if request.param == "decay":
        return plain
    return with_last_items(tmp_path_factory.mktemp("packing"), ITEMS)


@pytest.fixture(params=PACKED)
def storage(request: pytest.FixtureRequest) -> Storage:
    storage: Storage = request.param
    return storage


@pytest.fixture
def packed(bundle: Bundle, storage: Storage, tmp_path: Path) -> Bundle:
    return compress(bundle, tmp_path / "packed", storage, "int8")


def exact(bundle: Bundle, packed: Bundle, spare_rows: int = 128) -> Model:
    """The float32 model over the vectors that `packed` has."""
    model = Model(bundle, "cpu", spare_rows=spare_rows)
    model.set_embeddings(np.arange(1, len(packed.embeddings)), packed.embeddings[1:])
    return model


def some_states(model: Model, users: int = USERS) -> np.ndarray:
    rng = np.random.default_rng(2)
    state = np.zeros((users, model.state_size), np.float32)
    for _ in range(12):
        rows, types = rng.integers(0, ITEMS + 1, users), rng.integers(1, 10, users)
        state = model.update(state, rows, types, rng.normal(1e3, 1e5, users).astype(np.float32))
    return state


def asked(
    model: Model, states: np.ndarray, k: int = K, some: slice = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """Lists of some of the users, without 30 random items each, one of them their last."""
    rng = np.random.default_rng(4)
    users = len(states)
    struck = rng.integers(0, ITEMS + 1, (users, 30))
    recent = None
    if model.recent:
        rows = rng.integers(0, ITEMS + 1, (users, 3))
        rows[:, 0] = struck[:, 0]
        recent = Recent(rows[some], rng.integers(0, 10, (users, 3))[some])
    beta = model.bundle.manifest.beta
    return model.score(states[some], model.new_bias(), struck[some], beta, k, recent)


def assert_lists_agree(
    ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]
) -> None:
    (rows, scores), (exact_rows, exact_scores) = ours, theirs
    np.testing.assert_allclose(scores, exact_scores, rtol=0, atol=TOLERANCE)
    gaps = np.abs(np.diff(exact_scores, axis=1, append=0))
    previous = np.concatenate([np.ones_like(gaps[:, :1]), gaps[:, :-1]], axis=1)
    tied = np.minimum(previous, gaps) <= 2 * TOLERANCE
    assert ((rows == exact_rows) | tied).all()


def test_states_are_those_of_the_rounded_vectors(bundle: Bundle, packed: Bundle) -> None:
    ours, theirs = some_states(Model(packed, "cpu")), some_states(exact(bundle, packed))
    assert ours.tobytes() == theirs.tobytes()
    assert (ours != some_states(Model(bundle, "cpu"))).any()


def test_lists_are_those_of_the_rounded_vectors(bundle: Bundle, packed: Bundle) -> None:
    ours, theirs = Model(packed, "cpu"), exact(bundle, packed)
    states = some_states(theirs)
    assert_lists_agree(asked(ours, states), asked(theirs, states))


@pytest.mark.parametrize("k", [1, CONSIDERED // 2 + 30, ITEMS // 2 + 1, 10 * ITEMS])
def test_lists_of_any_length(bundle: Bundle, packed: Bundle, k: int) -> None:
    ours, theirs = Model(packed, "cpu"), exact(bundle, packed)
    states = some_states(theirs, 3)
    (rows, scores), (_, exact_scores) = asked(ours, states, k), asked(theirs, states, k)
    assert rows.shape == scores.shape == (3, min(k, ours.rows))
    np.testing.assert_allclose(scores, exact_scores, rtol=0, atol=TOLERANCE)
    for line in rows:
        assert len(set(line.tolist())) == len(line)


def test_a_list_does_not_depend_on_the_batch(packed: Bundle) -> None:
    model = Model(packed, "cpu")
    states = some_states(model)
    states[1] *= 1e4  # a scale for the batch would leave nothing of the others
    rows, scores = asked(model, states)
    assert not np.isnan(scores).any()
    for user in (0, 1, 2, USERS - 1):
        alone_rows, alone = asked(model, states, some=slice(user, user + 1))
        np.testing.assert_array_equal(alone_rows[0], rows[user])
        np.testing.assert_allclose(alone[0], scores[user], rtol=0, atol=1e-6)


def test_who_has_done_nothing_gets_the_most_popular(packed: Bundle) -> None:
    model = Model(packed, "cpu")
    nothing, struck = np.zeros((2, model.state_size), np.float32), np.zeros((2, 1), np.int64)
    rows, scores = model.score(nothing, model.new_bias(), struck, packed.manifest.beta, K)
    best = np.argsort(-packed.biases, kind="stable")[:K]
    np.testing.assert_array_equal(rows, [best, best])
    assert (scores > 0).all()


def test_rows_that_come_later_are_packed_the_same_way(bundle: Bundle, packed: Bundle) -> None:
    ours, theirs = Model(packed, "cpu", spare_rows=0), exact(bundle, packed, spare_rows=0)
    states = some_states(theirs)
    new = ours.rows + 5
    vectors = 0.2 * np.random.default_rng(9).standard_normal((2, ours.embedding_dim))
    vectors = vectors.astype(np.float32)
    rows = np.array([7, new])
    for model in (ours, theirs):
        model.grow(new + 1)
    ours.set_embeddings(rows, vectors)
    theirs.set_embeddings(rows, pack(vectors, packed.manifest.item_storage).unpacked())
    np.testing.assert_array_equal(ours.embeddings, theirs.embeddings)
    at, (places,) = ours.embeddings_of(rows)
    np.testing.assert_array_equal(at[places], theirs.embeddings[rows])
    lists = []
    for model in (ours, theirs):
        bias = model.new_bias()
        bias.set(rows, 30.0)
        struck = np.zeros((USERS, 1), np.int64)
        lists.append(model.score(states, bias, struck, packed.manifest.beta, K))
    assert_lists_agree(*lists)
    assert (lists[0][0] == new).any(axis=1).all()
    events = (np.full(USERS, new), np.full(USERS, 1), np.zeros(USERS, np.float32))
    assert ours.update(states, *events).tobytes() == theirs.update(states, *events).tobytes()


def test_a_vector_that_comes_later_is_found(
    plain: Bundle, storage: Storage, tmp_path: Path
) -> None:
    packed = compress(plain, tmp_path / "packed", storage, "int8")
    ours, theirs = Model(packed, "cpu", spare_rows=0), exact(plain, packed, spare_rows=0)
    states = some_states(theirs)
    first = asked(theirs, states)[0][:, 0]
    new = np.arange(theirs.rows, theirs.rows + USERS)
    vectors = 2 * theirs.embeddings[first]
    lists = []
    for model in (ours, theirs):
        model.grow(new[-1] + 1)
        model.set_embeddings(new, vectors)
        bias = model.new_bias()
        bias.set(new, -4.0)  # the middle of the others: the vectors alone make the difference
        struck = np.zeros((USERS, 1), np.int64)
        lists.append(model.score(states, bias, struck, packed.manifest.beta, K))
    assert_lists_agree(*lists)
    assert (lists[0][0] == new[:, None]).any(axis=1).mean() > 0.9


def test_graphs_for_cuda_compute_the_same(bundle: Bundle, packed: Bundle, storage: Storage) -> None:
    """On the CPU, which runs them too, if slower."""
    model = Model(packed, "cpu", spare_rows=0)
    states = some_states(model)
    assert packed.cuda_onnx is not None
    update, score = (
        ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
        for graph in packed.cuda_onnx
    )
    values = pack(model.embeddings, storage)
    table = {"item_table": values.values}
    columns = {}
    if storage == "int8":
        assert values.scales is not None
        table["item_scale"] = values.scales
        columns["item_columns"] = np.ascontiguousarray(values.values.T)
    rows, types = np.arange(USERS) % 50, np.arange(USERS) % 9 + 1
    gaps_s = np.full(USERS, 60, np.float32)
    event = {"item_row": rows, "event_type": types, "gap_s": gaps_s}
    event |= model.weighing.inputs
    (following,) = update.run(None, {"state": states, **table, **event})
    assert following.tobytes() == model.update(states, rows, types, gaps_s).tobytes()
    struck = np.arange(USERS * 5).reshape(USERS, 5)
    given = {
        "state": states,
        "bias": model.new_bias().values,
        "excluded": struck,
        "beta": np.array([packed.manifest.beta], np.float32),
        "k": np.array([K]),
        **table,
        **columns,
    }
    recent = None
    if model.recent:
        recent = Recent(struck[:, :3], struck[:, :3] % 10)
        given |= {"recent_rows": recent.rows, "recent_types": recent.types}
    listed = score.run(["rows", "scores"], given)
    beta = packed.manifest.beta
    assert_lists_agree(
        (listed[0], listed[1]), model.score(states, model.new_bias(), struck, beta, K, recent)
    )


def test_reasons_look_at_the_rounded_vectors(plain: Bundle, tmp_path: Path) -> None:
    packed = compress(plain, tmp_path / "packed", "int8", "int8")
    ours, theirs = Model(packed, "cpu"), exact(plain, packed)
    states = some_states(theirs)
    rng = np.random.default_rng(8)
    rows, types = rng.integers(1, ITEMS, (USERS, 12)), rng.integers(1, 4, (USERS, 12), np.uint8)
    newest = rng.permuted(np.tile(np.arange(12), (USERS, 1)), axis=1)[:, :8]
    ring = Ring(rows, types, np.zeros((USERS, 12), np.float32), newest)
    listed, _ = asked(theirs, states)
    found = [Reasons(model).of(listed, ring, states) for model in (ours, theirs)]
    np.testing.assert_array_equal(found[0].rows, found[1].rows)
    assert found[0].rows.any()


def test_a_packed_bundle_says_what_it_is(plain: Bundle, tmp_path: Path) -> None:
    packed = compress(plain, tmp_path / "packed", "int8", "float32")
    assert packed.manifest.item_storage == "int8"
    assert packed.manifest.state.storage == "float32"
    assert packed.manifest.training["compressed_from"] == plain.bundle_id
    assert packed.bundle_id != plain.bundle_id
    whole, small = (Model(one, "cpu").table_bytes for one in (plain, packed))
    assert small == whole / 2 + whole / 64  # in two orders, and a scale each
    again = compress(plain, tmp_path / "again", "int8", "float32")
    assert again.bundle_id == packed.bundle_id


def test_states_alone(plain: Bundle, tmp_path: Path) -> None:
    changed = compress(plain, tmp_path / "changed", "float32", "float32")
    assert (plain.manifest.state.storage, changed.manifest.state.storage) == ("int8", "float32")
    Model(changed, "cpu")
    unchanged = set(plain.manifest.files.items())
    assert set(changed.manifest.files.items()) == unchanged


def test_what_is_packed_is_not_packed_again(packed: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already; compress the float32 bundle"):
        compress(packed, tmp_path / "again", "int8", "int8")


def test_a_model_without_a_product_is_refused(tmp_path: Path) -> None:
    models: list[Trained] = [cooccurrence.train(random_log()), recent_model(50, 2)]
    for number, trained in enumerate(models):
        made = write_bundle(trained, tmp_path / str(number))
        with pytest.raises(NotPackableError, match="item table"):
            compress(made, tmp_path / "packed", "int8", "int8")


def test_golden_sequences_notice_another_vector(plain: Bundle, tmp_path: Path) -> None:
    packed = compress(plain, tmp_path / "packed", "int8", "int8")
    values = packed.vectors.values.copy()
    values[packed.golden.item_rows[:, -1]] += 3
    wrong = dataclasses.replace(packed, vectors=packed.vectors._replace(values=values))
    with pytest.raises(BundleError, match="golden sequences"):
        Model(wrong, "cpu")


def test_graphs_for_cuda_come_both_or_not_at_all(
    plain: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = packed_files(plain, "int8", "int8")
    fields = json.loads(files[MANIFEST])
    del fields["files"][SCORE_CUDA]
    half = resigned(files | {MANIFEST: json.dumps(fields).encode()})
    with pytest.raises(BundleError, match="score_cuda"):
        write_files(half, tmp_path / "half")
    on_cpus = compress(plain, tmp_path / "on cpus", "int8", "int8", cuda=False)
    assert Model(on_cpus, "cpu").provider == "cpu"
    monkeypatch.setattr(sessions, "_cuda_missing", lambda: None)
    with pytest.raises(ProviderError, match="no graphs for CUDA"):
        Model(on_cpus, "cuda")
    assert Model(on_cpus, "auto").provider == "cpu"


def changed_items(files: dict[str, bytes], **arrays: np.ndarray | None) -> dict[str, bytes]:
    """The files with other arrays of items (None: without), and a manifest that fits them."""
    with np.load(io.BytesIO(files[ITEMS_FILE]), allow_pickle=False) as kept:
        items = {name: kept[name] for name in kept.files} | arrays
    packed = npz(**{name: array for name, array in items.items() if array is not None})
    return resigned(files | {ITEMS_FILE: packed})


def resigned(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files with a manifest that fits them."""
    fields = json.loads(files[MANIFEST])
    fields["files"] = {name: hashlib.sha256(files[name]).hexdigest() for name in fields["files"]}
    fields["id"] = manifest_id(fields)
    return files | {MANIFEST: json.dumps(fields).encode()}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"scales": None}, "no array 'scales'"),
        ({"scales": np.full(ITEMS + 1, -1, np.float32)}, "negative"),
        ({"scales": np.full(ITEMS + 1, np.nan, np.float32)}, "not finite"),
        ({"scales": np.ones(ITEMS, np.float32)}, "scales is float32"),
        ({"embeddings": np.zeros((ITEMS + 1, 64), np.float32)}, "embeddings is float32"),
        ({"embeddings": np.zeros((ITEMS + 1, 32), np.int8)}, "embeddings is int8"),
    ],
)
def test_wrong_packed_items_are_refused(
    arrays: dict[str, np.ndarray | None], said: str, plain: Bundle, tmp_path: Path
) -> None:
    files = changed_items(packed_files(plain, "int8", "int8"), **arrays)
    with pytest.raises(BundleError, match=said):
        write_files(files, tmp_path / "packed")


@pytest.mark.parametrize("name", [SCORE, UPDATE])
def test_a_graph_for_another_table_is_refused(name: str, plain: Bundle, tmp_path: Path) -> None:
    files = packed_files(plain, "int8", "int8")
    files[name] = (plain.path / name).read_bytes()
    bundle = write_files(resigned(files), tmp_path / "packed")
    with pytest.raises(BundleError, match=f"{name}: inputs or outputs are not.*int8 items"):
        Model(bundle, "cpu")
