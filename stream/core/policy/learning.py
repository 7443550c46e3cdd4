"""Rewards of exploring. In: folded events. Out: where each of them counts.

An event that names its list counts where the list's name says, however old it is, and nowhere where
nobody knows that name. Of one that names a placement alone it is the list that its user would get
now: of the user's variant, of the segment that the user is in after it, and of the multiplier now.
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
from stream.core.policy.naming import Named
from stream.core.policy.ring import Ring
from stream.core.policy.variants import Deal
from stream.core.statistics.segments import Seen
from stream.core.users import Users

_ANSWERS = (EventType.IMPRESSION, EventType.VIEW, EventType.CLICK)  # to a list


class Happened(NamedTuple):
    """Events that were folded.

    Attributes
    ----------
    users : of the micro-batch, as they are after it
    who : int64, shape (n,); number of each event's user
    events : n of them
    named : what they say of lists
    counts : bool, shape (n,); whether the event does: no repeat, not from before an erasure
    now_ms : wall-clock time
    """

    users: Users
    who: NDArray[np.int64]
    events: Events
    named: Named
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
    users, who, events, named, counts, now_ms = happened
    answers = np.flatnonzero(counts & np.isin(events.types, _ANSWERS))  # numbers of events
    if not len(answers):
        return seen
    clicked = events.types != EventType.IMPRESSION  # [events]
    unnamed = answers[~named.given[answers]]
    placed = [events.placements[at] for at in unnamed.tolist()]  # [unnamed]
    counted = answers[named.cells[answers] >= 0]
    for deal in deals:
        learning = [(arm, explorers[name]) for arm, name in deal.numbered if name in explorers]
        learning = [(arm, explorer) for arm, explorer in learning if explorer.learns]
        if not learning:
            continue
        of_deal = unnamed[np.array([placement == deal.placement for placement in placed], bool)]
        arms = deal.arms([users.keys[user] for user in who[of_deal].tolist()])  # [of_deal]
        for arm, explorer in learning:
            at = counted[named.arms[counted] == arm]
            cells = named.cells[at]
            of_arm = of_deal[arms == arm]
            if len(of_arm):
                some, which = np.unique(who[of_arm], return_inverse=True)  # [users], [of_arm]
                ring = Ring.of(model, catalogue, users, some)
                audience = Audience(users, some, users.vectors[some], ring, [], now_ms)
                cells = np.concatenate([cells, explorer.cells(audience)[which]])
                at = np.concatenate([at, of_arm])
            if len(at):
                seen.append(explorer.seen(at, cells, clicked[at]))
    return seen
