"""Compiling works wherever the cache of it does not."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

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
