"""Names of lists for events to say back. In: names that a subscriber saw. Out: which one, if any.

New and old ones, of the shopper's own lists and of anybody's since the run began, whoever made them
and has died since; and some that nobody gave. Nobody waits for a list: one that was not seen yet is
not named.
"""

from __future__ import annotations

import random
from collections import deque
from string import ascii_letters, digits
from typing import Final

OF_USER: Final = 32  # newest names that are kept of each
OF_ALL: Final = 2_000  # names kept of the whole run, each list as likely as any other
NAMED: Final = 0.6  # of the events that a list is asked for
MADE_UP: Final = 0.1  # of the names
CHARACTERS: Final = ascii_letters + digits + "-_"


class Names:
    """Names of lists that were seen; one thread notes them, another one draws.

    Parameters
    ----------
    seed : of what is drawn, apart from all else that a run draws
    """

    def __init__(self, seed: int) -> None:
        self._chance, self._keeps = (random.Random(f"{of} {seed}") for of in ("names", "keeps"))
        self._by_user: dict[bytes, deque[str]] = {}
        self._of_all: list[str] = []
        self._seen = 0

    def note(self, user: bytes, name: str) -> None:
        """A user's list was seen."""
        self._by_user.setdefault(user, deque(maxlen=OF_USER)).append(name)
        self._seen += 1
        if len(self._of_all) < OF_ALL:
            self._of_all.append(name)
        elif (at := self._keeps.randrange(self._seen)) < OF_ALL:
            self._of_all[at] = name

    def drawn(self, user: bytes) -> str | None:
        """What an event of a user says that it was done on; None: nothing."""
        chance = self._chance
        if chance.random() > NAMED:
            return None
        name = self._known(user)
        return self._made_up(name) if chance.random() < MADE_UP else name

    def _known(self, user: bytes) -> str | None:
        chance, own = self._chance, self._by_user.get(user)
        if own and chance.random() < 0.7:
            return own[-1] if chance.random() < 0.3 else chance.choice(own)
        return chance.choice(self._of_all) if self._of_all else None

    def _made_up(self, name: str | None) -> str:
        """Cut, too long, with another character, or all of it invented."""
        chance = self._chance
        invented = "".join(chance.choices(CHARACTERS, k=16))
        if name is None:
            return invented
        at = chance.randrange(len(name))
        altered = name[:at] + chance.choice(CHARACTERS) + name[at + 1 :]
        return chance.choice((invented, name[:at], f"{name}A", f"{name[:-1]}\n", altered, altered))
