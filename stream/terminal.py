"""Text for a terminal. In: text of any origin. Out: text that moves and hides nothing."""

from __future__ import annotations

import json
import unicodedata
from typing import Final

LINES: Final = "\n"

# Cc control, Cf invisible and direction marks, Cs lone surrogates, Zl and Zp line breaks.
_UNSAFE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str, *, keep: str = "") -> str:
    """Escape what could move a terminal's cursor, colour it, hide text or turn its direction.

    Parameters
    ----------
    text : of any origin
    keep : characters to leave as they are
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape", "surrogatepass").decode()
        if _is_unsafe(character, keep)
        else character
        for character in text
    )


def printable_json(text: str, *, keep: str = "") -> str:
    """JSON that says the same, with such characters escaped as JSON has it.

    JSON asks for it with the controls of ASCII alone: not with C1, which some terminals obey, nor
    with marks of direction. Those in `keep` may stand between values.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(one) if _is_unsafe(one, keep) else one for one in text)


def counted(number: int, what: str) -> str:
    """A number of things, by the name of one of them: `1 bad line`, `1,200 bad lines`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _is_unsafe(character: str, keep: str) -> bool:
    return unicodedata.category(character) in _UNSAFE_CATEGORIES and character not in keep


def _escaped(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
