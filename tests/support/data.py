"""Where public logs are, for tests and quality runs. In: FRESHET_DATA. Out: paths, or a skip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("FRESHET_DATA") or Path(__file__).parents[3] / "shared" / "data")


def needed(name: str) -> Path:
    """A file of the data folder; a test that needs it is skipped where it is missing.

    REQUIRE_DATA=1 makes that a failure.
    """
    file = DATA / name
    if not file.is_file():
        missing = f"{file} is missing; FRESHET_DATA names the folder of public logs"
        if os.environ.get("REQUIRE_DATA") == "1":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return file
