"""Train a gated linear recurrence on a log. In: a `Log`. Out: `Trained`. PyTorch.

With held-out events: networks are judged on them after every epoch, and the weights of the last
interactions are fitted on them. Without: what was settled that way is used, on the whole log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from export.data.dataset import Log
from export.models.base import (
    Float32,
    HeldOut,
    Int64,
    Run,
    Trained,
)
from export.models.glr import graphs
from export.models.glr.companions import BACKWARD, Companions, both_ways, nearest, pairs
from export.models.glr.counts import Counts
from export.models.glr.exported import exported
from export.models.glr.judging import Cases
from export.models.glr.members import Job, train_members
from export.models.glr.network import Neighbours
from export.models.glr.parameters import Parameters, length
from export.models.glr.popularity import drift
from export.models.glr.sequences import Sequences, trained_kinds
from export.models.glr.settled import Settled
from export.models.glr.settling import Answers, settle
from export.models.glr.warm import Grown, Start, going_on, starts
from export.weights import TOWARDS
from stream.errors import UsageError

REFIT_RATE = 0.3  # of the learning rate, with which the networks of the older events go on
# Share of the events, of items that the networks of the older events lack, up to which those go on:
# a few passes at a small rate teach next to nothing of a new item.
MOST_NEW = 0.005
SETTLING_SHARE = 0.2  # of the time, for what held-out events settle once networks are trained


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
    settled : of an earlier training with `held_out`; parameters, epochs and weights are taken from
        it, and with `refit` below 1 its networks
    given : fields of `Parameters`

    Raises
    ------
    UsageError
        The log is too small, CUDA was asked for and is not there, or the training cannot go on from
        `run.warm`.
    """
    run = run or Run()
    older = log if held_out is None else log.select(held_out.trained)
    if settled is not None and settled.parameters is not None:
        p = settled.parameters
    elif run.warm is None:
        p = Parameters.chosen(length(older), len(older), **given)
    else:
        p = going_on(run.warm, length(older), given)
    item_ids, row_by_code = _rows(older, p.min_count)
    kinds = trained_kinds(older)
    sequences = Sequences.of(older, row_by_code, kinds, p.recency)
    if len(sequences.windows(p.window)) == 0:
        raise UsageError("no user of the log has two events; there is nothing to learn from")
    forward = pairs(sequences, len(item_ids))
    companions = Companions.of(both_ways(forward, BACKWARD), p.companions)
    cases = None if held_out is None else Cases.of(log, held_out, row_by_code, kinds, p)
    begin, epochs, trained_with = _beginnings(settled, run, p, item_ids, sequences)
    neighbours = _neighbours(both_ways(forward), p)
    job = Job(sequences, len(item_ids), trained_with, neighbours, cases, epochs, begin)
    seconds, training = run.seconds, run
    if cases is not None and seconds is not None:
        training = replace(run, seconds=seconds * (1 - SETTLING_SHARE))
        seconds *= SETTLING_SHARE
    members = train_members(job, training)
    table: Float32 = (np.concatenate(members.tables, axis=1) / p.members**0.5).astype(np.float32)
    bias: Float32 = np.mean(members.biases, axis=0).astype(np.float32)
    counts = None
    if cases is not None or (settled is not None and settled.correction is not None):
        counts = Counts.of(sequences, forward, companions, table)
    if cases is not None:
        assert counts is not None
        answers = Answers(members.asked, members.scales, table, bias)
        settled = settle(cases, answers, counts, sequences, members.epochs, run.report, seconds)
        settled = replace(settled, parameters=p, grown=Grown.of(item_ids, members.kept))
    settled = settled or Settled(members.epochs, False, (0.0,) * p.last, (0.0,) * p.last)
    warmth = settled.temperature
    bias += np.float32(settled.lately) * drift(sequences, len(item_ids), settled.half_life_days)
    if counts is not None and settled.correction is not None:
        bias += settled.correction.biases(counts)
        companions = settled.correction.companions(counts)
    recurrence = graphs.Recurrence(
        p=p,
        members=[replace(one, scale=one.scale * warmth) for one in members.served],
        kinds=kinds,
        turned=TOWARDS.astype(np.float32),
        again=np.array(settled.again, np.float32),
        together=np.array(settled.together, np.float32),
        companions=companions,
    )
    return exported(
        recurrence,
        item_ids,
        table,
        bias - np.float32(settled.level),
        sampled=len(item_ids) > 2 * p.negatives,
        storage="int8",
        created=log.ends,
        training={
            "events": len(older),
            **({} if run.warm is None else {"warm": run.warm.bundle_id}),
            **asdict(p),
            "settled": settled.told(),
            "scales": members.scales,
            "curves": members.curves,
        },
        exclude_seen=settled.exclude_seen,
        settled=settled,
        network=members.kept,
    )


def _beginnings(
    settled: Settled | None, run: Run, p: Parameters, item_ids: list[str], sequences: Sequences
) -> tuple[Sequence[Start | None], int, Parameters]:
    """Where each network begins, None at random; for how many epochs, and with which parameters."""
    epochs = p.epochs if settled is None else settled.epochs
    grown = None if settled is None or p.refit == 1 else settled.grown
    if grown is not None and (new := _new(grown, item_ids, sequences)) > MOST_NEW:
        run.report(f"{new:.1%} of the events are of items that the older ones lack: from nothing")
        grown = None
    if grown is not None:
        rate = p.learning_rate * REFIT_RATE
        epochs = max(1, round(epochs * p.refit))
        return starts(grown, item_ids, p), epochs, replace(p, learning_rate=rate)
    if run.warm is not None:
        return starts(run.warm, item_ids, p), epochs, p
    return [None] * p.members, epochs, p


def _rows(log: Log, min_count: int) -> tuple[list[str], Int64]:
    """Item ids by row, and the row of each code of `log.items`, 0 for none."""
    counts = np.bincount(log.item, minlength=len(log.items))
    known = np.flatnonzero(counts >= max(min_count, 1))
    if len(known) < 2:
        raise UsageError(f"the log has {len(known)} items; training needs at least two")
    row_by_code = np.zeros(len(log.items), np.int64)
    row_by_code[known] = np.arange(1, len(known) + 1)
    return ["", *(log.items[code] for code in known.tolist())], row_by_code


def _new(grown: Grown, item_ids: list[str], sequences: Sequences) -> float:
    """The share of events whose items the earlier networks lack."""
    lacking = ~np.isin(np.array(item_ids), np.array(grown.item_ids))
    return float(lacking[sequences.row].mean())


def _neighbours(counts: Any, p: Parameters) -> Neighbours | None:
    if not p.smoothing:
        return None
    rows, found = nearest(counts, p.neighbours)
    total = np.maximum(found.sum(axis=1, keepdims=True), 1e-9)
    return Neighbours(rows, (found / total).astype(np.float32))
