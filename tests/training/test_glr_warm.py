"""A training that begins from an earlier bundle: sooner as good, honest, and of the same shape."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from export.bundle import NETWORK, bundle_files, write_bundle
from export.data.dataset import Log
from export.models import train
from export.models.base import Run, Trained
from export.models.glr.warm import starts
from export.models.warm import WarmStart
from export.training.sides import hold_out
from export.training.train import fit
from export.training.warm import read_warm
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.errors import UsageError
from tests.training.shops import SMALL, newest, walks

EPOCHS = 6


@dataclass(frozen=True)
class Nights:
    """A log, the part of it that a bundle was trained on, and the bundle."""

    log: Log
    older: Log
    trained: Trained
    folder: Path

    @property
    def warm(self) -> WarmStart:
        return read_warm(self.folder, "glr")


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    log = walks(repeats=0.2)
    older = log.before(int(log.time_ms[int(len(log) * 0.9)]))
    trained = train("glr", older, epochs=EPOCHS, min_count=2, **SMALL)
    folder = tmp_path_factory.mktemp("nights") / "bundle"
    write_bundle(trained, folder)
    return Nights(log, older, trained, folder)


def test_one_epoch_does_what_takes_several_from_nothing(nights: Nights) -> None:
    sides = hold_out(nights.log, nights.warm)
    assert sides is not None
    cold = train("glr", nights.log, held_out=sides.held_out, epochs=EPOCHS, **SMALL)
    warm = train("glr", nights.log, held_out=sides.held_out, epochs=1, run=Run(warm=nights.warm))
    by_epoch = [line["ndcg@20"] for line in cold.training["curves"][0]]
    (first,) = (line["ndcg@20"] for line in warm.training["curves"][0])
    assert first > max(by_epoch[:3]) + 0.05
    assert first > by_epoch[-1] - 0.01


def test_what_the_earlier_training_saw_is_not_asked_for(nights: Nights) -> None:
    warm = nights.warm
    sides, usual = hold_out(nights.log, warm), hold_out(nights.log)
    assert sides is not None
    assert usual is not None
    assert len(usual.older) < len(nights.older)  # the share alone would ask for more
    assert nights.log.time_ms[sides.held_out.asked].min() > nights.older.time_ms[-1]
    with pytest.raises(UsageError, match="too few to measure a model on"):
        hold_out(nights.older, warm)


def test_a_nightly_bundle_serves_and_says_from_where_it_began(
    nights: Nights, tmp_path: Path
) -> None:
    said: list[str] = []
    trained = fit(nights.log, "glr", {}, said.append, Run(warm=nights.warm, report=said.append))
    assert trained.training["warm"] == Bundle.load(nights.folder).bundle_id
    assert trained.training["dim"] == SMALL["dim"]  # as it was, though nobody said so again
    assert trained.training["min_count"] == 2
    assert trained.training["epochs"] == 2  # a third of the usual ones
    assert Model(write_bundle(trained, tmp_path / "bundle"), "cpu").bundle.bundle_id
    following = read_warm(tmp_path / "bundle", "glr")
    assert following.until_ms > nights.log.time_ms[-1]
    assert following.until_ms - nights.log.time_ms[-1] <= 1000


def test_vectors_go_with_their_items(nights: Nights) -> None:
    ids = nights.trained.item_ids
    asked = ["", "new", *reversed(ids[1:])]
    warm = nights.warm
    p = train_parameters(nights)
    (start,) = starts(warm, asked, p)
    items = nights.trained.network["0.items"]
    np.testing.assert_array_equal(start.numbers["items"][2:], items[1:][::-1])
    biases = nights.trained.network["0.biases"]
    np.testing.assert_array_equal(start.numbers["biases"][2:], biases[1:][::-1])
    assert np.isnan(start.numbers["items"][1]).all()
    grown = replace(nights.log, items=[f"{item}x" for item in nights.log.items])
    whole = train("glr", grown, epochs=1, run=Run(warm=warm), held_out=newest(grown))
    assert np.isfinite(whole.embeddings).all()


def train_parameters(nights: Nights):  # type: ignore[no-untyped-def]
    from export.models.glr.parameters import Parameters

    return Parameters(**SMALL, epochs=EPOCHS, min_count=2)


def test_the_engine_does_not_open_it(nights: Nights, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(nights.folder, folder)
    assert NETWORK not in Bundle.load(folder).manifest.files
    (folder / NETWORK).unlink()
    os.mkfifo(folder / NETWORK)  # whoever opens this waits for ever
    Model(Bundle.load(folder), "cpu")


@pytest.mark.parametrize(
    ("name", "value"),
    [("dim", 16), ("state", 16), ("layers", 2), ("members", 2), ("query", True), ("cosine", False)],
)
def test_a_network_of_another_shape_cannot_begin_there(
    nights: Nights, name: str, value: object
) -> None:
    with pytest.raises(UsageError, match=rf"have {name} .*leave --set {name} out, or train with"):
        train("glr", nights.log, run=Run(warm=nights.warm), **{name: value})


def test_a_bundle_of_another_model_is_refused(nights: Nights, tmp_path: Path) -> None:
    write_bundle(train("decay", nights.older, dim=8), tmp_path / "decay")
    with pytest.raises(UsageError, match=r"holds the model decay.*or train without --warm"):
        read_warm(tmp_path / "decay", "glr")
    with pytest.raises(UsageError, match="leave --warm out"):
        read_warm(nights.folder, "mf")


def test_a_network_that_is_missing_or_not_the_bundles_is_refused(
    nights: Nights, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(nights.folder, folder)
    (folder / NETWORK).write_bytes(b"other")
    with pytest.raises(UsageError, match="is not of this bundle"):
        read_warm(folder, "glr")
    (folder / NETWORK).unlink()
    with pytest.raises(UsageError, match="without --warm"):
        read_warm(folder, "glr")


def test_a_checkpoint_that_began_elsewhere_is_refused(nights: Nights, tmp_path: Path) -> None:
    run = Run(checkpoint=tmp_path / "network")
    train("glr", nights.log, run=run, epochs=1, min_count=2, **SMALL)
    with pytest.raises(UsageError, match="began from another bundle; delete it"):
        train("glr", nights.log, run=replace(run, warm=nights.warm), epochs=1)


def test_the_same_network_gives_the_same_bytes(nights: Nights) -> None:
    once, again = (bundle_files(nights.trained, "glr")[NETWORK] for _ in range(2))
    assert once == again
