"""Train a gated linear recurrence on a log. In: a `Log`. Out: `Trained`. PyTorch.

With held-out events: networks are judged on them after every epoch, and the weights of the last
interactions are fitted on them. Without: what was settled that way is used, on the whole log.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from export.dataset import Log
from export.models.base import (
    EVENT_WEIGHTS,
    Float32,
    HeldOut,
    Int64,
    Trained,
    weight_table,
)
from export.models.glr import graphs
from export.models.glr.blend import Companions, Entries, fit
from export.models.glr.companions import nearest, pairs
from export.models.glr.fitting import Plan, Report, Trainer, interests
from export.models.glr.network import Neighbours, Network, numbers
from export.models.glr.parameters import Parameters
from export.models.glr.sequences import Sequences, trained_kinds
from stream.core.bundle import NEVER_LISTED
from stream.errors import UsageError

JUDGED = 6_000  # held-out events that an epoch is judged by
FITTED = 20_000  # that the weights of the last interactions are fitted on
AT_ONCE = 512
EVENTS = 25_000  # in a batch that is not trained on
K = 20


@dataclass(frozen=True, slots=True)
class Settled:
    """What held-out events decided.

    Attributes
    ----------
    epochs : that the best network had seen, of the `planned` ones
    exclude_seen : whether lists are better without what the user has seen
    again, together : weights of the last interactions
    level : what is subtracted from logits, so that their sigmoid is near a probability
    """

    epochs: int
    exclude_seen: bool = False
    again: tuple[float, ...] = ()
    together: tuple[float, ...] = ()
    level: float = 0.0


@dataclass(slots=True)
class Run:
    """Where and for how long to train, and who is told."""

    seconds: float | None = None
    device: str = "auto"
    checkpoint: Path | None = None
    report: Report = field(default=lambda message: None)


def learn(
    log: Log,
    *,
    held_out: HeldOut | None = None,
    settled: Settled | None = None,
    run: Run | None = None,
    **given: Any,
) -> Trained:
    """Train.

    Parameters
    ----------
    held_out : which events are trained on, and which of the others are asked for
    settled : of an earlier training with `held_out`; epochs and weights are taken from it
    given : fields of `Parameters`
    """
    p, run = Parameters(**given), run or Run()
    device = run.device if run.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    older = log if held_out is None else log.select(held_out.trained)
    item_ids, row_by_code = _rows(older, p.min_count)
    kinds = trained_kinds(older)
    sequences = Sequences.of(older, row_by_code, kinds, p.recency)
    if len(sequences.windows(p.window)) == 0:
        raise UsageError("no user of the log has two events; there is nothing to learn from")
    counts = pairs(sequences, len(item_ids))
    neighbours = _neighbours(counts, p)
    companions = Companions.of(counts, p.companions)
    cases = None if held_out is None else Cases.of(log, held_out, row_by_code, kinds, p)
    members, tables, biases, epochs = [], [], [], []
    for number in range(p.members):
        one = replace(p, seed=p.seed + number)
        trainer = Trainer(sequences, len(item_ids), one, neighbours, device)
        checkpoint = run.checkpoint and run.checkpoint.with_name(f"{run.checkpoint.name}-{number}")
        plan = Plan(
            epochs=settled.epochs if settled else p.epochs,
            seconds=None if run.seconds is None else run.seconds / p.members,
            judge=cases.judge(device) if cases is not None else None,
            checkpoint=checkpoint,
        )
        run.report(f"network {number + 1} of {p.members}: {_size(trainer.network):,} numbers")
        network = trainer.run(plan, run.report)
        epochs.append(trainer.progress.best_epoch or trainer.progress.epoch)
        members.append(graphs.Member(numbers(network), float(network.log_scale.detach().exp())))
        with torch.no_grad():
            tables.append(network.table().cpu().numpy().astype(np.float32))
        biases.append(members[-1].numbers["biases"])
        if cases is not None:
            cases.ask(network, device)
    table = np.concatenate(tables, axis=1) / np.float32(np.sqrt(p.members))
    bias = np.mean(biases, axis=0).astype(np.float32)
    members = [replace_scale(member, 1 / p.members) for member in members]
    if cases is not None:
        settled = cases.settle(members, table, bias, companions, max(epochs), run.report)
    assert settled is not None or held_out is None
    settled = settled or Settled(max(epochs), False, (0.0,) * p.last, (0.0,) * p.last)
    recurrence = graphs.Recurrence(
        p=p,
        members=[_served(member) for member in members],
        kinds=kinds,
        turned=(weight_table(EVENT_WEIGHTS) > 0).astype(np.float32),
        again=np.array(settled.again, np.float32),
        together=np.array(settled.together, np.float32),
        companions=companions,
    )
    table[0] = 0
    bias = bias - np.float32(settled.level)
    bias[0] = NEVER_LISTED
    return Trained(
        model="glr",
        item_ids=item_ids,
        embeddings=table,
        biases=bias,
        state_size=recurrence.state_size,
        storage="float32",
        beta=1.0,
        additive=None,
        event_weights=EVENT_WEIGHTS,
        update_onnx=graphs.update(recurrence),
        score_onnx=graphs.score(recurrence),
        reference=graphs.RecurrenceReference(recurrence, table, bias),
        created=log.ends,
        training={"events": len(older), **asdict(p), "settled": asdict(settled)},
        exclude_seen=settled.exclude_seen,
        recent=p.last,
        settled=settled,
    )


def replace_scale(member: graphs.Member, factor: float) -> graphs.Member:
    return graphs.Member(member.numbers, member.scale * factor)


def _served(member: graphs.Member) -> graphs.Member:
    """Without the item vectors, which the engine holds."""
    kept = {k: v for k, v in member.numbers.items() if k not in ("items", "biases")}
    return graphs.Member(kept, member.scale)


def _rows(log: Log, min_count: int) -> tuple[list[str], Int64]:
    """Item ids by row, and the row of each code of `log.items`, 0 for none."""
    counts = np.bincount(log.item, minlength=len(log.items))
    known = np.flatnonzero(counts >= max(min_count, 1))
    if len(known) < 2:
        raise UsageError(f"the log has {len(known)} items; training needs at least two")
    row_by_code = np.zeros(len(log.items), np.int64)
    row_by_code[known] = np.arange(1, len(known) + 1)
    return ["", *(log.items[code] for code in known.tolist())], row_by_code


def _neighbours(counts: Any, p: Parameters) -> Neighbours | None:
    if not p.smoothing:
        return None
    rows, found = nearest(counts, p.neighbours)
    total = np.maximum(found.sum(axis=1, keepdims=True), 1e-9)
    return Neighbours(rows, (found / total).astype(np.float32))


def _size(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@dataclass(slots=True, eq=False)
class Cases:
    """Held-out events to be predicted from all that their users did before."""

    sequences: Sequences
    windows: Int64
    targets: Int64
    recent: Int64  # [C, R], newest first
    seen: list[Int64]
    missing: float
    p: Parameters
    asked: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(
        cls, log: Log, held_out: HeldOut, row_by_code: Int64, kinds: Int64, p: Parameters
    ) -> Cases:
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
        longest = max(p.window, 50)
        windows = everything.until(stops, longest)
        back = stops[:, None] - 1 - np.arange(p.last)
        inside = back >= windows[:, :1]
        rows = np.where(inside, everything.row[np.maximum(back, 0)], 0)
        rows = np.where(inside & everything.wanted[np.maximum(back, 0)], rows, 0)
        seen = [np.unique(everything.row[begin : stop - 1]) for begin, stop in windows.tolist()]
        missing = 1 - len(stops) / max(len(held_out.asked), 1)
        return cls(everything, windows, everything.row[stops], rows, seen, missing, p)

    def judge(self, device: str) -> Any:
        """A judge for `Plan`: metrics on some of the cases."""
        some = slice(0, JUDGED)

        def measure(network: Network) -> dict[str, float]:
            found = interests(network, self.sequences, self.windows[some], EVENTS, device)
            with torch.no_grad():
                table, scale = network.table().cpu(), float(network.log_scale.exp())
                biases = network.biases.detach().cpu()
            free, kept = _ranks(found * scale, table, biases, self.targets[some], self.seen[some])
            best = free if _ndcg(free) >= _ndcg(kept) else kept
            return {
                f"ndcg@{K}": _ndcg(best),
                f"recall@{K}": float((best < K).mean()),
                f"mrr@{K}": float(((best < K) / (best + 1)).mean()),
            }

        return measure

    def ask(self, network: Network, device: str) -> None:
        """Keep what a member says of all cases."""
        self.asked.append(interests(network, self.sequences, self.windows, EVENTS, device))

    def settle(
        self,
        members: list[graphs.Member],
        table: Float32,
        biases: Float32,
        companions: Companions,
        epochs: int,
        report: Report,
    ) -> Settled:
        """Fit the weights of the last interactions, with and without seen items; keep the better."""
        found = torch.cat(
            [q * m.scale * len(members) ** 0.5 for q, m in zip(self.asked, members, strict=True)], 1
        )
        entries = Entries.of(self.recent, companions)
        best: tuple[float, Settled] | None = None
        for exclude in (False, True):
            base, normaliser, hit = self._base(found, table, biases, entries, exclude)
            weights = fit(entries, base, hit, self.p.last)
            ranks = self._blended(found, table, biases, entries, weights, exclude)
            ndcg = _ndcg(ranks)
            report(
                f"  {'without' if exclude else 'with'} seen items: ndcg@{K} {ndcg:.4f}  recall@{K} "
                f"{(ranks < K).mean():.4f}  mrr@{K} {((ranks < K) / (ranks + 1)).mean():.4f}"
            )
            again = tuple(np.round(weights[: self.p.last], 4).tolist())
            together = tuple(np.round(weights[self.p.last :], 4).tolist())
            made = Settled(epochs, exclude, again, together, round(float(normaliser.mean()), 4))
            if best is None or ndcg > best[0]:
                best = (ndcg, made)
        assert best is not None
        return best[1]

    def _chunks(
        self, found: Tensor, table: Float32, biases: Float32, exclude: bool
    ) -> Any:
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
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Int64]:
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
        weights: npt.NDArray[np.float64],
        exclude: bool,
    ) -> npt.NDArray[np.int64]:
        added = torch.from_numpy(entries.added(weights).astype(np.float32))
        ranks = np.empty(len(found), np.int64)
        for part, logits in self._chunks(found, table, biases, exclude):
            of = slice(*np.searchsorted(entries.case, [part.start, part.start + len(logits)]))
            at = torch.from_numpy(entries.case[of] - part.start)
            logits[at, torch.from_numpy(entries.row[of])] += added[of]
            target = torch.from_numpy(self.targets[part])[:, None]
            ranks[part] = (logits > logits.gather(1, target)).sum(1).numpy()
        return ranks


def _ranks(
    found: Tensor, table: Tensor, biases: Tensor, targets: Int64, seen: list[Int64]
) -> tuple[Int64, Int64]:
    """Ranks from 0 of the targets among all items, and among those not seen."""
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


def _ndcg(ranks: npt.NDArray[np.int64]) -> float:
    """NDCG at K with one relevant item."""
    return float(np.where(ranks < K, 1 / np.log2(ranks + 2.0), 0).mean())
