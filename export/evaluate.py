"""Measure a bundle on a log it was not trained on. In: a model, a log, a moment. Out: metrics.

Replays every user's events in time order through the engine's own fold (states quantised after each
event, the ring of interactions) and asks for lists as a placement makes them, of the full catalogue
(no sampled negatives), at two kinds of moment of every order after `since_ms`:

- `next_basket`: before the order, what will be in it;
- `rest_of_basket`: with half of the order's events folded, what the other half is. Items of the
  first half are left out, as a shop does with what lies in the cart.

Must not know: which model it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from export.dataset import Log
from export.models.base import EVENT_WEIGHTS, Int64
from stream.config import Placement as PlacementRules
from stream.config import Settings
from stream.contracts import Events
from stream.core.bundle import NEVER_LISTED
from stream.core.catalogue import Catalogue
from stream.core.fold import fold
from stream.core.model import Model
from stream.core.policy.placement import Placement, Ring
from stream.core.state import UserShard
from stream.core.users import Users
from stream.core.wire import Layout

RING = Settings().state.ring
AS_SERVED = PlacementRules()
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


class Asked(NamedTuple):
    """One list that was asked for.

    Attributes
    ----------
    user : code of `Log.users`
    folded : events of the user that the list reflects
    ranked : int64, shape (k,); codes of `Log.items`, best first, -1 where nothing is listed
    """

    query: Query
    user: int
    folded: int
    ranked: Int64


def evaluate(
    model: Model,
    log: Log,
    since_ms: int,
    *,
    rules: PlacementRules = AS_SERVED,
    storage: str | None = None,
    ring: int = RING,
) -> dict[str, dict[str, float]]:
    """Metrics by moment.

    Parameters
    ----------
    log : all events; those before `since_ms` only build the states up
    rules : the placement's settings; the default is a placement's default
    storage : how states are kept; None takes the bundle's
    ring : interactions remembered per user; the default is the engine's
    """
    tallies = {moment: Tally() for moment in MOMENTS}
    for asked in replay(model, log, since_ms, rules=rules, storage=storage, ring=ring):
        tallies[asked.query.moment].add(asked.ranked, asked.query.targets)
    return {moment: tally.means(rules.k) for moment, tally in tallies.items()}


def replay(
    model: Model,
    log: Log,
    since_ms: int,
    *,
    rules: PlacementRules,
    storage: str | None = None,
    ring: int = RING,
) -> Iterator[Asked]:
    """The lists that `evaluate` measures, user by user in no particular order."""
    bundle = model.bundle
    kept = storage or bundle.manifest.state.storage
    catalogue = Catalogue(bundle.item_ids)
    shard = UserShard(Layout(model.state_size, kept, ring, bundle.version))
    bias = np.full(model.rows, NEVER_LISTED, np.float32)
    bias[: len(bundle.biases)] = bundle.biases
    placement = Placement("measured", rules, model, catalogue, bias)
    row_by_code = catalogue.rows(log.items)
    code_by_row = np.full(model.rows, -1, np.int64)
    code_by_row[row_by_code] = np.arange(len(row_by_code))
    code_by_row[0] = -1
    histories = _histories(log)
    queries = _queries(log, histories, since_ms)
    users = Users.of(shard, [b"%d" % user for user in range(len(histories))])
    active = len(histories)
    progress = tqdm(total=len(log), unit="event", unit_scale=True, leave=False, disable=None)
    with progress:
        for position in range(max(map(len, histories), default=0)):
            while active and len(histories[active - 1]) <= position:
                active -= 1
            due = [(u, query) for u in range(active) for query in queries.get((u, position), ())]
            for first in range(0, len(due), BATCH):
                part = due[first : first + BATCH]
                who = np.array([user for user, _ in part])
                struck = _padded([row_by_code[query.taken] for _, query in part])
                listed, scores = placement.rank(
                    users.vectors[who], Ring.of(model, catalogue, users, who), struck
                )
                ranked = np.where(scores > 0, code_by_row[listed], -1)
                for codes, (user, query) in zip(ranked, part, strict=True):
                    yield Asked(query, int(log.user[histories[user][0]]), position, codes)
            at = np.array([history[position] for history in histories[:active]])
            fold(model, catalogue, users, np.arange(active), _events(users, log, at))
            progress.update(active)


def _events(users: Users, log: Log, at: Int64) -> Events:
    """The events at these positions of the log, each of another user, as the engine gets them."""
    return Events(
        users=users.keys[: len(at)],
        items=[log.items[code] for code in log.item[at].tolist()],
        types=log.event_type[at].astype(np.uint8),
        times_ms=log.time_ms[at],
        event_hashes=np.zeros(len(at), np.uint32),
        offsets=at,
    )


def _padded(lists: list[Int64]) -> Int64:
    """Rows of several users as int64, shape (len(lists), longest), padded with 0."""
    padded = np.zeros((len(lists), max(map(len, lists), default=0)), np.int64)
    for line, rows in zip(padded, lists, strict=True):
        line[: len(rows)] = rows
    return padded


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
