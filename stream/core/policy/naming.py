"""Names of lists, by which an event says on which one it was done.

In: which arm made a list, in which cell, and what it shows. Out: its name; and what a name says.
Knows no user: a name holds nothing of one, and equal lists of two users may have the same.

    4 bytes   the arm, and what its cells mean: the first of BLAKE2b's 8 bytes of the key of its
              counts and its name, as a number that is never 0; little-endian, as all of it
    1 byte    the cell where outcomes count: segment and multiplier (`payoffs.py`); 255: none
    7 bytes   a hash of the arm and of the items, in their order; never 0

as 16 characters of base64 in its form for addresses. So what came of an older list counts where it
belongs though nobody remembers it: after any number of newer ones, a restart, on another worker.

Nothing here is secret. Who makes a name up moves the credit of their own event to a cell that is
there, as they could by another user id, and no further.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.compiled import NOTHING, array, compiled, part_of_compiled
from stream.core.catalogue import Catalogue
from stream.core.mixing import hash_of
from stream.core.policy.arranging import Picked

NAME_CHARACTERS: Final = 16
_NAME: Final = np.dtype([("maker", "<u4"), ("shows", "<u8")])  # the cell is the lowest byte
_LOOKS_RIGHT: Final = re.compile(rf"[A-Za-z0-9_-]{{{NAME_CHARACTERS}}}").fullmatch
_NOBODY: Final = "A" * NAME_CHARACTERS  # of maker 0
_CELL: Final = np.uint64(0xFF)
_NO_CELLS: Final = np.zeros(0, np.uint8)
_ALPHABET: Final = np.frombuffer(f"{ascii_uppercase}{ascii_lowercase}{digits}-_".encode(), np.uint8)


class Named(NamedTuple):
    """What n events say of the lists that they were done on.

    Attributes
    ----------
    given : bool, shape (n,); the event names a list, whether anybody knows it or not
    arms : int64, shape (n,); number of the arm that made it, -1: none that there is
    cells : int64, shape (n,); where what came of it counts, -1: nowhere
    shows : uint64, shape (n,); hash of what it shows, as `Naming.name` has it; 0: none is known
    """

    given: NDArray[np.bool_]
    arms: NDArray[np.int64]
    cells: NDArray[np.int64]
    shows: NDArray[np.uint64]

    @classmethod
    def nothing(cls, events: int) -> Named:
        """Of events that name no list."""
        nowhere = np.full(events, -1)
        return cls(np.zeros(events, np.bool_), nowhere, nowhere, np.zeros(events, np.uint64))


class Naming:
    """Gives and reads the names of some arms' lists.

    Parameters
    ----------
    cells : of each arm, by name and in the order of their numbers: under which key what comes of
        its lists is counted, and in how many cells; None: it is not
    catalogue : whose items they list
    """

    def __init__(self, cells: Mapping[str, tuple[bytes, int] | None], catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        counted = [of or (b"", 0) for of in cells.values()]
        names = [name.encode() for name in cells]
        makers = [_maker(name, key) for name, (key, _) in zip(names, counted, strict=True)]
        self._makers = np.array(
            [[maker, hash_of(name)] for maker, name in zip(makers, names, strict=True)], np.uint64
        )
        self._number_by_maker = {maker: number for number, maker in enumerate(makers)}
        self._cells = np.array([size for _, size in counted], np.int64)

    def name(self, arm: int, lists: Picked) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
        """Names of n lists of an arm.

        Returns
        -------
        names : uint8, shape (n, `NAME_CHARACTERS`); ASCII
        shows : uint64, shape (n,); hashes of what the lists show, never 0
        """
        names = np.empty((len(lists.rows), NAME_CHARACTERS), np.uint8)
        shows = np.empty(len(lists.rows), np.uint64)
        cells = _NO_CELLS if lists.cells is None else lists.cells
        of_arm = (self._makers[arm], cells, self._catalogue.hashes)
        _name(lists.rows, lists.scores, *of_arm, _ALPHABET, names, shows)
        return names, shows

    def read(self, names: Sequence[str | None]) -> Named:
        """What names say; None and empty ones name nothing. Any text is taken.

        One that was made up, or by an arm or settings that are no more, is of no list.
        """
        found = Named.nothing(len(names))
        if not any(names):
            return found
        given = np.array([bool(name) for name in names], np.bool_)
        sound = [name if name and _LOOKS_RIGHT(name) else _NOBODY for name in names]
        told = np.frombuffer(base64.urlsafe_b64decode("".join(sound)), _NAME)
        number_of = self._number_by_maker.get
        arms = np.array([number_of(maker, -1) for maker in told["maker"].tolist()], np.int64)
        cells = (told["shows"] & _CELL).astype(np.int64)
        known = arms >= 0
        counted = known & (cells < self._cells[arms])
        shows = np.where(known, told["shows"] & ~_CELL, np.uint64(0))
        return Named(given, arms, np.where(counted, cells, -1), shows)


def _maker(arm: bytes, key: bytes) -> int:
    """32 bits that stand for an arm and what its cells mean; never 0."""
    return max(hash_of(key + arm) & 0xFFFFFFFF, 1)


@part_of_compiled
def _mixed(found: np.uint64, number: np.uint64) -> np.uint64:
    """A hash with a number more in it: `mixing.split_mix` of their sum and `GOLDEN`."""
    found = found + number + np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))


@compiled(
    NOTHING,
    array("i8", 2),
    array("f4", 2),
    array("u8"),
    array("u1"),
    array("u8"),
    array("u1"),
    array("u1", 2, written=True),
    array("u8", written=True),
)
def _name(
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    maker: NDArray[np.uint64],
    cells: NDArray[np.uint8],
    item_hashes: NDArray[np.uint64],
    alphabet: NDArray[np.uint8],
    names: NDArray[np.uint8],
    shows: NDArray[np.uint64],
) -> None:
    """`Naming.name`, into `names` and `shows`; `maker` is that of the arm and its hash."""
    for user in range(rows.shape[0]):
        found = maker[1]
        for place in range(rows.shape[1]):
            if not scores[user, place] > 0:
                break
            row = min(rows[user, place], len(item_hashes) - 1)  # no bounds are checked here
            found = _mixed(found, item_hashes[row])
        found = max(found & ~np.uint64(0xFF), np.uint64(0x100))
        shows[user] = found
        told = found | (np.uint64(cells[user]) if len(cells) > 0 else np.uint64(0xFF))
        for character in range(0, 16, 4):
            three = np.uint64(0)
            for at in range(character // 4 * 3, character // 4 * 3 + 3):
                word, byte = (maker[0], at) if at < 4 else (told, at - 4)
                three = (three << np.uint64(8)) | ((word >> np.uint64(8 * byte)) & np.uint64(0xFF))
            for at in range(4):
                six = (three >> np.uint64(18 - 6 * at)) & np.uint64(0x3F)
                names[user, character + at] = alphabet[np.int64(six)]
