"""The demo's lists on a terminal, in 80 columns. In: a recommendation, its event. Out: lines.

Marks what is new since the user's list before. Sends and receives nothing.
"""

from __future__ import annotations

import shlex
from typing import NamedTuple

import click
from msgspec import UNSET

from stream.cli.common import fit, printable
from stream.cli.lists import Titles
from stream.contracts import ListedItem, Recommendation

PLACEMENT = "home"
SHOWN = 4  # items of a shopper's list
SHOWN_OF_YOURS = 8  # of a user who was sent by hand

_SAYS = {
    "view": "viewed",
    "click": "clicked",
    "add_to_cart": "put into the cart",
    "remove_from_cart": "took out of the cart",
    "like": "likes",
    "dislike": "dislikes",
    "impression": "was shown",
    "purchase": "bought",
    "cancel": "cancelled",
}


class Happened(NamedTuple):
    """The event that a list answers, as far as the demo knows it."""

    event_type: str
    item_id: str


class Screen:
    """Renders lists one under the other; remembers each user's last one."""

    def __init__(self, titles: Titles) -> None:
        self._titles = titles
        self._before: dict[str, set[str]] = {}

    def render(
        self,
        recommendation: Recommendation,
        happened: Happened | None,
        delay_ms: float,
        by_hand: bool,
    ) -> list[str]:
        """Return the lines for one list: the event, then the items, `+` where one is new."""
        user_id = recommendation.user_id
        ranked = recommendation.lists.get(PLACEMENT)
        top = ranked.items[: SHOWN_OF_YOURS if by_hand else SHOWN] if ranked else []
        before = self._before.get(user_id)
        self._before[user_id] = {item.item_id for item in top}
        return [
            "",
            self._heading(user_id, happened, delay_ms, by_hand),
            *(self._line(item, before is not None and item.item_id not in before) for item in top),
        ]

    def _heading(
        self, user_id: str, happened: Happened | None, delay_ms: float, by_hand: bool
    ) -> str:
        did = "did something"
        if happened is not None:
            verb = _SAYS.get(happened.event_type, happened.event_type)
            did = f"{verb} {self._titles.title(happened.item_id)}"
        took = f"new list in {delay_ms:.1f} ms"
        text = fit(f"{user_id} {did}", 78 - len(took))
        return click.style(f"{text} {took}", bold=True, fg="green" if by_hand else None)

    def _line(self, item: ListedItem, new: bool) -> str:
        price = "" if item.price is UNSET else f"{item.price:.2f}"
        return (
            f"{'+' if new else ' '}{item.rank:2} {item.score:.2f} "
            f"{fit(self._titles.title(item.item_id), 31)} {price:>7} "
            f"{fit(self._titles.why(item.reason), 31)}"
        ).rstrip()


def own_click(program: str, bootstrap: str, suggestions: list[tuple[str, str]]) -> str:
    """Return how to send a click of one's own, ready to be pasted into another terminal.

    Parameters
    ----------
    suggestions : (item_id, title) of two or more items
    """
    (item_id, title), *others = suggestions
    more = " or ".join(f"--item {_word(other)} ({printable(name)})" for other, name in others)
    return (
        f"\nClick {printable(title)} yourself, from a second terminal, and see your list here:\n"
        f"  {program} send click --user you --item {_word(item_id)} --bootstrap {bootstrap}\n"
        f"Then {more},\nor purchase instead of click."
    )


def _word(text: str) -> str:
    """Return one word of a shell's command line."""
    return shlex.quote(printable(text))
