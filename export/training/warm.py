"""Read what a bundle left for the next training. In: a bundle folder. Out: `WarmStart`.

`network.npz` lies beside the bundle's own files: the manifest names its checksum under `training`,
and the engine does not open it. Must not know: what the arrays mean.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from datetime import datetime
from pathlib import Path

import numpy as np

from export.bundle import NETWORK
from export.models import LEARNED
from export.models.warm import WarmStart
from stream.core.bundle import Bundle
from stream.errors import UsageError


def read_warm(folder: Path, model: str) -> WarmStart:
    """Of a bundle of `model`.

    Raises
    ------
    BundleError
        The folder is no bundle, or a damaged one.
    UsageError
        It is of another model, or its network is not there any more.
    """
    if model not in LEARNED:
        raise UsageError(
            f"--warm: {model} is not trained step by step and begins from nothing each time; leave "
            "--warm out"
        )
    bundle = Bundle.load(folder)
    manifest = bundle.manifest
    if manifest.model != model:
        raise UsageError(
            f"{folder}: holds the model {manifest.model}, from which {model} cannot begin; give a "
            f"bundle of {model}, or train without --warm"
        )
    digest, file = manifest.training.get(NETWORK), folder / NETWORK
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{file}: {error.strerror}; a training can begin from the folder that `freshet-export "
            "train` wrote, whole, or without --warm"
        ) from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise UsageError(f"{file}: is not of this bundle; train without --warm")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            numbers = {name: arrays[name].astype(np.float32) for name in arrays.files}
    except (ValueError, zipfile.BadZipFile):
        raise UsageError(f"{file}: not a NumPy archive; train without --warm") from None
    # `created` has whole seconds, rounded down.
    until_ms = int(datetime.fromisoformat(manifest.created).timestamp() + 1) * 1000
    return WarmStart(
        name=str(folder),
        bundle_id=manifest.bundle_id,
        parameters=manifest.training,
        item_ids=bundle.item_ids,
        numbers=numbers,
        digest=digest,
        until_ms=until_ms,
    )
