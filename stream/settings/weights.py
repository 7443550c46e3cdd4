"""The table `[weights]` of the settings: what events move interests by, and how fast those fade."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from stream.contracts.records import EVENT_TYPES
from stream.sections import Section

_Weight = Annotated[float, Meta(ge=-100, le=100)]
_HalfLife = Annotated[float, Meta(ge=1, le=3_153_600_000)]


def _of(events: str) -> Meta:
    return Meta(description=f"how much {events} moves the interest; unset: the bundle's")


class Weights(Section, frozen=True):
    """What an event of a type moves an interest by, and what is left of it after a while.

    What is unset is as the bundle has it. A purchase is 1 there; below 0, interests move away.
    """

    view: Annotated[_Weight | None, _of("a view")] = None
    click: Annotated[_Weight | None, _of("a click")] = None
    add_to_cart: Annotated[_Weight | None, _of("an item put into the cart")] = None
    remove_from_cart: Annotated[_Weight | None, _of("one taken out of it")] = None
    like: Annotated[_Weight | None, _of("a like")] = None
    dislike: Annotated[_Weight | None, _of("a dislike")] = None
    impression: Annotated[_Weight | None, _of("an item shown")] = None
    purchase: Annotated[_Weight | None, _of("a purchase")] = None
    cancel: Annotated[_Weight | None, _of("a cancellation")] = None
    half_lives_s: Annotated[
        Annotated[
            tuple[_HalfLife, ...],
            Meta(min_length=1, max_length=64, title="a list of seconds, each from 1 to 3153600000"),
        ]
        | None,
        Meta(
            description="half-lives of the sums that make an interest, in the bundle's order "
            "(`decay`: the taste's, the mood's; `ensemble`: its members', one after the other); "
            "unset: the bundle's"
        ),
    ] = None

    def given(self) -> dict[str, object]:
        """What is set, by name; -0.0, which no comparison tells from 0.0, as that."""
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value or 0.0 for name, value in values if value is not None}

    def event_weights(self) -> dict[str, float]:
        """What is set of it for types of events, by their names."""
        values = ((name, getattr(self, name)) for name in EVENT_TYPES)
        return {name: value for name, value in values if value is not None}


UNSET: Final = Weights()
