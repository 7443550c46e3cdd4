"""What came of lists that explore. In: folded events. Out: where each of them counts.

A list is known by its placement, which impressions and clicks name, and by its user's variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.contracts import Events, EventType
from stream.core.catalogue import Catalogue
from stream.core.model import Model
from stream.core.policy.audience import Audience
from stream.core.policy.exploring import Explorer
from stream.core.policy.ring import Ring
from stream.core.policy.variants import Deal
from stream.core.statistics.segments import Seen
from stream.core.users import Users

_ANSWERS = (EventType.IMPRESSION, EventType.VIEW, EventType.CLICK)  # to a list


class Happened(NamedTuple):
    """Events that were folded.

    Attributes
    ----------
    who : int64, shape (n,); number of each event's user
    counts : bool, shape (n,); whether the event does
    """

    users: Users
    who: NDArray[np.int64]
    events: Events
    counts: NDArray[np.bool_]
    now_ms: int


def learn(
    explorers: Mapping[str, Explorer],
    deals: Sequence[Deal],
    happened: Happened,
    model: Model,
    catalogue: Catalogue,
) -> list[Seen]:
    """What users were shown and clicked of the lists of arms that learn.

    Parameters
    ----------
    explorers : by arm
    deals : of all placements

    Returns
    -------
    for each arm of which anything was, by the numbers of events in `happened`
    """
    seen: list[Seen] = []
    users, who, events, counts, now_ms = happened
    answers = np.flatnonzero(counts & np.isin(events.types, _ANSWERS))  # numbers of events
    if not len(answers):
        return seen
    events, who = events.take(answers), who[answers]  # [answers]
    clicked = events.types != EventType.IMPRESSION  # [answers]
    for deal in deals:
        learning = [(arm, explorers[name]) for arm, name in deal.numbered if name in explorers]
        learning = [(arm, explorer) for arm, explorer in learning if explorer.learns]
        if not learning:
            continue
        named = np.array([placement == deal.placement for placement in events.placements])
        of_deal = np.flatnonzero(named)  # [answers to the placement], positions in `answers`
        arms = deal.arms([users.keys[user] for user in who[of_deal].tolist()])  # [of_deal]
        for arm, explorer in learning:
            of_arm = of_deal[arms == arm]  # [answers to the arm], positions in `answers`
            some, which = np.unique(who[of_arm], return_inverse=True)  # [users], [of_arm]
            if len(some):
                ring = Ring.of(model, catalogue, users, some)
                audience = Audience(users, some, users.vectors[some], ring, [], now_ms)
                seen.append(explorer.seen(audience, answers[of_arm], which, clicked[of_arm]))
    return seen
