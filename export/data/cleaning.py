"""Leave out what no shopper did. In: a log. Out: a cleaner log, and what was dropped and why.

Rules look ahead: a cancellation takes its purchase away, a user who is too fast later goes with all
events, and counts are over the whole log that is given. What is trained on to be measured is
therefore cleaned as it was then (`cleaned_at`).

Must not know: files, models.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from export.data.columns import AnyColumn, changes, joined
from export.data.dataset import COLUMNS, Log, by_user
from stream.contracts import EventType
from stream.errors import UsageError

Mask = npt.NDArray[np.bool_]

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
OUTSIDE_SPANS: Final = 3.0

DUPLICATE = "repeated event"
OUTLIER = "time far from all others"
BOT_MINUTE = "user too fast for a person, in a minute"
BOT_DAY = "user too fast for a person, in a day"
CANCELLED = "purchase cancelled soon after, and its cancellation"
NOTHING_CANCELLED = "cancellation of nothing in the log"
RARE_ITEM = "item with too few events"
SHORT_USER = "user with too few events"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is left out.

    Attributes
    ----------
    duplicates : events with the same event_id of one user; without ids, events of the same user,
        item, type and time
    outliers : events `OUTSIDE_SPANS` times further out than 98% of the log are from each other
    max_per_minute, max_per_day : a user with more is no person; events of one moment, such as the
        lines of an order, count once. 0 = no limit
    cancel_within_h : a cancellation within so many hours undoes its purchase, and both go; a later
        one is a return, and stays. One without a purchase goes. 0 = all stay
    min_count, min_user_events : items, then users, with fewer events go, and all their events. A
        model's parameter `min_count` is another: it takes an item's row and leaves its events
    """

    duplicates: bool = True
    outliers: bool = True
    max_per_minute: int = 120
    max_per_day: int = 5000
    cancel_within_h: float = 24.0
    min_count: int = 1
    min_user_events: int = 1


NO_RULES: Final = Rules(False, False, 0, 0, 0.0, 1, 1)


@dataclass(slots=True)
class Report:
    """What cleaning did.

    Attributes
    ----------
    read : events and lines that the log had
    kept : events that are left
    dropped : reason -> events or lines
    """

    read: int
    kept: int
    dropped: dict[str, int] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """For a manifest."""
        return {"read": self.read, "kept": self.kept, "dropped": dict(self.dropped)}

    def table(self) -> str:
        """For people: a line a reason, most first."""
        lines = [(f"{self.read:,}", "read")]
        lines += [(f"-{n:,}", reason) for reason, n in self.in_order()]
        lines.append((f"{self.kept:,}", "kept"))
        width = max(len(count) for count, _ in lines)
        return "\n".join(f"{count:>{width}}  {what}" for count, what in lines)

    def in_order(self) -> list[tuple[str, int]]:
        """Reasons and counts, most first."""
        return sorted(self.dropped.items(), key=lambda pair: (-pair[1], pair[0]))


def clean(log: Log, rules: Rules | None = None) -> tuple[Log, Report]:
    """Leave out what the rules say, in the order of their fields.

    Raises
    ------
    UsageError
        Nothing is left.
    """
    rules = Rules() if rules is None else rules
    report = Report(len(log) + sum(log.unusable.values()), len(log), dict(log.unusable))

    def without(log: Log, dropped: dict[str, Mask]) -> Log:
        dropped = {reason: mask for reason, mask in dropped.items() if mask.any()}
        if not dropped:
            return log
        report.dropped.update({reason: int(mask.sum()) for reason, mask in dropped.items()})
        return log.select(~np.logical_or.reduce(list(dropped.values())))

    if rules.duplicates:
        log = without(log, {DUPLICATE: _repeated(log)})
    if rules.outliers:
        log = without(log, {OUTLIER: _far_out(log.time_ms)})
    if rules.max_per_minute:
        log = without(log, {BOT_MINUTE: _too_fast(log, rules.max_per_minute, MINUTE_MS)})
    if rules.max_per_day:
        log = without(log, {BOT_DAY: _too_fast(log, rules.max_per_day, DAY_MS)})
    if rules.cancel_within_h:
        found = _match_cancellations(log, rules.cancel_within_h * HOUR_MS)
        log = log.with_columns(quantity=found.quantity)
        log = without(log, {CANCELLED: found.undone, NOTHING_CANCELLED: found.of_nothing})
    if rules.min_count > 1:
        log = without(log, {RARE_ITEM: _rare(log.item, rules.min_count)})
    if rules.min_user_events > 1:
        log = without(log, {SHORT_USER: _rare(log.user, rules.min_user_events)})
    report.kept = len(log)
    if len(log) == 0:
        raise UsageError(f"cleaning left no event; loosen its rules\n{report.table()}")
    return log, report


def cleaned_at(log: Log, since_ms: int, rules: Rules | None = None) -> Log:
    """What lies before a moment as it was left then; what lies from it on, of the whole log.

    A purchase before `since_ms` that was cancelled later stays, since nobody knew; the cancellation
    goes. Memory: the columns of both cleanings for a moment.

    Raises
    ------
    UsageError
        Nothing is left on one side.
    """
    newer, older = clean(log, rules)[0], log.before(since_ms)
    if len(older) == 0:
        return newer
    older = clean(older, rules)[0]
    sides = older, newer.select(newer.time_ms >= since_ms)
    return log.with_columns(
        **{name: joined([getattr(of, name) for of in sides], log.scratch) for name in COLUMNS}
    )


def _repeated(log: Log) -> Mask:
    """Events that are the same as an earlier one."""
    repeated = np.zeros(len(log), np.bool_)
    named = log.event_hash != 0
    for chosen, keys in (
        (np.flatnonzero(named), (log.event_hash, log.user)),
        (np.flatnonzero(~named), (log.event_type, log.item, log.time_ms, log.user)),
    ):
        # Stable, so that the first one in time order is the first of its equals.
        order = chosen[np.lexsort([key[chosen] for key in keys])]
        repeated[order] = ~changes(order, *keys)
    return repeated


def _far_out(time_ms: AnyColumn) -> Mask:
    """Times beyond `OUTSIDE_SPANS` times the span of the middle 98%, which is a day or more."""
    first, last = time_ms[[len(time_ms) // 100, (len(time_ms) - 1) - len(time_ms) // 100]]
    margin = OUTSIDE_SPANS * max(int(last - first), DAY_MS)
    far: Mask = (time_ms < first - margin) | (time_ms > last + margin)
    return far


def _too_fast(log: Log, limit: int, window_ms: int) -> Mask:
    """All events of users with more than `limit` moments in any window."""
    order = by_user(log)
    order = order[changes(order, log.user, log.time_ms)]  # a moment counts once
    user, time_ms = log.user[order], log.time_ms[order]
    fast = (user[limit:] == user[:-limit]) & (time_ms[limit:] - time_ms[:-limit] < window_ms)
    is_fast = np.zeros(len(log.users), np.bool_)
    is_fast[user[limit:][fast]] = True
    return is_fast[log.user]


def _rare(codes: AnyColumn, least: int) -> Mask:
    rare: Mask = np.bincount(codes)[codes] < least
    return rare


class _Cancellations(NamedTuple):
    """Which purchases and cancellations go, and what is left of quantities.

    Attributes
    ----------
    undone, of_nothing : bool, shape (n,)
    quantity : float32, shape (n,)
    """

    undone: Mask
    of_nothing: Mask
    quantity: AnyColumn


def _match_cancellations(log: Log, within_ms: float) -> _Cancellations:
    """Match each cancellation with the newest purchases of the same user and item before it."""
    undone, of_nothing = np.zeros((2, len(log)), np.bool_)
    cancels = np.flatnonzero(log.event_type == EventType.CANCEL)
    if len(cancels) == 0:
        return _Cancellations(undone, of_nothing, log.quantity)
    quantity = np.array(log.quantity)
    pairs = log.user.astype(np.int64) * len(log.items) + log.item
    kinds = (int(EventType.PURCHASE), int(EventType.CANCEL))
    concerned = np.isin(pairs, pairs[cancels]) & np.isin(log.event_type, kinds)
    bought: dict[int, list[int]] = {}  # positions of purchases with something left, by pair
    for at in np.flatnonzero(concerned).tolist():
        purchases = bought.setdefault(int(pairs[at]), [])
        if log.event_type[at] == EventType.PURCHASE:
            purchases.append(at)
            continue
        matched = False
        while quantity[at] > 0 and purchases:
            newest = purchases[-1]
            if log.time_ms[at] - log.time_ms[newest] > within_ms:
                break
            matched = True
            together = min(quantity[at], quantity[newest])
            quantity[at] -= together
            quantity[newest] -= together
            if quantity[newest] == 0:
                undone[purchases.pop()] = True
        if not purchases or quantity[at] == 0:
            (undone if matched else of_nothing)[at] = True
    return _Cancellations(undone, of_nothing, quantity)
