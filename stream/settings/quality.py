"""The table `[quality]` of the settings: how the quality of served lists is observed."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stream.sections import Section


class Quality(Section, frozen=True):
    """Which lists are remembered, so that what users do next can be looked up in them."""

    users: Annotated[
        int,
        Meta(
            ge=0,
            le=2**32,
            description="users whose lists are remembered, the newest and those named last, to "
            "look up in them what users do next; an equal share of them in each partition; 0: "
            "none, and no metrics of quality",
        ),
    ] = 65_536
    places: Annotated[
        int,
        Meta(ge=1, le=1000, description="first places of a list that count as shown"),
    ] = 20
