"""Texts by number, kept side by side so that compiled code can copy them by eight bytes.

In: numbers and texts. Out: one array of bytes, and where in it each text is. Knows nothing of
lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

FIRST_ROOM: Final = 1 << 16
WORD: Final = 8  # bytes copied at once; up to 7 of them are not of the piece, but behind it

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


def words_of(text: npt.NDArray[np.uint8]) -> Words:
    """The eight bytes from each byte of `text` on, as one number: a view, changes and all."""
    return np.ndarray((len(text) - WORD + 1,), np.uint64, text, strides=(1,))


class Pieces:
    """Texts by number; one that changes is written anew behind the others.

    Attributes
    ----------
    text : uint8, shape (room,); the texts, one after the other
    places : int64, shape (texts, 2); where each begins and ends
    longest : bytes of the longest text so far
    """

    def __init__(self) -> None:
        self.text = np.empty(FIRST_ROOM, np.uint8)
        self.places = np.zeros((0, 2), np.int64)
        self.longest = 0
        self._used = 0

    def put(self, numbers: npt.NDArray[np.int64], pieces: Sequence[bytes]) -> None:
        """Set these texts: int64, shape (n,), distinct. Those that were never set are empty."""
        if len(pieces) == 0:
            return
        joined = np.frombuffer(b"".join(pieces), np.uint8)
        if self._used + len(joined) + WORD > len(self.text):
            self._close_gaps(len(joined))
        missing = int(numbers.max()) + 1 - len(self.places)
        if missing > 0:
            more = np.zeros((max(missing, len(self.places)), 2), np.int64)
            self.places = np.concatenate([self.places, more])
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        ends = self._used + np.cumsum(lengths)
        self.places[numbers, 0], self.places[numbers, 1] = ends - lengths, ends
        self.text[self._used : self._used + len(joined)] = joined
        self._used += len(joined)
        self.longest = max(self.longest, int(lengths.max()))

    def _close_gaps(self, wanted: int) -> None:
        """Leave out what no number names any more; make twice the room for what is left."""
        old = self.text.tobytes()
        kept = [old[start:end] for start, end in self.places.tolist()]
        joined = np.frombuffer(b"".join(kept), np.uint8)
        ends = np.cumsum(np.fromiter(map(len, kept), np.int64, len(kept)))
        self.places = np.stack([ends - np.diff(self.places)[:, 0], ends], axis=1)
        self.text = np.empty(2 * (len(joined) + wanted) + WORD, np.uint8)
        self.text[: len(joined)] = joined
        self._used = len(joined)
