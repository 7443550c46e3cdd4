"""How much each list explores: temperatures of users, and what is hoped of items.

In: an arm's settings, what is known of users, counts of items, rewards of exploring. Out:
`Wishes`. Knows nothing of how a list is drawn, nor of where counts are kept.

A user's temperature is the largest one, times

    min(1, 1 / sqrt(1 + evidence / sure_after) + fresh * freshness + drift * drift of the interest)

times what has paid in the user's segment (`payoffs.py`). What is added to an item's logit is what
its clicks tell, and what an optimist hopes beyond (`appeal.py`).
"""

from __future__ import annotations

import hashlib
import json
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.keys import SEGMENTS_KEY_BYTES, SEGMENTS_PREFIX
from stream.core.mixing import points_of
from stream.core.model import Model
from stream.core.policy.appeal import Appeal
from stream.core.policy.arranging import Wishes
from stream.core.policy.audience import Audience
from stream.core.policy.interest import Interest, Interests
from stream.core.policy.payoffs import MULTIPLIERS, Payoffs
from stream.core.statistics.fading import Fading
from stream.core.statistics.merged import ItemCounts
from stream.core.statistics.segments import MergedSegments, Seen
from stream.placements import Explore

LOOK_BACK: Final = 16  # interactions that tell how sure an interest is
APPEAL_EVERY_MS: Final = 500  # a new item's or a new click's way into lists: within a second
_EDGES: Final = np.array([0.5, 2.0])  # of evidence, in `sure_after`: unknown, known a little, known
SEGMENTS: Final = len(_EDGES) + 1
_RULES: Final = ("temperature", "sure_after", "fresh", "drift")  # that cells hang on


def explores(rules: Explore) -> bool:
    """Whether lists are anything else than what scores say."""
    return rules.temperature > 0 or rules.optimism > 0


def temperatures(rules: Explore, interest: Interest) -> NDArray[np.float32]:
    """Of n users, before what has paid: float32, shape (n,)."""
    if not rules.adapt:
        return np.full(len(interest.evidence), rules.temperature, np.float32)
    unsure = 1 / np.sqrt(1 + interest.evidence / np.float32(rules.sure_after))
    unsure += np.float32(rules.fresh) * interest.fresh + np.float32(rules.drift) * interest.drift
    found: NDArray[np.float32] = np.float32(rules.temperature) * np.minimum(unsure, 1)
    return found


def segments(rules: Explore, interest: Interest) -> NDArray[np.int64]:
    """Segment of each of n users: int64, shape (n,), below `SEGMENTS`."""
    return np.searchsorted(_EDGES * rules.sure_after, interest.evidence, side="right")


class ShopCounts(Protocol):
    """Whoever counts how often items were shown and clicked, and rewards of exploring."""

    @property
    def fading(self) -> Fading:
        """Half-lives of the counts of items."""

    @property
    def segments(self) -> MergedSegments:
        """Rewards of exploring, by arm."""

    def by_row(self, catalogue: Catalogue, now_ms: int) -> ItemCounts:
        """Counts of the catalogue's items, none of them of later than `now_ms`."""


def counts_key(arm: str, rules: Explore, model: str, interests: Interests) -> bytes:
    """Under which key an arm's rewards are counted.

    Another one where segments, multipliers or the temperatures that they multiply are others, or
    what tells users' evidence: what was counted before would mean something else, and fades. By the
    old settings and model it is found again. A model that is trained anew is the same one.

    Parameters
    ----------
    model : which one, as manifests name it
    interests : by which its users' segments go
    """
    terms = {
        "arm": arm,
        "edges": _EDGES.tolist(),
        "look_back": LOOK_BACK,
        "model": model,
        "multipliers": list(MULTIPLIERS),
        **{name: float(getattr(rules, name)) for name in _RULES},
        **interests.terms,
    }
    told = json.dumps(terms, sort_keys=True, separators=(",", ":")).encode()
    size = SEGMENTS_KEY_BYTES - len(SEGMENTS_PREFIX)
    return SEGMENTS_PREFIX + hashlib.blake2b(told, digest_size=size).digest()


class Explorer:
    """How much the lists of one arm explore.

    Parameters
    ----------
    arm : `variants.py`
    rules : its settings
    catalogue, counts : the items; how often they were shown and clicked, and rewards

    Attributes
    ----------
    item_bias : float32, shape (rows,); what the model's scores say of items, to be kept up to date
    learns : it is to be told of impressions and clicks
    payoffs : what exploring brought, as far as `counts` knew when it was last needed
    """

    def __init__(
        self,
        arm: str,
        rules: Explore,
        model: Model,
        catalogue: Catalogue,
        counts: ShopCounts,
    ) -> None:
        self._arm = arm
        self._rules = rules
        self._model = model
        self._catalogue = catalogue
        self._counts = counts
        self.item_bias = model.bundle.biases
        manifest, weighing = model.bundle.manifest, model.weighing
        self._interests = Interests(weighing.event_weights, weighing.additive)
        self.payoffs = Payoffs(SEGMENTS)
        self.learns = rules.temperature > 0 and rules.adapt and rules.learn
        self._key, self._version = counts_key(arm, rules, manifest.model, self._interests), 0
        self._follow_payoffs()
        self._as_of_ms = -APPEAL_EVERY_MS
        self._bonus = np.zeros(0, np.float32)
        self._new = np.zeros(0, np.bool_)

    def wishes(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], audience: Audience
    ) -> Wishes:
        """How much lists of these pools explore."""
        self._follow(audience.now_ms)
        warmth, cells = self._temperatures(audience)
        return Wishes(warmth, self._bonus[rows], cells)

    def new(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows are items unknown to the training and hardly shown yet; any shape."""
        return self._new[rows]

    @property
    def counted(self) -> tuple[bytes, int] | None:
        """Under which key what comes of the lists counts, in how many cells; None: it does not."""
        segments, multipliers = self.payoffs.shape
        return (self._key, segments * multipliers) if self.learns else None

    def _temperatures(
        self, audience: Audience
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        """Temperatures of users, and the cells that they come from: both of shape (n,)."""
        rules = self._rules
        if not (rules.adapt and rules.temperature > 0):
            return np.full(len(audience.states), rules.temperature, np.float32), None
        interest = self._interest(audience)
        found = temperatures(rules, interest)
        if not self.learns:
            return found, None
        stand = self._stand(audience, interest)
        found *= self.payoffs.multipliers(*stand)
        return found, self.payoffs.cells(*stand).astype(np.uint8)

    def _stand(
        self, audience: Audience, interest: Interest
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Segments of users and their places on the arm's line, by the payoffs as they are now."""
        self._follow_payoffs()
        places = points_of(audience.keys, person=self._arm.encode())
        return segments(self._rules, interest), places

    def _follow_payoffs(self) -> None:
        """Take note of the rewards that are counted by now."""
        version = self._counts.segments.version(self._key)
        if version != self._version:
            self._version = version
            known = (self._key, self.payoffs.shape, 1000 * self._rules.half_life_s)
            self.payoffs.follow(*self._counts.segments.counts(*known))

    def _interest(self, audience: Audience) -> Interest:
        newest = audience.users.ring_order(audience.some, LOOK_BACK)
        ring = audience.ring._replace(newest=newest)
        done = np.take_along_axis(ring.rows, newest, axis=1)
        table, (at,) = self._model.embeddings_of(done)
        return self._interests.of(ring, table, at, audience.states)

    def cells(self, audience: Audience) -> NDArray[np.int64]:
        """Where rewards of lists that users got now would count: int64, shape (n,)."""
        return self.payoffs.cells(*self._stand(audience, self._interest(audience)))

    def seen(
        self, at: NDArray[np.int64], cells: NDArray[np.int64], clicked: NDArray[np.bool_]
    ) -> Seen:
        """That items of the arm's lists came into view, or were clicked.

        Parameters
        ----------
        at : int64, shape (n,); numbers of the events
        cells : int64, shape (n,); where each counts, as `cells` answers
        clicked : bool, shape (n,); a click or view, else an impression
        """
        order = np.argsort(at)
        shape, half_life_ms = self.payoffs.shape, 1000 * self._rules.half_life_s
        columns = clicked * np.int64(shape[0] * shape[1]) + cells
        return Seen(self._key, shape, half_life_ms, at[order], columns[order])

    def _follow(self, now_ms: int) -> None:
        """Take note of what was shown and clicked, and of new items."""
        rows = len(self.item_bias)
        if 0 <= now_ms - self._as_of_ms < APPEAL_EVERY_MS and len(self._bonus) == rows:
            return
        self._as_of_ms = now_ms
        counts = self._counts.by_row(self._catalogue, now_ms)
        impressions, clicks = (_as_long(of, rows) for of in (counts.impressions, counts.clicks))
        items = slice(NO_ITEM + 1, None)
        trained = len(self._model.bundle.biases) - 1
        columns = (impressions[items], clicks[items], self.item_bias[items])
        appeal = Appeal.of(*columns, trained, self._rules.optimism)
        self._bonus, self._new = np.zeros(rows, np.float32), np.zeros(rows, np.bool_)
        self._bonus[items] = appeal.learned + appeal.hoped
        self._new[items] = appeal.new


def _as_long(counts: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Counts of the catalogue's rows as those of an item table, which has rows to spare."""
    padded = np.zeros(rows, np.float32)
    padded[: len(counts)] = counts[:rows]
    return padded
