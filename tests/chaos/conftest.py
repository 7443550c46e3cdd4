"""Fixtures of the chaos tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.kafka.broker import BrokerProcess
from tests.chaos.shop import Shop
from tests.support.seed import SEED


@pytest.fixture
def shop(broker: BrokerProcess, unique: str, tmp_path: Path) -> Iterator[Shop]:
    """A shop without a catalogue, on the broker that all tests share."""
    shop = Shop(broker.bootstrap, unique, tmp_path, SEED)
    yield shop
    shop.close()
