"""Judge networks by held-out events. In: networks. Out: metrics, and what they say of each case.

Every case is one event of a moment (see `sequences`), to be predicted from what its user did
before, among all items. PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from export.data.dataset import Log
from export.data.visits import one_a_moment
from export.measuring.metrics.ranking import gain
from export.models.base import Float32, HeldOut, Int64
from export.models.glr.network import Network
from export.models.glr.parameters import Parameters
from export.models.glr.sequences import Sequences
from stream.errors import UsageError

JUDGED = 6_000  # cases that an epoch is judged by
FITTED = 8_000  # that the rest is settled on
FEWEST = 1_000  # of those, where the catalogue is large
LOGITS = 400_000_000  # of all cases together, about: one trial of many takes some ten seconds
LOOKED_AT = 50  # a user's last events, at least, that a case is asked from
AT_ONCE = 512
EVENTS = 25_000  # in a batch that is not trained on
K = 20
UNLISTED = 2**62  # the rank of a target that is in no list, however long


@dataclass(slots=True, eq=False)
class Cases:
    """C held-out events of as many moments, to be predicted from what was before those.

    Attributes
    ----------
    sequences : of the whole log, the held-out events too
    windows : int64, shape (C, 2); positions in `sequences`: of the oldest event that is looked at,
        and two after the newest
    targets : int64, shape (C,); rows
    recent : int64, shape (C, `Parameters.last`); rows of the last interactions before, newest
        first, 0 for none and for those that did not turn towards their item
    seen : C arrays, int64; rows of what is looked at, each once
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
        first = np.zeros(len(everything), np.bool_)
        first[everything.starts[:-1]] = True
        stops = stops[~first[everything.begins[stops]]]
        if len(stops) == 0:
            raise UsageError(
                "no held-out event that is learned from has an earlier one of its user with a "
                "known item; the log is too short to choose a network by, or of one user alone"
            )
        rng = np.random.default_rng(p.seed)
        items = int(row_by_code.max(initial=0)) + 1
        stops = one_a_moment(stops, everything.begins, rng)
        stops = stops[: max(FEWEST, min(FITTED, LOGITS // items))]
        asked = everything.begins[stops]
        longest = max(p.window, LOOKED_AT)
        windows = everything.until(asked, longest)
        back = asked[:, None] - 1 - np.arange(p.last)
        inside = back >= windows[:, :1]
        rows = np.where(inside, everything.row[np.maximum(back, 0)], 0)
        rows = np.where(inside & everything.wanted[np.maximum(back, 0)], rows, 0)
        seen = [np.unique(everything.row[begin : stop - 1]) for begin, stop in windows.tolist()]
        return cls(everything, windows, everything.row[stops], rows, seen, p)

    def some(self, at: Int64) -> Cases:
        """Some of them, by index."""
        return replace(
            self,
            windows=self.windows[at],
            targets=self.targets[at],
            recent=self.recent[at],
            seen=[self.seen[case] for case in at.tolist()],
        )

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
            return metrics(best)

        return measure

    def ask(self, network: Network, device: str) -> Float32:
        """What a member says of all cases: float32 [cases, d]."""
        found: Float32 = interests(network, self.sequences, self.windows, EVENTS, device).numpy()
        return found


@torch.no_grad()
def interests(
    network: Network, sequences: Sequences, windows: Int64, events: int, device: str
) -> Tensor:
    """The interest before each window's last event: float [len(windows), d].

    Of length 1 with `cosine`.
    """
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

    A target that was seen has rank `UNLISTED` among the latter.

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
        free[part] = (~(logits <= target)).sum(1).numpy()  # what is no number is no hit
        strike(logits, seen[part])
        kept[part] = (~(logits <= target)).sum(1).numpy()
        again = [t in rows for t, rows in zip(targets[part], seen[part], strict=True)]
        kept[part] = np.where(again, UNLISTED, kept[part])
    return free, kept


def strike(logits: Tensor, seen: list[Int64]) -> None:
    """Rule out what each case's user has seen, in place."""
    case = np.repeat(np.arange(len(seen)), [len(rows) for rows in seen])
    rows = np.concatenate(seen)
    logits[torch.from_numpy(case), torch.from_numpy(rows)] = -torch.inf


def metrics(ranks: Int64) -> dict[str, float]:
    """NDCG, recall and MRR at K with one relevant item each."""
    hit = ranks < K
    return {
        f"ndcg@{K}": float(gain(ranks, K).mean()),
        f"recall@{K}": float(hit.mean()),
        f"mrr@{K}": float((hit / (ranks + 1)).mean()),
    }
