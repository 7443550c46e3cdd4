"""What the checker found, and whether all is well."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Verdict:
    """Counts; those of FAULTS must be 0.

    Attributes
    ----------
    events : good events in the log
    users : who have any
    bad_records : in the log, of events and catalogue
    owners : most owners that one partition had, one after the other
    lists, repeats : that the subscriber saw; marked as seen before (`outputs.py`)
    tombstones : users that the changelog dropped
    expired, evicted : those of them who left: inactive for too long, beyond the limit
    returned : times that a user who had left came back, and began anew
    most_users : with a state in one partition, after any step
    counted_items, items_let_go : most items with counts in one partition; times that one was let go
    erasures, receipts : good ones in the log, of which the same may come twice
    weighings : times that a partition went over to other weights (`weighed.py`)
    list_events : impressions, clicks and views that count for the lists of a placement
    named_events : those of them that name their list, and so tell where they count
    unknown_names : impressions, clicks and views whose list nobody made, which count for none
    wrong_states : users with a state in the changelog that is not, bit for bit, the reference fold
        of their events in the order in which the changelog says they were applied
    doubled_events : applied although they had been, and states written without a new event
    lost_events : acknowledged to the producer and gone, or passed over by the changelog
    wrong_counts : rows of an item's counts that are not what its events come to (`counts.py`),
        that are missing or there without an event, or that were let go too early
    wrong_segments : rows of what came of lists that are not what the same events come to, in all
        and in the cells that names of lists tell (`segments.py`), or that are missing or there
        without an event
    torn_batches : changelog batches that do not hold states and their `applied` record together
    stale_batches : changelog batches behind the fence of a later owner
    unreflected_events : without a list of their user whose cause is at or after them
    backward_lists : whose cause is not above their user's last one, and no marked repeats
    false_causes : lists whose cause is no event of their user
    false_settings : lists that name other settings than those by whose weights their cause was
        folded (`weighed.py`)
    missing_dead_letters : bad records that are not in the dead letters exactly as they were sent
    false_dead_letters : dead letters that differ from the record they name, or name a good one
    dropped_users : tombstones in the changelog that no erasure in their batch explains, of users
        who may not leave (`leaving.py`)
    unerased_users : erasures applied without a tombstone in their batch
    wrong_marks : erasures applied without their mark; marks and salts that no erasure explains
    missing_receipts : erasures without a receipt
    false_receipts : that name no erasure applied, another time or another hash than its user's
    early_receipts : by an owner before the one that applied the erasure
    kept_erasures : records of `erasures` that no null follows
    kept_lists : lists of erased users that are not taken back, or come again from before
    false_nulls : lists taken back of users that nobody asked to forget
    """

    events: int = 0
    users: int = 0
    bad_records: int = 0
    owners: int = 0
    lists: int = 0
    repeats: int = 0
    tombstones: int = 0
    expired: int = 0
    evicted: int = 0
    returned: int = 0
    most_users: int = 0
    counted_items: int = 0
    items_let_go: int = 0
    weighings: int = 0
    list_events: int = 0
    named_events: int = 0
    unknown_names: int = 0
    erasures: int = 0
    receipts: int = 0
    wrong_states: int = 0
    wrong_counts: int = 0
    wrong_segments: int = 0
    doubled_events: int = 0
    lost_events: int = 0
    torn_batches: int = 0
    stale_batches: int = 0
    unreflected_events: int = 0
    backward_lists: int = 0
    false_causes: int = 0
    false_settings: int = 0
    missing_dead_letters: int = 0
    false_dead_letters: int = 0
    dropped_users: int = 0
    unerased_users: int = 0
    wrong_marks: int = 0
    missing_receipts: int = 0
    false_receipts: int = 0
    early_receipts: int = 0
    kept_erasures: int = 0
    kept_lists: int = 0
    false_nulls: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    FAULTS = (
        "wrong_states",
        "wrong_counts",
        "wrong_segments",
        "doubled_events",
        "lost_events",
        "torn_batches",
        "stale_batches",
        "unreflected_events",
        "backward_lists",
        "false_causes",
        "false_settings",
        "missing_dead_letters",
        "false_dead_letters",
        "dropped_users",
        "unerased_users",
        "wrong_marks",
        "missing_receipts",
        "false_receipts",
        "early_receipts",
        "kept_erasures",
        "kept_lists",
        "false_nulls",
    )

    @property
    def right(self) -> bool:
        return not self.faults

    @property
    def faults(self) -> dict[str, int]:
        """What is wrong, by kind."""
        return {name: found for name in self.FAULTS if (found := getattr(self, name))}

    def count(self, kind: str, where: str, times: int = 1) -> None:
        """Count a fault; the first of its kind is kept as an example."""
        if times:
            setattr(self, kind, getattr(self, kind) + times)
            self.examples.setdefault(kind, where)

    def counts(self) -> dict[str, int]:
        found: dict[str, Any] = asdict(self)
        return {name: count for name, count in found.items() if name != "examples"}

    def table(self) -> str:
        """Every count on a line, faults marked, with an example of each."""
        lines = []
        for name, count in self.counts().items():
            bad = name in self.FAULTS and count
            mark = f"  WRONG: {self.examples.get(name, '')}" if bad else ""
            lines.append(f"{name.replace('_', ' '):22}{count:>10,}{mark}")
        return "\n".join(lines)
