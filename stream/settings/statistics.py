"""The table `[statistics]` of the settings: how items are counted, and what counts as trending."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stream.sections import Seconds, Section


class Statistics(Section, frozen=True):
    """Counts of items, and what trends."""

    half_life_s: Annotated[
        Seconds, Meta(description="half-life of items' counts, and so of their usual level")
    ] = 604_800.0
    recent_half_life_s: Annotated[
        Seconds, Meta(description="half-life of what counts as recent; under the other one")
    ] = 3_600.0
    tell_every_s: Annotated[
        Seconds, Meta(description="workers tell each other their counts this often")
    ] = 10.0
    contexts: Annotated[
        str,
        Meta(
            pattern=r"^$|^[^,\s]+(,[^,\s]+){0,7}$",
            title="up to 8 names with commas between",
            description="what guests' lists go by besides: hour, placement, or names of "
            "`properties`, NAME,...",
        ),
    ] = ""
    trending_every_s: Annotated[
        Seconds,
        Meta(description="what trends is looked at this often, and published if it changed"),
    ] = 10.0
    trending_k: Annotated[
        int, Meta(ge=1, le=1000, description="most items trending in a kind or category")
    ] = 20
    trending_significance: Annotated[
        float,
        Meta(
            gt=0,
            le=1000,
            description="an item trends from so many standard deviations above its usual level on",
        ),
    ] = 4.0
    trending_least: Annotated[
        float, Meta(gt=0, le=1e9, description="and from so many recent interactions on")
    ] = 10.0

    @property
    def context_names(self) -> tuple[str, ...]:
        """The names that `contexts` lists."""
        return tuple(dict.fromkeys(filter(None, self.contexts.split(","))))
