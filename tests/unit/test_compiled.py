"""Compiling works wherever the cache of it does not."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from stream import compiled as module
from stream.compiled import INT, array, compiled


def compile_sum() -> Callable[..., int]:
    @compiled(INT, array("i8"))
    def total(values: Any) -> int:
        found = 0
        for value in values:
            found += value
        return found

    return total


def test_types_are_kept_to() -> None:
    total = compile_sum()
    read_only = np.arange(8)[::2]
    read_only.flags.writeable = False
    assert total(read_only) == 12
    with pytest.raises(TypeError):
        total(np.ones(3))


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "no space left"),
        EOFError(),
        pickle.UnpicklingError("truncated"),
        RuntimeError("cannot cache function 'total': no locator available"),
    ],
)
def test_without_a_cache_it_compiles_all_the_same(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    njit = numba.njit

    def refusing(*signature: Any, **options: Any) -> Any:
        if options.get("cache"):
            raise error
        return njit(*signature, **options)

    monkeypatch.setattr(numba, "njit", refusing)
    assert compile_sum()(np.arange(5)) == 10


def test_another_error_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*signature: Any, **options: Any) -> Any:
        raise RuntimeError("something else")

    monkeypatch.setattr(numba, "njit", broken)
    with pytest.raises(RuntimeError, match="something else"):
        compile_sum()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for compiled code that is not beside the module."""
    folder = tmp_path / "kept"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    module._only_ours.cache_clear()
    return folder


def test_a_folder_of_this_user_keeps_what_is_compiled(elsewhere: Path) -> None:
    assert compile_sum()(np.arange(5)) == 10
    assert list(elsewhere.rglob("*.nbi"))


@pytest.mark.parametrize("where", ["folder", "above"])
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_nothing_is_kept_where_others_could_put_their_own(
    elsewhere: Path, where: str, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    compile_sum()
    (kept,) = {path.parent for path in elsewhere.rglob("*.nbi")}
    for path in kept.iterdir():
        path.unlink()
    module._only_ours.cache_clear()
    (kept if where == "folder" else elsewhere).chmod(mode)
    assert compile_sum()(np.arange(5)) == 10
    # A sticky folder above is like /tmp: what is ours in it stays ours.
    assert bool(list(kept.iterdir())) == (where == "above" and mode == 0o1777)
    assert ("NUMBA_CACHE_DIR" in caplog.text) == (not list(kept.iterdir()))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_nothing_is_kept_in_the_folder_of_another_user(elsewhere: Path) -> None:
    os.chown(elsewhere, 65534, 65534)
    compile_sum()
    assert not list(elsewhere.rglob("*.nbi"))
