"""What the lists of all users are like, right or wrong. In: lists, counts, vectors. Out: numbers.

`listed` is int64 [n, k], item rows best first, 0 where nothing is listed. Rows run from 1 to
`items`.

Must not know: models, logs, targets.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_CHUNK = 2_048  # lists whose vectors are held at once: 10 MB for 20 places of 64 numbers


def coverage(listed: Int64, items: int) -> float:
    """Share of the items that stand in at least one list (Ge, Delgado-Battenfeld, Jannach 2010)."""
    return len(np.unique(listed[listed > 0])) / items


def gini(listed: Int64, items: int) -> float:
    """How unevenly places fall to items: 0 all alike, near 1 all to one (Gini 1912).

    sum_j (2 j - m - 1) x_j / (m sum x), x the ascending counts of all m items, those never listed
    too. 0 when nothing is listed.
    """
    counts = np.sort(np.bincount(listed[listed > 0], minlength=items + 1)[1:])
    if counts.sum() == 0:
        return 0.0
    order = np.arange(1, items + 1)
    return float(((2 * order - items - 1) * counts).sum() / (items * counts.sum()))


def novelty(listed: Int64, counts: Float64) -> float:
    """Mean of -log2 p over all places: the bits that an item's name is worth (Zhou et al. 2010).

    Parameters
    ----------
    counts : float64, shape (items + 1,); interactions with each row, from which p is the item's
        share, one added to each so that an item never seen has bits too
    """
    share = (counts[1:] + 1) / (counts[1:] + 1).sum()
    return _mean(-np.log2(share)[listed[listed > 0] - 1])


def average_popularity(listed: Int64, counts: Float64) -> float:
    """Mean count of interactions of what is listed: the mean of each list's mean.

    Average recommendation popularity, Yin et al. 2012. Lists of nothing are left out.
    """
    filled = listed > 0
    places = filled.sum(axis=1)
    sums = np.where(filled, counts[listed], 0).sum(axis=1)
    return _mean(sums[places > 0] / places[places > 0])


def popularity_lift(listed: Int64, known: Float64, counts: Float64) -> float:
    """How much more popular lists are than what their users turned to, 0 being the same.

    (GAP of lists - GAP of histories) / GAP of histories, GAP being the mean over users of the mean
    count of their items (Abdollahpouri et al. 2019). Lists without a history are left out.

    Parameters
    ----------
    known : float64, shape (n,); mean count of the items of the user's history, nan for none
    """
    some = ~np.isnan(known)
    theirs = _mean(known[some])
    return average_popularity(listed[some], counts) / theirs - 1 if theirs else 0.0


def intra_list_diversity(listed: Int64, vectors: Float32) -> float:
    """Mean of 1 - cosine over the pairs of a list, then over lists (Ziegler et al. 2005).

    Parameters
    ----------
    vectors : float32, shape (>= items + 1, D), of any length; zeros are like no other

    Notes
    -----
    The cosines of all ordered pairs add up to |sum u|^2 - sum |u|^2, u being v / |v|. Lists of
    fewer than two items are left out.
    """
    length = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
    scale = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    of_lists = []
    for first in range(0, len(listed), _CHUNK):
        rows = listed[first : first + _CHUNK]
        filled = rows > 0
        weight = np.where(filled, scale[rows], 0)
        together = (np.einsum("lk,lkd->ld", weight, vectors[rows]) ** 2).sum(axis=1)
        cosines = together - (weight > 0).sum(axis=1)
        size = filled.sum(axis=1)
        pairs = size * (size - 1)
        of_lists.append(1 - cosines[pairs > 0] / pairs[pairs > 0])
    return _mean(np.concatenate([*of_lists, np.zeros(0)]))


def _mean(values: Float64) -> float:
    return float(values.mean()) if len(values) else 0.0
