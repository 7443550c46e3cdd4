"""A small bundle around the real `decay` graphs, made once; examples that may take their time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from stream.core.bundle import Bundle
from stream.core.model import Model
from tests.support.bundles import random_decay_bundle

# A machine that does much else is no fault of the code.
settings.register_profile("freshet", deadline=None)
settings.load_profile("freshet")


@pytest.fixture(scope="session")
def decay_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """200 items, 16 dimensions, int8 states."""
    folder: Path = tmp_path_factory.mktemp("decay") / "bundle"
    return random_decay_bundle(folder, 200, dim=16)


@pytest.fixture(scope="session")
def decay_model(decay_bundle: Bundle) -> Model:
    return Model(decay_bundle, "cpu")
