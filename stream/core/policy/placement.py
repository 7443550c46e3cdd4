"""One placement: its settings, its eligible items, its ranking.

In: user states, rings as rows. Out: item rows and scores, best first. Exclusion happens inside
the exact top-k (a row that must not be listed cannot win), never by filtering a longer list.
Knows nothing of records or Kafka.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.compiled import INT, NOTHING, array, compiled
from stream.contracts import ANY_TYPE, EventType
from stream.core.bundle import NEVER_LISTED, Manifest
from stream.core.catalogue import Catalogue
from stream.core.model import Model
from stream.core.policy.audience import Audience, Basis
from stream.core.policy.biases import Biases
from stream.core.policy.cart import Cart
from stream.core.policy.frequency import shown_enough
from stream.core.policy.ring import Ring
from stream.core.recent import Recent
from stream.core.resident import ResidentBias
from stream.placements import Placement as PlacementRules

LEAST_SCORE = 5e-7  # what is less stands as 0 in a record, which means not to be listed
_BOUGHT = (EventType.PURCHASE, EventType.CANCEL)
_PURCHASE = int(EventType.PURCHASE)
_SEEN = tuple(kind for kind in EventType if kind not in _BOUGHT and kind != EventType.DISLIKE)


class LeavesOut(NamedTuple):
    """Whether lists leave out what the user has seen, and what the user has bought."""

    seen: bool
    bought: bool

    @classmethod
    def of(cls, rules: PlacementRules, manifest: Manifest) -> LeavesOut:
        """What a placement's settings leave open, the bundle's manifest decides."""
        return cls(
            manifest.exclude_seen if rules.exclude_seen is None else rules.exclude_seen,
            manifest.exclude_bought if rules.exclude_bought is None else rules.exclude_bought,
        )


class Placement:
    """A named place in the shop that shows a list.

    Parameters
    ----------
    rules : the placement's settings; what they leave open, the bundle's manifest decides
    item_bias : float32, shape (rows,); the model's bias of every row
    pool : items that `rank` finds; None: as many as are listed
    biases : of a placement that lists the same items; None: they are made

    Attributes
    ----------
    beta : weight of the interest against the bias
    reason_shares : lists say how much of their scores items owe to what is named as the reason
    by_rules : biases of its items, by the rules in force
    bids : what items are ordered by besides their scores; None: nothing
    rules : what is done with some items on some users' lists; None: nothing
    excluded_types : bool, by `EventType`: whether an interaction of it keeps its item off lists
    """

    def __init__(
        self,
        name: str,
        rules: PlacementRules,
        model: Model,
        catalogue: Catalogue,
        item_bias: NDArray[np.float32],
        pool: int | None = None,
        biases: Biases | None = None,
    ) -> None:
        manifest = model.bundle.manifest
        leaves_out = LeavesOut.of(rules, manifest)
        self.name, self._pool = name, pool or rules.k
        self.theta = max(rules.theta, LEAST_SCORE)
        self.beta = manifest.beta if rules.beta is None else rules.beta
        self.reason_shares = rules.reason_shares
        self._model, self._catalogue = model, catalogue
        self.excluded_types = np.zeros(ANY_TYPE, np.bool_)
        self.excluded_types[list(_SEEN)] = leaves_out.seen
        self.excluded_types[list(_BOUGHT)] = leaves_out.bought
        self.excluded_types[EventType.DISLIKE] = True
        self._windows_s = np.full(ANY_TYPE, np.inf)
        if rules.seen_window_s is not None:
            self._windows_s[list(_SEEN)] = rules.seen_window_s
        if rules.bought_window_s is not None:
            self._windows_s[list(_BOUGHT)] = rules.bought_window_s
        self._exclude_in_cart = rules.exclude_in_cart
        self._by_cart, self._frequency = rules.based_on == "cart", rules.frequency
        self._item_bias = item_bias
        self.by_rules = Biases(rules, model, catalogue, item_bias) if biases is None else biases
        self.bids, self.rules = self.by_rules.bids, self.by_rules.rules
        self._some: tuple[NDArray[np.int64], ResidentBias] | None = None

    def refresh(self, rows: NDArray[np.int64], item_bias: NDArray[np.float32]) -> None:
        """Take note of changed catalogue rows: int64, shape (n,)."""
        self._item_bias, self._some = item_bias, None
        self.by_rules.refresh(rows, item_bias)

    def in_force(self, audience: Audience) -> NDArray[np.int64]:
        """Which rules are in force for each user, as bits: int64, shape (n,)."""
        if self.rules is None:
            return np.zeros(len(audience.states), np.int64)
        return self.rules.in_force(audience)

    def biases(self, bits: int) -> NDArray[np.float32]:
        """What items are listed by where these rules are in force: float32, shape (rows,).

        A read-only view; `NEVER_LISTED` where an item may not be.
        """
        return self.by_rules.of(bits).values

    def basis(self, audience: Audience) -> Basis:
        """What items are scored by, and what is left out besides what the rings say."""
        states, ring = audience.states, audience.ring
        limit = self._frequency
        struck = [shown_enough(limit, audience, self._catalogue)] if limit.most else []
        if not (self._by_cart or self._exclude_in_cart):
            return Basis(states, ring, struck[0] if struck else None)
        cart = Cart.of(audience)
        if self._exclude_in_cart:
            struck.append(cart.rows(ring))
        behind_s = None
        if self._by_cart:
            struck.append(self.excluded(ring))
            behind_s = cart.behind_s(ring)
            states, ring = cart.states(self._model, ring, states), cart.ring(ring)
        return Basis(states, ring, np.concatenate(struck, axis=1), behind_s)

    def find(
        self, audience: Audience, pool: int | None = None, basis: Basis | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """`rank`, with the rules that are in force for each of the users.

        Parameters
        ----------
        basis : theirs; None: it is made
        """
        basis = basis or self.basis(audience)
        if self.rules is None:
            return self.rank(basis, pool)
        in_force = self.in_force(audience)
        different = np.unique(in_force).tolist()
        if len(different) == 1:
            return self.rank(basis, pool, different[0])
        parts = [np.flatnonzero(in_force == bits) for bits in different]
        found = [
            self.rank(basis.take(who), pool, bits)
            for bits, who in zip(different, parts, strict=True)
        ]
        back = np.argsort(np.concatenate(parts))
        rows, scores = (np.concatenate(columns)[back] for columns in zip(*found, strict=True))
        return rows, scores

    def rank(
        self, basis: Basis, pool: int | None = None, bits: int = 0
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Best items for each user.

        Parameters
        ----------
        basis : what they are scored by
        pool : how many to find; None: as many as the placement's lists are made of
        bits : the rules that are in force for all of them

        Returns
        -------
        rows : int64, shape (users, pool), or as many as there are rows
        scores : float32, of that shape, in [0, 1], descending; 0 = not to be listed. By bid,
            bid times score descends, and theta is for `Arranging` to look at
        """
        states, ring, excluded = basis.states, basis.ring, self.excluded(basis.ring)
        if basis.struck is not None:
            excluded = np.concatenate([excluded, basis.struck], axis=1)
        k = min(pool or self._pool, self._model.rows)
        if self.bids is not None:
            return self.bids.best(
                len(states), k, partial(self._of_level, states, ring, excluded, bits)
            )
        rows, scores = self._score(states, ring, self.by_rules.of(bits), excluded, k)
        return rows, np.where(scores >= self.theta, scores, np.float32(0.0))

    def _of_level(
        self,
        states: NDArray[np.float32],
        ring: Ring,
        excluded: NDArray[np.int64],
        bits: int,
        level: int | None,
        who: NDArray[np.int64],
        k: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The best of a level of bids for some of the users; see `bids.Score`."""
        bias = self.by_rules.of(bits, level)
        return self._score(states[who], ring.take(who), bias, excluded[who], k)

    def score_some(
        self, states: NDArray[np.float32], ring: Ring, some: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Score some items, of any kind, that are available; theta does not count.

        Parameters
        ----------
        some : int64, shape (m,), distinct

        Returns
        -------
        as of `rank`; 0 where the item is not there, or the user is not to see it again
        """
        rows, scores = self._score(
            states, ring, self._bias_of(some), self.excluded(ring), max(len(some), 1)
        )
        return rows, np.where(scores > 0, np.maximum(scores, np.float32(LEAST_SCORE)), scores)

    def _bias_of(self, some: NDArray[np.int64]) -> ResidentBias:
        """The bias of some items alone, kept for as long as the same ones are asked for."""
        if self._some is None or not np.array_equal(self._some[0], some):
            bias = np.full(len(self._item_bias), NEVER_LISTED, np.float32)
            known = some[self._catalogue.available(some)]
            bias[known] = self._item_bias[known]
            self._some = some, self._model.new_bias(bias)
        return self._some[1]

    def _score(
        self,
        states: NDArray[np.float32],
        ring: Ring,
        bias: ResidentBias,
        excluded: NDArray[np.int64],
        k: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        model, recent = self._model, None
        if model.recent:
            recent = Recent.of(ring.rows, ring.types, ring.newest, model.recent)
        return model.score(states, bias, excluded, self.beta, k, recent)

    def excluded(self, ring: Ring) -> NDArray[np.int64]:
        """Rows that must not be listed, padded with `NO_ITEM`: int64, shape (users, >= 1)."""
        if ring.rows.shape[1] == 0:
            return np.zeros((len(ring.rows), 1), np.int64)
        rows = np.empty_like(ring.rows)
        columns = (ring.rows, ring.types, ring.ages_s)
        returns_s = self._catalogue.attributes.returns_s(self._windows_s[_PURCHASE])
        _exclude(*columns, self.excluded_types, self._windows_s, _PURCHASE, returns_s, rows)
        return rows


@compiled(
    NOTHING,
    array("i8", 2),
    array("u1", 2),
    array("f4", 2),
    array("?"),
    array("f8"),
    INT,
    array("f4"),
    array("i8", 2, written=True),
)
def _exclude(
    rows: NDArray[np.int64],
    types: NDArray[np.uint8],
    ages_s: NDArray[np.float32],
    excluded_types: NDArray[np.bool_],
    windows_s: NDArray[np.float64],
    purchase: int,
    returns_s: NDArray[np.float32],
    excluded: NDArray[np.int64],
) -> None:
    """`Placement.excluded`, into the last one."""
    for user in range(rows.shape[0]):
        for at in range(rows.shape[1]):
            kind = types[user, at]
            window_s = windows_s[kind]
            if kind == purchase and returns_s[rows[user, at]] > 0:
                window_s = np.float64(returns_s[rows[user, at]])
            out = excluded_types[kind] and ages_s[user, at] <= window_s
            excluded[user, at] = rows[user, at] if out else 0
