"""What a check found. Knows no check."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Status = Literal["ok", "note", "fault", "skip"]


class Finding(NamedTuple):
    """What one check found, and what to do about it.

    Attributes
    ----------
    status : note: worth knowing, and right for some; skip: could not be looked at
    detail : in a line
    more : further lines, for people
    facts : the same for programs, as JSON can say it; no secret and no user's id
    """

    check: str
    status: Status
    detail: str
    cure: str | None = None
    more: tuple[str, ...] = ()
    facts: dict[str, Any] = {}  # noqa: RUF012  # never changed

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "check": self.check,
            "status": self.status,
            "detail": self.detail,
            "cure": self.cure,
            "facts": self.facts,
        }


def size(count: int) -> str:
    """Bytes in words: 1.5 GiB."""
    amount, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "bytes" else f"{amount:.1f} {units[0]}"
