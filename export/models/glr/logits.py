"""Logits of held-out cases, over all items: what networks say, biases, and the last interactions.

Cases come in chunks: all of them times a catalogue would not fit a memory. PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from export.models.base import Float32, Int64
from export.models.glr.blend import Entries, Float64
from export.models.glr.judging import AT_ONCE, UNLISTED, Cases, strike


@dataclass(frozen=True, slots=True, eq=False)
class Logits:
    """Logits of C cases with what is added to them.

    Attributes
    ----------
    entries : what the last interactions of these cases bring
    found : float32 [C, D]; interests of length scale * temperature
    table, biases : float32 [n, D], [n]
    """

    cases: Cases
    found: Tensor
    table: Float32
    biases: Float32
    entries: Entries

    def best(self, weights: Float64, exclude: bool, k: int) -> tuple[Int64, Float32]:
        """The k items of the largest logits when the last interactions have their say.

        Parameters
        ----------
        weights : float64 [2 R]; `again`, then `together`
        exclude : whether seen items have a logit of -inf, as row 0 always has

        Returns
        -------
        rows : int64 [C, k]
        logits : float32 [C, k], descending
        """
        added = torch.from_numpy(self.entries.added(weights).astype(np.float32))
        rows = np.empty((len(self.found), k), np.int64)
        best = np.empty(rows.shape, np.float32)
        for part, logits in self._chunks(exclude):
            of, at = self._of(part)
            logits[at] += added[of]
            found = torch.topk(logits, k)
            rows[part], best[part] = found.indices.numpy(), found.values.numpy()
        return rows, best

    def base(self, exclude: bool) -> tuple[Float64, Float64, Int64]:
        """What `blend.fit` needs.

        Returns
        -------
        base : float64 [U]; log-probability of each pair of `entries`
        normaliser : float64 [C]; log of the sum over items of exp(logit)
        target : int64 [C]; index of the pair that is the case's target, -1 when it is none of them
        """
        base = np.empty(len(self.entries.case))
        normaliser = np.empty(len(self.found))
        for part, logits in self._chunks(exclude):
            logsum = torch.logsumexp(logits, 1)
            normaliser[part] = logsum.numpy()
            of, at = self._of(part)
            base[of] = (logits[at] - logsum[at[0]]).double().numpy()
        n = len(self.table)
        pair = self.entries.case * n + self.entries.row
        wanted = np.arange(len(self.found)) * n + self.cases.targets
        at_pair = np.minimum(np.searchsorted(pair, wanted), len(pair) - 1)
        inside = (pair[at_pair] == wanted) & np.isfinite(base[at_pair])
        return base, normaliser, np.where(inside, at_pair, -1)

    def ranks(self, weights: Float64, exclude: bool) -> Int64:
        """Ranks from 0 of the targets when the last interactions have their say: int64 [C].

        `weights`: float64 [2 R]; `again`, then `together`.
        """
        added = torch.from_numpy(self.entries.added(weights).astype(np.float32))
        ranks = np.empty(len(self.found), np.int64)
        for part, logits in self._chunks(exclude):
            of, at = self._of(part)
            logits[at] += added[of]
            target = torch.from_numpy(self.cases.targets[part])[:, None]
            worth = logits.gather(1, target)
            before = (~(logits <= worth)).sum(1)  # what is no number is no hit
            ranks[part] = torch.where(worth[:, 0] > -torch.inf, before, UNLISTED).numpy()
        return ranks

    def _chunks(self, exclude: bool) -> Iterator[tuple[slice, Tensor]]:
        """Cases of `AT_ONCE` and their logits, float32 [c, n]."""
        vectors, bias = torch.from_numpy(self.table), torch.from_numpy(self.biases)
        for first in range(0, len(self.found), AT_ONCE):
            part = slice(first, min(first + AT_ONCE, len(self.found)))
            logits = self.found[part] @ vectors.T + bias
            logits[:, 0] = -torch.inf
            if exclude:
                strike(logits, self.cases.seen[part])
            yield part, logits

    def _of(self, part: slice) -> tuple[slice, tuple[Tensor, Tensor]]:
        """Which entries belong to some cases, and where they stand in the cases' logits."""
        of = slice(*np.searchsorted(self.entries.case, [part.start, part.stop]))
        case = torch.from_numpy(self.entries.case[of] - part.start)
        return of, (case, torch.from_numpy(self.entries.row[of]))
