"""The quality of lists while they are served: what users do next is looked up in them.

In: folded events, lists as they were made. Out: `Outcomes`, coverage of the catalogue. Best effort:
lists are remembered in memory alone, so nothing of it is in a state or a changelog, and after a
restart events count again from each user's first new list on. Knows nothing of metrics; times are
passed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.contracts import ITEM_KINDS, EventType
from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.micro_batch import Decoded
from stream.core.policy.learning import Happened
from stream.core.policy.made import EncodedLists
from stream.core.policy.variants import arms_of, placement_and_variant
from stream.core.quality.memory import Memory
from stream.core.quality.outcomes import IMPRESSION, LOOKED_UP, Acts, Arm, Outcomes
from stream.core.quality.shown import Shown, take
from stream.core.users import Users
from stream.placements import Placement as PlacementRules
from stream.settings.quality import Quality as QualityRules

# An item counts as listed lately for so long.
LATELY_S: Final = 3600
_NOT_LOOKED_UP = -1
_CODE_BY_TYPE: Final = np.full(256, _NOT_LOOKED_UP, np.int64)
_CODE_BY_TYPE[list(LOOKED_UP)] = range(len(LOOKED_UP))
_CODE_BY_TYPE[EventType.IMPRESSION] = IMPRESSION


def _all_settings(placement: PlacementRules) -> list[PlacementRules]:
    """Those of a placement and of its variants."""
    return [placement, *(variant.placement for variant in placement.variants.values())]


class Quality:
    """Watches the lists of every placement.

    Parameters
    ----------
    placements : settings by placement name
    rules : how many users' lists are remembered, and how much of each

    Attributes
    ----------
    arms : what is counted apart; nothing where it is switched off
    """

    def __init__(
        self,
        catalogue: Catalogue,
        placements: Mapping[str, PlacementRules],
        rules: QualityRules,
    ) -> None:
        self._catalogue = catalogue
        self._users = rules.users
        self._most_places = rules.places
        self._listed_s = np.zeros((0, len(catalogue)), np.uint32)
        self._number_by_name: dict[str, int] = {}
        self.follow(placements)

    def follow(self, placements: Mapping[str, PlacementRules]) -> None:
        """Watch the lists of these placements from now on; those of before are looked up no more
        where they are of other placements, variants or lengths.
        """
        listed_s = np.zeros((len(placements), self._listed_s.shape[1]), np.uint32)
        for number, name in enumerate(placements):
            if name in self._number_by_name:
                listed_s[number] = self._listed_s[self._number_by_name[name]]
        self._listed_s = listed_s
        settings = {name: _all_settings(of) for name, of in placements.items()}
        self._kinds = {
            name: tuple({kind for of in some for kind in of.kinds})
            for name, some in settings.items()
        }
        self._number_by_name = {name: number for number, name in enumerate(placements)}
        arms = [Arm(*placement_and_variant(arm)) for arm in arms_of(placements)]
        self.arms = tuple(arms) if self._users else ()
        self._placement_of_arm = np.repeat(
            np.arange(len(settings)), [len(some) for some in settings.values()]
        )
        widths = [min(max(of.k for of in some), self._most_places) for some in settings.values()]
        self._shape = (*arms_of(placements), *map(str, widths))
        self._edges = np.cumsum([0, *widths])
        self._places = [slice(first, stop) for first, stop in pairwise(self._edges.tolist())]
        self._listable = np.array(
            [[kind in kinds for kind in ITEM_KINDS] for kinds in self._kinds.values()], np.bool_
        ).reshape(len(placements), len(ITEM_KINDS))

    def new_memory(self, partitions: int) -> Memory:
        """For the lists of a partition's users: its share of those to be remembered."""
        return self._memory(-(-self._users // partitions))

    def _memory(self, users: int) -> Memory:
        return Memory(users, len(self._places), int(self._edges[-1]), self._shape)

    def look_up(
        self, parts: Sequence[Decoded], happened: Happened, items: NDArray[np.uint64]
    ) -> Outcomes | None:
        """Look up what users did in the lists that were made before the micro-batch.

        Of several events of one user all are looked up in the same lists, since no other ones can
        have been seen, unless they name theirs. Those that changed no state are left out, so that
        none counts twice; and those that name a list of which nobody knows whose it is.

        Parameters
        ----------
        happened : the new events of all parts, one part after the other
        items : uint64, shape (n,); hashes of their items

        Returns
        -------
        None where it is switched off
        """
        if not self._users:
            return None
        for shard in (part.given.shard for part in parts):
            if shard.shown.shape != self._shape:
                shard.shown = self._memory(len(shard.shown))
        outcomes = Outcomes.none(self.arms)
        _, who, events, named, counts, _ = happened
        codes = _CODE_BY_TYPE[events.types]
        foreign = named.given & (named.arms < 0)
        counted = np.flatnonzero((codes != _NOT_LOOKED_UP) & counts & ~foreign)
        if not len(counted):
            return outcomes
        entries = np.concatenate([part.given.shard.shown.find(part.keys) for part in parts])
        entries = entries[who[counted]]
        found = (entries >= 0) | (named.arms[counted] >= 0)
        counted, entries = counted[found], entries[found]
        if not len(counted):
            return outcomes
        rows = self._catalogue.rows_of_hashes(items[counted])
        arms = named.arms[counted]
        number_of = self._number_by_name.get
        placed = np.array(
            [number_of(events.placements[at] or "", -1) for at in counted.tolist()], np.int64
        )
        by_name = np.flatnonzero(arms >= 0)
        placed[by_name] = self._placement_of_arm[arms[by_name]]
        acts = Acts(
            entries,
            arms,
            named.shows[counted],
            codes[counted],
            events.times_ms[counted],
            rows,
            self._catalogue.kinds[rows].astype(np.int64),
            placed,
        )
        stops = np.cumsum([len(part.events) - part.skipped for part in parts])
        edges = [0, *np.searchsorted(counted, stops).tolist()]
        for part, (first, stop) in zip(parts, pairwise(edges), strict=True):
            if first < stop:
                some = Acts._make(column[first:stop] for column in acts)
                outcomes.look_up(some, part.given.shard.shown, self._edges, self._listable)
        return outcomes

    def remember(
        self,
        parts: Sequence[Decoded],
        users: Users,
        lists: Sequence[EncodedLists],
        outcomes: Outcomes | None,
        now_ms: int,
    ) -> None:
        """Remember fresh lists as their users' newest ones.

        Parameters
        ----------
        users : of all parts
        lists : of a few users at a time, in their order
        outcomes : counts the places
        """
        if outcomes is None:
            return
        self._reserve()
        shown = Shown.empty(len(users), len(self._places), int(self._edges[-1]))
        start = 0
        for few in lists:
            some = shown.some(slice(start, start + len(few.records)))
            some.arms[:], some.shows[:] = few.arms, few.list_hashes
            for number, (places, made) in enumerate(zip(self._places, few.picked, strict=True)):
                columns = (made.rows, made.scores, made.explored)
                listed_s, arms = self._listed_s[number], some.arms[:, number]
                take(*columns, some, places, arms, outcomes.made, listed_s, now_ms // 1000)
            start += len(some.rows)
        for part in parts:
            if part.keys:
                newest_ms = users.newest_ms[part.users]
                part.given.shard.shown.put(part.keys, shown.some(part.users), newest_ms)

    def _reserve(self) -> None:
        """Make room for the items that the catalogue has now."""
        missing = len(self._catalogue.hashes) - self._listed_s.shape[1]
        if missing > 0:
            self._listed_s = np.pad(self._listed_s, ((0, 0), (0, missing)))

    def coverage(self, placement: str, now_ms: int) -> float:
        """Share of the items that the placement may list which it listed within `LATELY_S`.

        In lists of this worker, at places that count as shown; 0 where it may list nothing.
        """
        rows = slice(NO_ITEM + 1, min(len(self._catalogue), self._listed_s.shape[1]))
        listed_s = self._listed_s[self._number_by_name[placement], rows]
        eligible = self._catalogue.eligible(self._kinds[placement], rows)
        lately = eligible & (listed_s > now_ms // 1000 - LATELY_S)
        return int(np.count_nonzero(lately)) / max(int(np.count_nonzero(eligible)), 1)
