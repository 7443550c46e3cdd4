"""What lists may leave out, as it is measured. In: a log. Out: rules of placements.

Must not know: models, the command line.
"""

from __future__ import annotations

from typing import Final

from export.data.dataset import Log
from stream.config import Placement as PlacementRules
from stream.contracts import EventType

REPEATS: Final = PlacementRules(exclude_seen=False, exclude_bought=False)
WITHOUT_BOUGHT: Final = PlacementRules(exclude_seen=False, exclude_bought=True)
WITHOUT_SEEN: Final = PlacementRules(exclude_seen=True, exclude_bought=True)
EXCLUSIONS: Final = {
    "repeats allowed": REPEATS,
    "bought items excluded": WITHOUT_BOUGHT,
    "seen items excluded": WITHOUT_SEEN,
}


def tellable(log: Log) -> tuple[PlacementRules, ...]:
    """Those that a log can choose from; where its lists do not differ, the first is to be taken.

    A log without purchases says nothing of bought items, which then stay excluded.
    """
    bought = bool((log.event_type == EventType.PURCHASE).any())
    return (WITHOUT_BOUGHT, *([REPEATS] if bought else []), WITHOUT_SEEN)
