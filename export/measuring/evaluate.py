"""Ask a model its questions. In: a served model, `Questions`. Out: the lists that it answers.

Users' events are replayed in time order through the engine's own fold (states quantised after each
event, the ring of interactions), and lists are made as a placement makes them, of the full
catalogue (no sampled negatives).

Must not know: which model it is, what a good list is.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from export.data.dataset import Log
from export.measuring.questions import Int64, Query, Questions
from stream.config import Placement as PlacementRules
from stream.config import Settings
from stream.contracts import Events
from stream.core.bundle import NEVER_LISTED
from stream.core.catalogue import Catalogue
from stream.core.fold import fold
from stream.core.model import Model
from stream.core.policy.arranging import Arranging, pool_of
from stream.core.policy.audience import Audience, Basis
from stream.core.policy.placement import Placement
from stream.core.policy.ring import Ring
from stream.core.state import UserShard
from stream.core.users import Users
from stream.core.wire import Layout

RING = Settings().state.ring
AS_SERVED = PlacementRules()
BATCH = 64  # lists made at once
BLOCK = 8_192  # users replayed at once: 20 MB of states of 320 numbers, twice


@dataclass(slots=True, eq=False)
class Answers:
    """The lists to n queries, in their order.

    Attributes
    ----------
    listed : int64, shape (n, k); item rows of the bundle, best first, 0 where nothing is listed
    scores : float32, shape (n, k); 0 where nothing is listed
    row_by_code : int64, shape (len(log.items),); rows of the log's items, 0 for unknown ones
    """

    questions: Questions
    listed: Int64
    scores: npt.NDArray[np.float32]
    row_by_code: Int64

    def of(self, moment: str) -> Answers:
        """Those to the questions of one moment."""
        asked, log = self.questions, self.questions.log
        at = [number for number, query in enumerate(asked.queries) if query.moment == moment]
        chosen = Questions(log, asked.histories, [asked.queries[number] for number in at])
        return Answers(chosen, self.listed[at], self.scores[at], self.row_by_code)

    def targets(self) -> list[Int64]:
        """Rows of each query's targets, 0 for items that the bundle does not know."""
        return [self.row_by_code[query.targets] for query in self.questions.queries]


def replay(
    model: Model,
    questions: Questions,
    *,
    rules: PlacementRules = AS_SERVED,
    storage: str | None = None,
    ring: int = RING,
    strike_history: bool = False,
) -> Answers:
    """Answer all questions.

    Parameters
    ----------
    rules : the placement's settings; the default is a placement's default. The catalogue has no
        records, so those that look at attributes of items find nothing
    storage : how states are kept; None takes the bundle's
    ring : interactions remembered per user; the default is the engine's
    strike_history : leave out as well what the ring has forgotten and would leave out, as
        published protocols do
    """
    served = _Served(model, questions.log, rules, storage, ring)
    n = len(questions.queries)
    k = min(rules.k, model.rows)
    answers = Answers(
        questions, np.zeros((n, k), np.int64), np.zeros((n, k), np.float32), served.row_by_code
    )
    last = np.full(len(questions.histories), -1, np.int64)  # events before a user's last question
    for query in questions.queries:
        last[query.user] = max(last[query.user], query.position)
    asked = np.flatnonzero(last >= 0)
    asked = asked[np.argsort(-last[asked], kind="stable")]
    queries_of = defaultdict(list)
    for number, query in enumerate(questions.queries):
        queries_of[query.user].append(number)
    events = int(last[asked].sum())
    with tqdm(total=events, unit="event", unit_scale=True, leave=False, disable=None) as progress:
        for first in range(0, len(asked), BLOCK):
            block = asked[first : first + BLOCK]
            due: dict[int, list[tuple[int, int]]] = defaultdict(list)
            for who, user in enumerate(block.tolist()):
                for number in queries_of[user]:
                    due[questions.queries[number].position].append((who, number))
            users = served.newcomers(len(block))
            for position in range(int(last[block[0]]) + 1):
                served.ask(users, answers, due.pop(position, []), strike_history)
                active = block[: np.searchsorted(-last[block], -position)].tolist()
                if active:
                    at = [questions.histories[user][position] for user in active]
                    served.fold(users, np.array(at))
                    progress.update(len(at))
    return answers


class _Served:
    """A model behind one placement, as the engine has it."""

    def __init__(
        self, model: Model, log: Log, rules: PlacementRules, storage: str | None, ring: int
    ) -> None:
        bundle = model.bundle
        kept = storage or bundle.manifest.state.storage
        self._model, self._log = model, log
        self._catalogue = Catalogue(bundle.item_ids, bundle.repurchase_s)
        self._layout = Layout(model.state_size, kept, ring, bundle.version)
        bias = np.full(model.rows, NEVER_LISTED, np.float32)
        bias[: len(bundle.biases)] = bundle.biases
        pool = pool_of(rules)
        self._placement = Placement("measured", rules, model, self._catalogue, bias, pool)
        self._arranging = Arranging(rules, self._placement, model, self._catalogue)
        self.row_by_code = self._catalogue.rows(log.items)

    def newcomers(self, count: int) -> Users:
        """Users of whom nothing is known."""
        return Users.of(UserShard(self._layout), [b"%d" % user for user in range(count)])

    def ask(
        self, users: Users, answers: Answers, due: list[tuple[int, int]], strike_history: bool
    ) -> None:
        """Make the lists that are due, each a number in `users` and one of a query."""
        questions = answers.questions
        for first in range(0, len(due), BATCH):
            who, numbers = np.array(due[first : first + BATCH]).T
            queries = [questions.queries[number] for number in numbers]
            struck = [self._struck(questions, query, strike_history) for query in queries]
            ring = Ring.of(self._model, self._catalogue, users, who)
            states = users.vectors[who]
            found = self._placement.rank(Basis(states, ring, _padded(struck)))
            audience = Audience(users, who, states, ring, [], now_ms=0)
            listed, scores, *_ = self._arranging.arrange(*found, audience)
            k = answers.listed.shape[1]
            listed, scores = listed[:, :k], scores[:, :k]
            answers.listed[numbers] = np.where(scores > 0, listed, 0)
            answers.scores[numbers] = scores

    def _struck(self, questions: Questions, query: Query, strike_history: bool) -> Int64:
        codes = query.taken
        if strike_history:
            log, known = questions.log, questions.histories[query.user][: query.position]
            excluded = self._placement.excluded_types[log.event_type[known]]
            codes = np.concatenate([codes, log.item[known[excluded]]])
        return np.unique(self.row_by_code[codes])

    def fold(self, users: Users, at: Int64) -> None:
        """Fold the events at these positions of the log, one of each of the first users."""
        log = self._log
        events = Events(
            users=users.keys[: len(at)],
            items=[log.items[code] for code in log.item[at].tolist()],
            types=log.event_type[at].astype(np.uint8),
            times_ms=log.time_ms[at],
            event_hashes=np.zeros(len(at), np.uint32),
            offsets=at,
            amounts=np.zeros(len(at)),
            placements=[None] * len(at),
            list_names=[None] * len(at),
            properties=[None] * len(at),
        )
        fold(self._model, self._catalogue, users, np.arange(len(at)), events)


def _padded(lists: list[Int64]) -> Int64:
    """Rows of several users as int64, shape (len(lists), longest), padded with 0."""
    padded = np.zeros((len(lists), max(map(len, lists), default=0)), np.int64)
    for line, rows in zip(padded, lists, strict=True):
        line[: len(rows)] = rows
    return padded
