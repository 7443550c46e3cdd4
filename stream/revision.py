"""Which settings made a list: a short name of all that change live. In: them. Out: a text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from stream.placements import Placement
from stream.settings.weights import UNSET, Weights

REVISION_DIGITS: Final = 12


def revision_of(placements: Mapping[str, Placement], weights: Weights = UNSET) -> str:
    """The revision of placements and weights: 12 hexadecimal digits of their settings' SHA-256.

    The same for the same settings in the same order of placements, however a file writes them; a
    default that is written out changes nothing. Weights count as far as they are set.
    """
    settings: list[object] = [[name, placement] for name, placement in placements.items()]
    if weights.given():
        settings.append(weights.given())
    return hashlib.sha256(msgspec.json.encode(settings)).hexdigest()[:REVISION_DIGITS]
