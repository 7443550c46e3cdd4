"""What the tables of settings share. Knows no setting."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Text = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of settings; nothing else may stand in it."""
