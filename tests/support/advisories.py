"""Advisories that lie in a folder, held against what is locked. In: packages. Out: what names them.

Files in the form of OSV, as JSON or YAML, in whatever folders: a copy of PyPA's advisory database
(PyPI), of GitHub's (PyPI, npm, Maven), or OSV's own exports. For machines that reach no
vulnerability service, and for jars, of which no registry tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from packaging.utils import canonicalize_name
from univers.versions import InvalidVersion, MavenVersion, PypiVersion, SemverVersion

_NAMED = re.compile(r"""["']?name["']?: *["']?([^"'\s,]+)""")
_VERSIONS = {"PyPI": PypiVersion, "npm": SemverVersion, "Maven": MavenVersion}
# Of what is no JSON, no YAML, or lacks what OSV's schema asks for.
_BROKEN = (ValueError, yaml.YAMLError, RecursionError, LookupError, AttributeError, TypeError)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast


class Package(NamedTuple):
    """What is locked; of Maven the name is `group:artifact`."""

    ecosystem: str
    name: str
    version: str


class Read(NamedTuple):
    """How many advisories were read of an ecosystem, and the newest one's day ("2026-11-26")."""

    count: int = 0
    newest: str = ""


class Looked(NamedTuple):
    """What was found.

    Attributes
    ----------
    holes : package -> ids of the advisories that name its version
    advisories : by ecosystem
    """

    holes: dict[Package, list[str]]
    advisories: dict[str, Read]


def look(folder: Path, packages: Iterable[Package]) -> Looked:
    """Hold every advisory below `folder` against the packages.

    Raises
    ------
    SystemExit : a file cannot be read as one, and what it is about would be told clean
    """
    by_name: dict[str, list[Package]] = {}
    for package in packages:
        by_name.setdefault(_plain(package.name), []).append(package)
    holes: dict[Package, list[str]] = {}
    counted: dict[str, Read] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".json", ".yaml", ".yml") or path.is_dir():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(path, error) from None
        days = re.findall(r"""modified["']?: *["']?([\d-]{10})""", text)
        for ecosystem in set(re.findall(r"""ecosystem["']?: *["']?(\w+)""", text)):
            count, newest = counted.get(ecosystem, Read())
            counted[ecosystem] = Read(count + 1, max([newest, *days]))
        if by_name.keys().isdisjoint(map(_plain, _NAMED.findall(text))):
            continue
        try:
            advisory = json.loads(text) if path.suffix == ".json" else yaml.load(text, _LOADER)
            for package in _named(advisory, by_name):
                holes.setdefault(package, []).append(str(advisory["id"]))
        except _BROKEN as error:
            raise _unreadable(path, error) from None
    return Looked(holes, counted)


def _unreadable(path: Path, error: Exception) -> SystemExit:
    why = " ".join(f"{type(error).__name__}: {error}".split())
    return SystemExit(
        f"error: {path} cannot be read as an advisory ({why}): "
        "mend it, or take it out of the folder"
    )


def _plain(name: str) -> str:
    return canonicalize_name(name) if re.fullmatch(r"[\w.-]+", name) else name.lower()


def _named(advisory: dict[str, Any], by_name: dict[str, list[Package]]) -> Iterator[Package]:
    """Packages whose version an advisory is about."""
    if advisory.get("withdrawn"):
        return
    found = set()
    for affected in advisory.get("affected", ()):
        told = affected.get("package", {})
        for package in by_name.get(_plain(str(told.get("name", ""))), ()):
            if told.get("ecosystem") == package.ecosystem and _is_affected(affected, package):
                found.add(package)
    yield from found


def _is_affected(affected: dict[str, Any], package: Package) -> bool:
    if package.version in map(str, affected.get("versions") or ()):
        return True
    ranges = [one for one in affected.get("ranges") or () if one["type"] != "GIT"]
    return any(_is_within(one["events"], package) for one in ranges)


def _is_within(events: list[dict[str, Any]], package: Package) -> bool:
    """Whether a package's version lies in a range, by the events below it.

    Source: OSV's schema, "evaluation".
    """
    version = _place(package.ecosystem, package.version)
    inside = False
    steps = [
        (_place(package.ecosystem, str(at)), what) for one in events for what, at in one.items()
    ]
    for at, what in sorted(steps, key=itemgetter(0)):
        if what == "introduced" and at <= version:
            inside = True
        elif (what == "fixed" and at <= version) or (what == "last_affected" and at < version):
            inside = False
    return inside


def _place(ecosystem: str, text: str) -> tuple[Any, ...]:
    """What a version is compared by. Below all: OSV's "0", and what is none by today's rules."""
    if text == "0":
        return (0,)
    if ecosystem == "npm":
        text = text.partition("+")[0]  # what is behind it has no order
    try:
        return (1, _VERSIONS[ecosystem](text))
    except InvalidVersion:
        return (0,)
