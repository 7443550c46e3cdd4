"""How large records can get. In: settings. Out: what the topics' max.message.bytes must take.

Knows sizes alone: of a user's state by the bundle's manifest, of lists by the placements.
"""

from __future__ import annotations

from pathlib import Path

from stream.config import Settings
from stream.contracts import MAX_ID_BYTES
from stream.core.bundle import StateLayout, manifest_in
from stream.core.keys import SEGMENTS_KEY_BYTES
from stream.core.lifecycle import leave_at_most
from stream.core.statistics.counts import let_go_at_most
from stream.core.statistics.fading import ROW
from stream.core.statistics.segments import MOST_ROW_BYTES, MOST_ROWS
from stream.core.wire import Layout
from stream.words.templates import MAX_TITLE

DEFAULT_MAX_MESSAGE_BYTES = 1_048_588  # Kafka's own default of max.message.bytes

# Taken while no bundle is named: larger than the state of every model that `freshet-export` trains.
DEFAULT_STATE = StateLayout(size=512, storage="float32")

_FRAMING_BYTES = 64  # of a record: lengths, offset and timestamp
_BATCH_BYTES = 64 << 10  # the `applied` record and the header of a record batch, generously
# Of rewards of exploring: every row there may be, and as many tombstones.
_SEGMENTS_BYTES = MOST_ROWS * (MOST_ROW_BYTES + 2 * (SEGMENTS_KEY_BYTES + _FRAMING_BYTES))
_COUNTS_BYTES = ROW.itemsize + 16 + _FRAMING_BYTES  # of an item: row, key, framing
_LISTED_ITEM_BYTES = 2 * MAX_ID_BYTES + 256  # JSON: two ids, numbers, the reason's slug
_WORDS_BYTES = 6 * MAX_TITLE + 256  # JSON: a title, and a template around it
_HEADERS_BYTES = 64 << 10  # what a dead letter has beside its record, generously


def user_bytes(settings: Settings) -> int:
    """Return what one user takes at most in a changelog batch: state, key, framing.

    Raises
    ------
    BundleError : the settings name a bundle that cannot be read
    """
    state = DEFAULT_STATE
    if settings.bundle is not None:
        state = manifest_in(Path(settings.bundle)).state
    kept = settings.state
    layout = Layout(state.size, state.storage, kept.ring, model=0, shown=kept.impressions)
    return layout.max_bytes + MAX_ID_BYTES + _FRAMING_BYTES


def changelog_batch_bytes(settings: Settings) -> int:
    """Return what the changelog must take in one piece: a micro-batch of as many users as events.

    A broker refuses a record batch over max.message.bytes whole, and the states of a micro-batch
    with their `applied` record are one record batch, never two. The counts of as many items,
    rewards of exploring, and the tombstones of users and items that leave meanwhile, are part of
    it.

    Raises
    ------
    BundleError : the settings name a bundle that cannot be read
    """
    max_events = settings.batch.max_events
    tombstones = leave_at_most(max_events) * (MAX_ID_BYTES + _FRAMING_BYTES)
    counted = max_events * (1 + len(settings.statistics.context_names))
    counts = (counted + let_go_at_most(counted)) * _COUNTS_BYTES
    users = max_events * user_bytes(settings)
    return users + tombstones + counts + _SEGMENTS_BYTES + _BATCH_BYTES


def lists_bytes(settings: Settings) -> int:
    """Return what the longest lists of all placements take, in one record."""
    items = sum(
        max([placement.k, *(variant.placement.k for variant in placement.variants.values())])
        for placement in settings.placements.values()
    )
    words = _WORDS_BYTES if settings.words.written_to == "lists" else 0
    return items * (_LISTED_ITEM_BYTES + words) + _BATCH_BYTES


def dead_letter_bytes(source_bytes: int) -> int:
    """Return what a dead letter takes whose source topic takes records of `source_bytes`."""
    return source_bytes + _HEADERS_BYTES
