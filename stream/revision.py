"""Which settings made a list: a short name of all placements' settings. In: them. Out: a text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from stream.placements import Placement

REVISION_DIGITS: Final = 12


def revision_of(placements: Mapping[str, Placement]) -> str:
    """The revision of some placements: 12 hexadecimal digits of their settings' SHA-256.

    The same for the same settings in the same order of placements, however a file writes them; a
    default that is written out changes nothing.
    """
    settings = [[name, placement] for name, placement in placements.items()]
    return hashlib.sha256(msgspec.json.encode(settings)).hexdigest()[:REVISION_DIGITS]
