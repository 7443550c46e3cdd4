"""A reason's code becomes words. In: TOML files of templates. Out: texts.

Knows nothing of lists: whoever has a reason and the title of its item asks here. A template may
name the item once, `{item}`; the rest of it is text.
"""

from __future__ import annotations

import difflib
import string
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from stream.contracts.records import EVENT_TYPES, PLAIN_REASONS
from stream.errors import SettingsError
from stream.words.settings import Wording

MAX_TITLE: Final = 200  # characters: a record's room for words must have an end
GONE: Final = "gone"  # in the place of a title, for an item that nobody knows any more
NAMELESS: Final = frozenset({*PLAIN_REASONS, "unknown", GONE})  # they have no item to name
CODES: Final = NAMELESS | {*EVENT_TYPES, "similar", "bought_together"}


class Template(NamedTuple):
    """A reason in words, but for the title: before it and after it; None: it names no title."""

    before: str
    after: str | None = None

    def filled(self, title: str) -> str:
        """The words, with a title."""
        return self.before if self.after is None else self.before + title + self.after


class Words:
    """The reasons of one language.

    Parameters
    ----------
    templates : by code; a code without one is told by its name
    """

    def __init__(self, templates: Mapping[str, Template]) -> None:
        self.templates = dict(templates)
        self._gone = self.templates.get(GONE, Template(GONE)).before

    @classmethod
    def of(cls, settings: Wording) -> Words:
        """Those of the settings' language, with the settings' file over them.

        Raises
        ------
        SettingsError : the file cannot be read, or a template in it cannot be used
        """
        name = f"{settings.language}.toml"
        text = resources.files("stream.words").joinpath(name).read_text(encoding="utf-8")
        templates = parse(text, name)
        if settings.file is not None:
            templates |= parse(_read(settings.file), settings.file)
        return cls(templates)

    def why(self, code: str, title: str | None) -> str:
        """A reason in words, such as "You bought LUNCH BAG".

        Parameters
        ----------
        code : of a `Reason`, or an event type; one that is not known, too
        title : of the item that it names, or its id; None: it names none, or one that is gone
        """
        template = self.templates.get(code)
        if template is None:
            return " ".join([code.replace("_", " "), *filter(None, [title])])
        return template.filled(self._gone if title is None else cut(title))


def cut(title: str) -> str:
    """A title as words have it: `MAX_TITLE` characters at most."""
    return title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1] + "…"


def parse(text: str, origin: str) -> dict[str, Template]:
    """Templates of a TOML file, by code.

    Raises
    ------
    SettingsError : naming `origin` and the code, and what would be right
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{origin}: is not TOML: {error}.") from None
    return {code: _template(code, given, origin) for code, given in table.items()}


def _template(code: str, given: object, origin: str) -> Template:
    if code not in CODES:
        near = difflib.get_close_matches(code, CODES, n=1, cutoff=0.5)
        cure = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(CODES))}."
        raise SettingsError(f"{origin}: {code}: is not a reason; {cure}")
    if not (isinstance(given, str) and given.strip() and given.isprintable()):
        raise SettingsError(f"{origin}: {code}: must be a text of one line that is not empty.")
    try:
        parts = list(string.Formatter().parse(given))
    except ValueError as error:
        raise SettingsError(
            f"{origin}: {code}: {error}; a brace of the text itself is written twice."
        ) from None
    texts, named = [""], 0
    for before, field, form, conversion in parts:
        texts[-1] += before
        if field is None:
            continue
        named += 1
        if field != "item" or form or conversion or named > 1 or code in NAMELESS:
            most = "no placeholder" if code in NAMELESS else "no placeholder but {item}, once"
            raise SettingsError(f"{origin}: {code}: is {given!r}; may have {most}.")
        texts.append("")
    return Template(texts[0], texts[1] if named else None)


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"{file}: cannot be read ({error.strerror}). words.file names a TOML file of templates."
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: is not UTF-8 text. A TOML file must be.") from None
