"""States that were written with other sizes, made to fit.

In: decoded rows of any size. Out: rows of one layout. Knows nothing of bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.core.wire import Layout


def fit_states(decoded: np.ndarray, layout: Layout) -> np.ndarray:
    """States written with other sizes, as `layout.full`: shape (len(decoded),). A new array.

    The newest interactions and impressions stay. A vector of another size or storage is left out,
    and the model is 0: it is folded anew from the ring at the user's next event.

    Parameters
    ----------
    decoded : `Layout.wire` of any sizes, shape (n,); as `decode_values` answers them
    """
    fitted = np.frombuffer(layout.blank * len(decoded), layout.full).copy()
    header, written = fitted["header"], decoded["header"]
    for name in ("events", "newest_ms", "erased_ms", "flags", "bought_s", "spent", "purchases"):
        header[name] = written[name]
    if decoded["vector"].dtype == fitted["vector"].dtype and (
        decoded["vector"].shape == fitted["vector"].shape
    ):
        fitted["vector"] = decoded["vector"]
        for name in ("model", "scale"):
            header[name] = written[name]
    else:
        header["model"] = 0
    ring, heads = _fit_ring(decoded["ring"], written["ring_head"].astype(np.int64), layout.ring)
    shown = _fit_shown(decoded["shown"], layout.shown)
    fitted["shown"][:, : shown.shape[1]] = shown
    fitted["ring"][:, : ring.shape[1]] = ring
    header["ring_used"] = ring.shape[1]
    header["ring_head"] = heads
    return fitted


def _fit_shown(shown: np.ndarray, size: int) -> np.ndarray:
    """Remembered impressions, the newest `size` at most: `SHOWN_ENTRY`, shape (n, any)."""
    if shown.shape[1] <= size:
        return shown
    newest_first = np.argsort(-shown["time_s"].astype(np.int64), axis=1, kind="stable")
    return np.take_along_axis(shown, newest_first[:, :size], axis=1)


def _fit_ring(
    ring: np.ndarray, head: NDArray[np.int64], size: int
) -> tuple[np.ndarray, NDArray[np.int64]]:
    """Decoded rings made to fit a ring of `size` entries: the newest ones stay.

    Parameters
    ----------
    ring : `RING_ENTRY`, shape (n, used)
    head : int64, shape (n,); where the next entry of each would go

    Returns
    -------
    The same for the new size.
    """
    used = ring.shape[1]
    if used in (0, size):
        return ring, head
    # Not full, or written with a ring of another size: oldest first.
    oldest_first = (head[:, None] % used + np.arange(used)) % used
    ring = np.take_along_axis(ring, oldest_first, axis=1)[:, max(used - size, 0) :]
    return ring, np.full_like(head, ring.shape[1] % size if size else 0)
