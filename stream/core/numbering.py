"""The users of a micro-batch, numbered. In: decoded events of each part. Out: whose each one is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from stream.contracts import Events
from stream.core.micro_batch import Decoded, Part
from stream.core.pseudonyms import Pseudonyms


def number_users(
    parts: Sequence[Part], decoded: Sequence[Events], pseudonyms: Pseudonyms
) -> list[Decoded]:
    """Number the users of all parts, those of one part in the order of their first event."""
    lasts = [dict(zip(events.users, range(len(events)), strict=True)) for events in decoded]
    numbered = []
    edges = pairwise(accumulate(map(len, lasts), initial=0))
    for part, events, last, (first, stop) in zip(parts, decoded, lasts, edges, strict=True):
        if len(last) == len(events):
            who = np.arange(first, stop)
        else:
            number = dict(zip(last, range(first, stop), strict=True))
            who = np.array([number[user] for user in events.users], np.int64)
        skipped = int(np.searchsorted(events.offsets, part.applied))
        keys = pseudonyms.keys_of(list(last))
        numbered.append(Decoded(part, events, skipped, last, keys, who, slice(first, stop)))
    return numbered
