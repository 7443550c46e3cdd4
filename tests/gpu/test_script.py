"""`python -m tests.gpu`, run small and on the CPU, and where there is no GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.models.base import Reference
from stream.core.model import Model
from stream.errors import ProviderError
from tests.gpu import __main__ as script
from tests.gpu.catalogue import STORAGES, catalogue
from tests.gpu.check import check
from tests.gpu.measure import Resident, Shop

SMALL = ["--cpu", "--items", "900", "--dim", "16", "--clusters", "20", "--batches", "3", "8"]


def test_the_whole_of_it_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([*SMALL, "--seconds", "0.02", "--out", str(tmp_path)]) == 0
    report: dict[str, Any] = json.loads((tmp_path / "gpu.json").read_text())
    assert (report["provider"], report["items"]) == ("cpu", 900)
    assert report["bandwidth_gb_s"] > 0
    assert list(report["storages"]) == list(STORAGES)
    for of in report["storages"].values():
        assert of["check"]["right"]
        assert list(of["batches"]) == ["3", "8"]
        for measured in of["batches"].values():
            assert measured["captured"] is False
            assert all(measured[name] > 0 for name in measured if name != "captured")
    sizes = [of["table_bytes"] for of in report["storages"].values()]
    assert sizes[0] == sizes[1] > sizes[2]
    told = capsys.readouterr().out
    assert told.startswith((tmp_path / "gpu.txt").read_text())
    assert all(f"{storage:>13}  yes" in told.replace("     yes", "  yes") for storage in STORAGES)


def test_without_a_gpu_it_says_so_and_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ProviderError("there is none")

    monkeypatch.setattr(script, "Model", refuse)
    assert script.main(["--out", str(tmp_path)]) == script.NO_GPU == 3
    assert capsys.readouterr().err == ("no GPU, nothing was checked or measured: there is none\n")
    assert not list(tmp_path.iterdir())


def test_a_number_that_is_not_allowed_is_answered_by_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for value in ("0", "many"):
        with pytest.raises(SystemExit, match="2"):
            script.main(["--items", value])
        assert f"--items: {value}: give a whole number from 1 on" in capsys.readouterr().err


class Off:
    """A reference that is not what the graphs compute."""

    def __init__(self, right: Reference, state: float, logit: float) -> None:
        self._right, self._state, self._logit = right, np.float32(state), np.float32(logit)

    def update(self, *event: np.ndarray) -> np.ndarray:
        return self._right.update(*event) * (1 + self._state)

    def logits(self, state: np.ndarray, beta: float) -> np.ndarray:
        return self._right.logits(state, beta) + self._logit


@pytest.mark.parametrize("storage", STORAGES)
def test_a_wrong_result_is_noticed(storage: Any, tmp_path: Path) -> None:
    bundle, reference = catalogue(tmp_path, 900, 16, 20)[storage]
    found = check(Model(bundle, "cpu"), reference, 20)
    assert found["right"]
    assert found["found"] >= found["least_found"]
    for state, logit in ((1e-4, 0), (0, 1e-2)):
        assert not check(Model(bundle, "cpu"), Off(reference, state, logit), 20)["right"]


def test_a_wrong_check_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "check", lambda *_: check(*_) | {"right": False})
    assert script.main([*SMALL, "--seconds", "0.01", "--out", str(tmp_path)]) == 1


@pytest.mark.parametrize("storage", STORAGES)
def test_fixed_shapes_on_the_device_list_the_same(storage: Any, tmp_path: Path) -> None:
    bundle, _ = catalogue(tmp_path, 900, 16, 0)[storage]
    model = Model(bundle, "cpu")
    resident = Resident(bundle, model, batch=4, k=30, threads=1)
    given = resident.given
    beta = bundle.manifest.beta
    rows, scores = model.score(given["state"], model.new_bias(), given["excluded"], beta, 30)
    np.testing.assert_array_equal(resident.lists()[0], rows)
    np.testing.assert_allclose(resident.lists()[1], scores, atol=1e-6)


def test_the_engine_makes_a_list_for_every_user(tmp_path: Path) -> None:
    bundle, _ = catalogue(tmp_path, 300, 16, 0)["int8"]
    shop = Shop(Model(bundle, "cpu"), 10)
    assert [shop.step(shop.batch(users)) for users in (1, 5, 200)] == [1, 5, 200]
