"""Measure a bundle on a log it was not trained on. In: a model, a log, a moment. Out: metrics.

Replays every user's events in time order through the bundle's own graphs, states quantised after
each event as the engine does, and asks for lists of the full catalogue (no sampled negatives) at
two kinds of moment of every order after `since_ms`:

- `next_basket`: before the order, what will be in it;
- `rest_of_basket`: with half of the order's events folded, what the other half is. Items of the
  first half are excluded.

Must not know: which model it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.dataset import Log
from export.models.base import EVENT_WEIGHTS, Float32, Int64
from stream.core.model import Model

RING = 50  # interactions the engine remembers for exclusion, by default
BATCH = 64

MOMENTS = ("next_basket", "rest_of_basket")


@dataclass(frozen=True, slots=True)
class Query:
    """Ask for a list before a user folds the event at `position`."""

    moment: str
    targets: Int64  # codes of `Log.items`
    taken: Int64  # codes that are in the basket already


@dataclass(slots=True)
class Tally:
    """Sums over queries of one moment."""

    queries: int = 0
    recall: float = 0.0
    ndcg: float = 0.0
    reciprocal_rank: float = 0.0

    def add(self, ranked: Int64, targets: Int64) -> None:
        """One list: `ranked` codes best first (-1 = none), against `targets`."""
        hits = np.isin(ranked, targets)
        discounts = 1 / np.log2(np.arange(2, len(ranked) + 2))
        self.queries += 1
        self.recall += hits.sum() / len(targets)
        self.ndcg += (hits * discounts).sum() / discounts[: len(targets)].sum()
        self.reciprocal_rank += 1 / (np.argmax(hits) + 1) if hits.any() else 0.0

    def means(self, k: int) -> dict[str, float]:
        """Means, rounded: `recall@k`, `ndcg@k`, `mrr@k`, and the number of queries."""
        n = max(self.queries, 1)
        return {
            "queries": self.queries,
            f"recall@{k}": round(float(self.recall / n), 4),
            f"ndcg@{k}": round(float(self.ndcg / n), 4),
            f"mrr@{k}": round(float(self.reciprocal_rank / n), 4),
        }


def evaluate(
    model: Model,
    log: Log,
    since_ms: int,
    *,
    exclude_seen: bool,
    beta: float | None = None,
    storage: str | None = None,
    k: int = 20,
) -> dict[str, dict[str, float]]:
    """Metrics by moment.

    Parameters
    ----------
    log : all events; those before `since_ms` only build the states up
    exclude_seen : leave out the items of a user's last 50 interactions
    beta, storage : None takes the bundle's
    k : length of the lists
    """
    manifest = model.bundle.manifest
    beta = manifest.beta if beta is None else beta
    quantised = (storage or manifest.state.storage) == "int8"
    row_of = {item_id: row for row, item_id in enumerate(model.bundle.item_ids)}
    row_by_code = np.array([row_of.get(item_id, 0) for item_id in log.items], np.int64)
    code_by_row = np.full(model.rows, -1, np.int64)
    code_by_row[row_by_code] = np.arange(len(row_by_code))
    code_by_row[0] = -1
    histories = _histories(log)
    queries = _queries(log, histories, since_ms)
    tallies = {moment: Tally() for moment in MOMENTS}
    bias = model.new_bias()
    state = np.zeros((len(histories), model.state_size), np.float32)
    newest = np.zeros(len(histories), np.int64)
    active = len(histories)
    for position in range(max(map(len, histories), default=0)):
        while active and len(histories[active - 1]) <= position:
            active -= 1
        asked = [
            (user, query) for user in range(active) for query in queries.get((user, position), ())
        ]
        for first in range(0, len(asked), BATCH):
            part = asked[first : first + BATCH]
            excluded = _excluded(
                part,
                histories=histories,
                position=position,
                log=log,
                row_by_code=row_by_code,
                exclude_seen=exclude_seen,
            )
            chosen = state[[user for user, _ in part]]
            listed, scores = model.score(chosen, bias, excluded, beta, k)
            ranked = np.where(scores > 0, code_by_row[listed], -1)
            for codes, (_, query) in zip(ranked, part, strict=True):
                tallies[query.moment].add(codes, query.targets)
        at = np.array([history[position] for history in histories[:active]])
        times = log.time_ms[at]
        gaps = (times - newest[:active]) / 1000 if position else np.zeros(active)
        rows, types = row_by_code[log.item[at]], log.event_type[at]
        folded = model.update(state[:active], rows, types, gaps.astype(np.float32))
        state[:active] = quantise(folded) if quantised else folded
        newest[:active] = np.maximum(newest[:active], times)
    return {moment: tally.means(k) for moment, tally in tallies.items()}


def quantise(state: Float32) -> Float32:
    """What is left of a state that is kept as int8 with one scale a user."""
    scale = np.abs(state).max(axis=1, keepdims=True) / np.float32(127)
    scale[scale == 0] = 1
    restored: Float32 = (np.rint(state / scale) * scale).astype(np.float32)
    return restored


def _histories(log: Log) -> list[Int64]:
    """Positions in the log of each user's events, in time order; longest history first."""
    order = np.argsort(log.user, kind="stable")
    bounds = np.flatnonzero(np.diff(log.user[order])) + 1
    return sorted(np.split(order, bounds), key=len, reverse=True) if len(log) else []


def _queries(log: Log, histories: list[Int64], since_ms: int) -> dict[tuple[int, int], list[Query]]:
    """Queries by (user, position): at each later order's begin and at its middle."""
    queries: dict[tuple[int, int], list[Query]] = {}
    for user, history in enumerate(histories):
        if log.time_ms[history[-1]] < since_ms:
            continue
        sessions = log.session[history]
        later = np.unique(sessions[log.time_ms[history] >= since_ms])
        for session in later:
            positions = np.flatnonzero((sessions == session) & _turns_towards(log, history))
            if len(positions) == 0 or log.time_ms[history[positions[0]]] < since_ms:
                continue
            codes, first = np.unique(log.item[history[positions]], return_index=True)
            order = np.argsort(first)  # each item once, where the order first turns to it
            codes, positions = codes[order], positions[first[order]]
            start, middle = int(positions[0]), len(positions) // 2
            if start > 0:
                whole = Query("next_basket", np.unique(codes), codes[:0])
                queries.setdefault((user, start), []).append(whole)
            rest = np.setdiff1d(codes[middle:], codes[:middle])
            if middle and len(rest):
                query = Query("rest_of_basket", rest, codes[:middle])
                queries.setdefault((user, int(positions[middle])), []).append(query)
    return queries


def _turns_towards(log: Log, history: Int64) -> npt.NDArray[np.bool_]:
    liked = [int(t) for t, weight in EVENT_WEIGHTS.items() if weight > 0]
    return np.isin(log.event_type[history], liked)


def _excluded(
    asked: list[tuple[int, Query]],
    *,
    histories: list[Int64],
    position: int,
    log: Log,
    row_by_code: Int64,
    exclude_seen: bool,
) -> Int64:
    lists = []
    for user, query in asked:
        rows = row_by_code[query.taken]
        if exclude_seen:
            recent = histories[user][max(0, position - RING) : position]
            rows = np.concatenate([rows, row_by_code[log.item[recent]]])
        lists.append(rows)
    width = max(1, *(len(rows) for rows in lists)) if lists else 1
    excluded = np.zeros((len(lists), width), np.int64)
    for line, rows in zip(excluded, lists, strict=True):
        line[: len(rows)] = rows
    return excluded
