"""Tables of the settings file that hold others: converted, and what is wrong in them told.

In: what a TOML file holds of placements, and its text. Out: `Placement`s, or an error that names
the file, the line where it can be found, the path and what would be right.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import NODEFAULT
from msgspec.structs import FieldInfo, replace

from stream.described import allowed
from stream.errors import SettingsError
from stream.leaves import inner_section, share_of_variant
from stream.placements import (
    CONTROL,
    MOST_WITH_SHARES,
    Items,
    Pin,
    Placement,
    Rule,
    Shoppers,
    Variant,
)

_ROUNDING: Final = 1e-9  # of a sum of shares
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WHERE: Final = re.compile(r" - at `\$(.*)`$")
_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]")
_HEADER: Final = re.compile(r"\s*\[.*\]\s*(#.*)?")
_KEY: Final = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*[\w\"'-]+)*)\s*=")

Path = tuple[str | int, ...]


class Source:
    """Where in a file settings stand.

    Parameters
    ----------
    name : of the file, as messages have it
    text : all of it
    """

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text

    def at(self, path: Path) -> str:
        """The origin of the setting at a path, in words fit for a message."""
        line = line_of(self._text, path)
        return f"{self._name}{'' if line is None else f':{line}'}: {_shown(path)}"

    def origin(self, path: str) -> str:
        """That of the setting at a path as it is written, with dots."""
        return self.at(tuple(path.split(".")))


def line_of(text: str, path: Path) -> int | None:
    """The line, from 1, where the setting at a path stands, or what is nearest above it.

    None where nothing of it is found: TOML has more ways to write a table than are looked for.
    """
    best: int = 0
    line: int | None = None
    for number, at in _places(text):
        if len(at) > best and at == path[: len(at)]:
            best, line = len(at), number
    return line


def _places(text: str) -> Iterator[tuple[int, Path]]:
    """Line and path of each header and each key at the beginning of a line."""
    above: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if _HEADER.fullmatch(line):
            try:
                names = _names(tomllib.loads(line))
            except tomllib.TOMLDecodeError:  # of a list that goes over lines
                continue
            above = ()
            for name in names[:-1]:
                above += (name,)
                above += (counts[above],) if above in counts else ()
            above += (names[-1],)
            if line.lstrip().startswith("[["):
                counts[above] = counts.get(above, -1) + 1
                above += (counts[above],)
            yield number, above
        elif key := _KEY.match(line):
            yield number, (*above, *_names(tomllib.loads(f"{key[1]} = 0")))


def _names(nested: Any) -> list[str]:
    """The keys on the way to the only value of nested tables."""
    names = []
    while isinstance(nested, dict) and nested:
        ((name, nested),) = nested.items()
        names.append(name)
        nested = nested[0] if isinstance(nested, list) else nested
    return names


def _shown(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]


def read_placements(found: Any, source: Source) -> dict[str, Placement]:
    """The placements of a file.

    Parameters
    ----------
    found : what the file holds under `placements`

    Raises
    ------
    SettingsError
    """
    at: Path = ("placements",)
    placements = {
        name: _placement(table, (*at, name), source)
        for name, table in as_table(found, source.at(at)).items()
    }
    if not placements:
        raise SettingsError(
            f"{source.at(at)}: is empty. Add one, such as [placements.home], or leave it out."
        )
    return placements


def _placement(table: Any, at: Path, source: Source) -> Placement:
    if not _NAME.fullmatch(str(at[-1])):
        raise SettingsError(
            f"{source.at(at)}: a placement's name is 1 to 64 letters, digits, _ or -; rename it."
        )
    as_table(table, source.at(at))
    own = {name: value for name, value in table.items() if name != "variants"}
    placement = _converted(own, at, source)
    if "variants" not in table:
        return placement
    return replace(placement, variants=_variants(table["variants"], own, at, source))


def _variants(found: Any, own: dict[str, Any], above: Path, source: Source) -> dict[str, Variant]:
    """The variants of a placement: its own settings, each with others laid over them."""
    variants, left = {}, 1.0
    for name, table in as_table(found, source.at((*above, "variants"))).items():
        at = (*above, "variants", name)
        where = source.at(at)
        if not _NAME.fullmatch(name) or name == CONTROL:
            raise SettingsError(
                f"{where}: a variant's name is 1 to 64 letters, digits, _ or -, and not {CONTROL}, "
                "which is what the placement is without it; rename it."
            )
        others = dict(as_table(table, where))
        if "variants" in others:
            raise SettingsError(f"{where}: has variants; a variant has none, so move them up.")
        setting = share_of_variant()
        if "share" not in others:
            raise SettingsError(f"{where}: has no share; add it, {allowed(setting)}.")
        try:
            share = msgspec.convert(others.pop("share"), setting.type)
        except msgspec.ValidationError:
            told, must = table["share"], allowed(setting)
            where = source.at((*at, "share"))
            raise SettingsError(f"{where}: is {told!r}; must be {must}.") from None
        left -= share
        if left < -_ROUNDING:
            raise SettingsError(
                f"{source.at((*at, 'share'))}: with it, variants have {1 - left:g} of the users; "
                "lower a share, so that together they have 1 at most."
            )
        variants[name] = Variant(share, _converted(_laid_over(own, others), at, source))
    return variants


def _laid_over(own: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Settings with others in their place; of tables, those inside."""
    both = own | others
    for name in own.keys() & others.keys():
        if isinstance(own[name], dict) and isinstance(others[name], dict):
            both[name] = _laid_over(own[name], others[name])
    return both


def _converted(table: Any, at: Path, source: Source) -> Placement:
    try:
        placement = msgspec.convert(table, Placement)
    except msgspec.ValidationError as error:
        raise _told(str(error), table, at, source) from None
    if placement.reason_shares and placement.k > MOST_WITH_SHARES:
        raise SettingsError(
            f"{source.at((*at, 'reason_shares'))}: is true, yet k is {placement.k}; lower k to "
            f"{MOST_WITH_SHARES} or less, since each place costs a step more scoring."
        )
    _check_pins(placement, (*at, "pins"), source)
    for number, rule in enumerate(placement.rules):
        _check_rule(rule, source.at((*at, "rules", number)))
    return placement


def _check_rule(rule: Rule, where: str) -> None:
    """What it says can come true."""
    if (rule.do == "boost") != (rule.add is not None):
        word = "has no add" if rule.add is None else "has an add, yet is no boost"
        raise SettingsError(f"{where}: {word}; a boost has one and no other rule does.")
    if rule.do == "reserve" and rule.users == Shoppers():
        raise SettingsError(f"{where}: reserves items for all users; say for which, with users.")
    if rule.do in ("leave_out", "keep") and rule.items == Items():
        raise SettingsError(f"{where}: is about every item; say about which, with items.")
    for name in ("items.price", "users.events", "users.purchases", "users.spent"):
        part, field = name.split(".")
        low, high = (getattr(getattr(rule, part), f"{field}_{end}") for end in ("from", "to"))
        if low is not None and high is not None and low > high:
            raise SettingsError(f"{where}: {name}_from is above {name}_to; nothing meets both.")
    if rule.start is not None and rule.end is not None and rule.start >= rule.end:
        raise SettingsError(f"{where}: ends before it starts.")


def _check_pins(placement: Placement, at: Path, source: Source) -> None:
    """Each has a place of its own, for as long as it is there, and the list has that place."""
    for number, pin in enumerate(placement.pins):
        where = source.at((*at, number, "place"))
        if pin.place > placement.k:
            raise SettingsError(
                f"{where}: is {pin.place}; must be at most the placement's k ({placement.k})."
            )
        for other, before in enumerate(placement.pins[:number]):
            if before.place == pin.place and _overlap(before, pin):
                raise SettingsError(
                    f"{where}: is {pin.place}, and so is that of pins[{other}] at the same time; "
                    "give one of them another place, start or end."
                )


def _overlap(one: Pin, other: Pin) -> bool:
    starts = [pin.start for pin in (one, other) if pin.start]
    ends = [pin.end for pin in (one, other) if pin.end]
    return not starts or not ends or max(starts) < min(ends)


def _told(message: str, table: Any, at: Path, source: Source) -> SettingsError:
    """What msgspec found wrong in a placement's table, for whoever wrote it."""
    section: Any = Placement
    where = _WHERE.search(message)
    for name, number in _STEP.findall(where[1] if where else ""):
        at += (name or int(number),)
        table = table[name or int(number)]
        if name:
            setting = _fields(section)[name]
            section, _ = inner_section(setting.type)
            if section is None:
                return SettingsError(f"{source.at(at)}: is {table!r}; must be {allowed(setting)}.")
    fields = _fields(section)
    if isinstance(table, dict):
        for name in table:
            if name not in fields:
                return unknown(source.at((*at, name)), name, fields)
        for name, setting in fields.items():
            if setting.default is NODEFAULT and name not in table:
                must = allowed(setting)
                return SettingsError(f"{source.at(at)}: has no {name}; add it, {must}.")
    listed = isinstance(at[-1], str) and message.startswith("Expected `array")
    kind, mark = ("a list of tables", f"[[{_shown(at)}]]") if listed else ("a table", _shown(at))
    return SettingsError(f"{source.at(at)}: is {table!r}; must be {kind}, such as {mark}.")


def _fields(section: Any) -> dict[str, FieldInfo]:
    return {setting.name: setting for setting in msgspec.structs.fields(section)}


def as_table(value: Any, origin: str) -> dict[str, Any]:
    """The value, which must be a table."""
    if not isinstance(value, dict):
        raise SettingsError(
            f"{origin}: is {value!r}; must be a table, such as [{origin.rsplit(maxsplit=1)[-1]}]."
        )
    return value


def unknown(origin: str, name: str, known: Iterable[str]) -> SettingsError:
    """There is no such setting."""
    near: Sequence[str] = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    cure = f"did you mean {near[0]}?" if near else "remove it; the README lists the settings."
    return SettingsError(f"{origin}: is not a setting; {cure}")
