"""Judge networks by held-out events. In: networks. Out: metrics, and what they settle.

Every case is an event to be predicted from all that its user did before, among all items. PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from export.data.dataset import Log
from export.measuring.metrics.ranking import gain
from export.models.base import Float32, HeldOut, Int64
from export.models.glr.blend import Companions, Entries, fit
from export.models.glr.fitting import Report
from export.models.glr.network import Network
from export.models.glr.parameters import Parameters
from export.models.glr.sequences import Sequences
from export.models.glr.settled import Settled
from stream.errors import UsageError

JUDGED = 6_000  # cases that an epoch is judged by
FITTED = 8_000  # that the weights of the last interactions are fitted on
LOOKED_AT = 50  # a user's last events, at least, that a case is asked from
AT_ONCE = 512
EVENTS = 25_000  # in a batch that is not trained on
K = 20
TEMPERATURES = (0.8, 0.5, 0.6, 0.7, 1.0, 1.25)  # the first one tells whether seen items come back

Float64 = npt.NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Cases:
    """C held-out events to be predicted from all that their users did before.

    Attributes
    ----------
    sequences : of the whole log, the held-out events too
    windows : int64, shape (C, 2); positions in `sequences`: of the oldest event that is looked at,
        and the one after the held-out event's
    targets : int64, shape (C,); rows
    recent : int64, shape (C, `Parameters.last`); rows of the last interactions before, newest
        first, 0 for none and for those that did not turn towards their item
    seen : C arrays, int64; rows of what the window holds before the held-out event, each once
    """

    sequences: Sequences
    windows: Int64
    targets: Int64
    recent: Int64
    seen: list[Int64]
    p: Parameters

    @classmethod
    def of(
        cls, log: Log, held_out: HeldOut, row_by_code: Int64, kinds: Int64, p: Parameters
    ) -> Cases:
        """Some of the held-out events, drawn by the seed; `row_by_code`, `kinds`: see `Sequences`.

        Raises
        ------
        UsageError
            No held-out event has an earlier one of its user.
        """
        everything = Sequences.of(log, row_by_code, kinds)
        chosen = np.zeros(len(log), np.bool_)
        chosen[held_out.asked] = True
        stops = np.flatnonzero(chosen[everything.position] & everything.wanted)
        begins = np.zeros(len(everything), np.bool_)
        begins[everything.starts[:-1]] = True
        stops = stops[~begins[stops]]
        if len(stops) == 0:
            raise UsageError(
                "none of the held-out events has an earlier one of its user with a known item; the "
                "log is too short to choose a model by"
            )
        rng = np.random.default_rng(p.seed)
        stops = rng.permutation(stops)[:FITTED]
        longest = max(p.window, LOOKED_AT)
        windows = everything.until(stops, longest)
        back = stops[:, None] - 1 - np.arange(p.last)
        inside = back >= windows[:, :1]
        rows = np.where(inside, everything.row[np.maximum(back, 0)], 0)
        rows = np.where(inside & everything.wanted[np.maximum(back, 0)], rows, 0)
        seen = [np.unique(everything.row[begin : stop - 1]) for begin, stop in windows.tolist()]
        return cls(everything, windows, everything.row[stops], rows, seen, p)

    def judge(self, device: str) -> Callable[[Network], dict[str, float]]:
        """A judge for `Plan`: metrics on some of the cases."""
        some = slice(0, JUDGED)

        def measure(network: Network) -> dict[str, float]:
            found = interests(network, self.sequences, self.windows[some], EVENTS, device)
            with torch.no_grad():
                table, scale = network.table().cpu(), float(network.log_scale.exp())
                biases = network.biases.detach().cpu()
            free, kept = _ranks(found * scale, table, biases, self.targets[some], self.seen[some])
            best = free if gain(free, K).mean() >= gain(kept, K).mean() else kept
            return _metrics(best)

        return measure

    def ask(self, network: Network, device: str) -> Float32:
        """What a member says of all cases: float32 [cases, d]."""
        found: Float32 = interests(network, self.sequences, self.windows, EVENTS, device).numpy()
        return found

    def settle(
        self,
        asked: list[Float32],
        scales: list[float],
        table: Float32,
        biases: Float32,
        companions: Companions,
        epochs: int,
        report: Report,
    ) -> Settled:
        """Fit the weights of the last interactions; keep what gives the best lists.

        Parameters
        ----------
        asked : of each member, from `ask`
        scales : of each member's cosine
        table, biases : float32 [n, D], [n]; as exported
        """
        found = torch.cat(
            [
                torch.from_numpy(q) * scale * len(scales) ** 0.5
                for q, scale in zip(asked, scales, strict=True)
            ],
            1,
        )
        entries = Entries.of(self.recent, companions)

        def made(exclude: bool, temperature: float) -> Settled:
            warm = found * temperature
            base, normaliser, hit = self._base(warm, table, biases, entries, exclude)
            weights = fit(entries, base, hit, self.p.last)
            ranks = self._blended(warm, table, biases, entries, weights, exclude)
            one = Settled(
                epochs,
                exclude,
                tuple(np.round(weights[: self.p.last], 4).tolist()),
                tuple(np.round(weights[self.p.last :], 4).tolist()),
                temperature,
                round(float(normaliser.mean()), 4),
                *(round(value, 4) for value in _metrics(ranks).values()),
            )
            report(
                f"  {'without' if exclude else 'with'} seen items, logits * {temperature:g}: "
                f"ndcg@{K} {one.ndcg:.4f}  recall@{K} {one.recall:.4f}  mrr@{K} {one.mrr:.4f}"
            )
            return one

        first, *others = TEMPERATURES
        ahead = max((made(exclude, first) for exclude in (False, True)), key=_worth)
        return max([ahead, *(made(ahead.exclude_seen, other) for other in others)], key=_worth)

    def _chunks(
        self, found: Tensor, table: Float32, biases: Float32, exclude: bool
    ) -> Iterator[tuple[slice, Tensor]]:
        """Cases of `AT_ONCE` and their logits, float32 [c, n]."""
        vectors, bias = torch.from_numpy(table), torch.from_numpy(biases)
        for first in range(0, len(found), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            logits = found[part] @ vectors.T + bias
            logits[:, 0] = -torch.inf
            if exclude:
                _strike(logits, self.seen[part])
            yield part, logits

    def _base(
        self, found: Tensor, table: Float32, biases: Float32, entries: Entries, exclude: bool
    ) -> tuple[Float64, Float64, Int64]:
        """What `blend.fit` needs. `found`: float32 [C, D], interests * temperature * scale.

        Returns
        -------
        base : float64 [U]; log-probability of each pair of `entries`
        normaliser : float64 [C]; log of the sum over items of exp(logit)
        target : int64 [C]; index of the pair that is the case's target, -1 when it is none of them
        """
        base = np.empty(len(entries.case))
        normaliser = np.empty(len(found))
        for part, logits in self._chunks(found, table, biases, exclude):
            logsum = torch.logsumexp(logits, 1)
            normaliser[part] = logsum.numpy()
            of = slice(*np.searchsorted(entries.case, [part.start, part.start + len(logits)]))
            at = torch.from_numpy(entries.case[of] - part.start)
            picked = logits[at, torch.from_numpy(entries.row[of])] - logsum[at]
            base[of] = picked.double().numpy()
        pair = entries.case * len(table) + entries.row
        wanted = np.arange(len(found)) * len(table) + self.targets
        at_pair = np.minimum(np.searchsorted(pair, wanted), len(pair) - 1)
        inside = (pair[at_pair] == wanted) & np.isfinite(base[at_pair])
        return base, normaliser, np.where(inside, at_pair, -1)

    def _blended(
        self,
        found: Tensor,
        table: Float32,
        biases: Float32,
        entries: Entries,
        weights: Float64,
        exclude: bool,
    ) -> Int64:
        """Ranks from 0 of the targets when the last interactions have their say: int64 [C].

        `found` as for `_base`; `weights`: from `blend.fit`.
        """
        added = torch.from_numpy(entries.added(weights).astype(np.float32))
        ranks = np.empty(len(found), np.int64)
        for part, logits in self._chunks(found, table, biases, exclude):
            of = slice(*np.searchsorted(entries.case, [part.start, part.start + len(logits)]))
            at = torch.from_numpy(entries.case[of] - part.start)
            logits[at, torch.from_numpy(entries.row[of])] += added[of]
            target = torch.from_numpy(self.targets[part])[:, None]
            ranks[part] = (logits > logits.gather(1, target)).sum(1).numpy()
        return ranks


@torch.no_grad()
def interests(
    network: Network, sequences: Sequences, windows: Int64, events: int, device: str
) -> Tensor:
    """The interest before each window's last event: float [len(windows), d], of length 1."""
    network.eval()
    found = torch.empty(len(windows), network.p.dim)
    table = network.table()
    for some in sequences.batches(windows, events):
        part = windows[some]
        batch = sequences.pack(part)
        columns = (torch.from_numpy(column).to(device) for column in batch[:3])
        after = network(*columns, table)
        last = torch.from_numpy(part[:, 1] - part[:, 0] - 2).to(device)
        found[torch.from_numpy(some)] = after[last, torch.arange(len(some), device=device)].cpu()
    return found


def _ranks(
    found: Tensor, table: Tensor, biases: Tensor, targets: Int64, seen: list[Int64]
) -> tuple[Int64, Int64]:
    """Ranks from 0 of the targets among all items, and among those not seen: int64 [C] each.

    A target that was seen has rank n among the latter.

    Parameters
    ----------
    found : float32 [C, d], interests times scale
    table, biases : float32 [n, d], [n]
    targets : int64 [C]
    seen : C arrays of rows
    """
    free, kept = np.empty(len(found), np.int64), np.empty(len(found), np.int64)
    for first in range(0, len(found), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        logits = found[part] @ table.T + biases
        logits[:, 0] = -torch.inf
        target = logits.gather(1, torch.from_numpy(targets[part])[:, None])
        free[part] = (logits > target).sum(1).numpy()
        _strike(logits, seen[part])
        kept[part] = (logits > target).sum(1).numpy()
        again = [t in rows for t, rows in zip(targets[part], seen[part], strict=True)]
        kept[part] = np.where(again, len(table), kept[part])
    return free, kept


def _strike(logits: Tensor, seen: list[Int64]) -> None:
    """Rule out what each case's user has seen, in place."""
    case = np.repeat(np.arange(len(seen)), [len(rows) for rows in seen])
    rows = np.concatenate(seen)
    logits[torch.from_numpy(case), torch.from_numpy(rows)] = -torch.inf


def _metrics(ranks: Int64) -> dict[str, float]:
    """NDCG, recall and MRR at K with one relevant item each."""
    hit = ranks < K
    return {
        f"ndcg@{K}": float(gain(ranks, K).mean()),
        f"recall@{K}": float(hit.mean()),
        f"mrr@{K}": float((hit / (ranks + 1)).mean()),
    }


def _worth(settled: Settled) -> float:
    return settled.ndcg
