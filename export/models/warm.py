"""What an earlier bundle left for a training that begins where it ended.

In: the arrays of `network.npz`, ids, parameters. Must not know: files, which models there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class WarmStart:
    """An earlier training of the same model.

    Attributes
    ----------
    name : of the bundle's folder, for messages
    bundle_id : the manifest's `id`
    parameters : what it was trained with, by name; also what else the manifest says of training
    item_ids : n ids by row, the first one ""
    numbers : float32 arrays, as `Trained.network` had them
    digest : SHA-256 of them, hex
    until_ms : it was trained on no event as new as this
    """

    name: str
    bundle_id: str
    parameters: Mapping[str, Any]
    item_ids: list[str]
    numbers: Mapping[str, npt.NDArray[np.float32]]
    digest: str
    until_ms: int
