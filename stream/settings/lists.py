"""The table `[lists]` of the settings: how lists are published."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stream.sections import Section


class Lists(Section, frozen=True):
    """How lists are published."""

    resend_after_s: Annotated[
        float,
        Meta(
            ge=0,
            le=31_536_000,
            description="a user's lists that show the same as those before are sent again after so "
            "long, in seconds; 0: with every event",
        ),
    ] = 0.0
