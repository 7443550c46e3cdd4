"""Advisories that lie in a folder, held against what is locked. In: packages. Out: what names them.

Files in the form of OSV, as JSON or YAML, in whatever folders: a copy of PyPA's advisory database
(PyPI), of GitHub's (PyPI, npm, Maven), or OSV's own exports. For machines that reach no
vulnerability service, and for jars, of which no registry tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

_NAMED = re.compile(r"""["']?name["']?: *["']?([^"'\s,]+)""")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast


class Package(NamedTuple):
    """What is locked; of Maven the name is `group:artifact`."""

    ecosystem: str
    name: str
    version: str


class Looked(NamedTuple):
    """What was found.

    Attributes
    ----------
    holes : package -> ids of the advisories that name its version
    advisories : ecosystem -> how many were read
    newest : day of the newest, as "2026-11-26"
    """

    holes: dict[Package, list[str]]
    advisories: dict[str, int]
    newest: str


def look(folder: Path, packages: Iterable[Package]) -> Looked:
    """Hold every advisory below `folder` against the packages."""
    by_name: dict[str, list[Package]] = {}
    for package in packages:
        by_name.setdefault(_plain(package.name), []).append(package)
    holes: dict[Package, list[str]] = {}
    counted: dict[str, int] = {}
    newest = ""
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".json", ".yaml", ".yml"):
            continue
        text = path.read_text(encoding="utf-8")
        for ecosystem in set(re.findall(r"""ecosystem["']?: *["']?(\w+)""", text)):
            counted[ecosystem] = counted.get(ecosystem, 0) + 1
        newest = max([newest, *re.findall(r"""modified["']?: *["']?([\d-]{10})""", text)])
        if by_name.keys().isdisjoint(map(_plain, _NAMED.findall(text))):
            continue
        advisory = json.loads(text) if path.suffix == ".json" else yaml.load(text, _LOADER)
        for package in _named(advisory, by_name):
            holes.setdefault(package, []).append(str(advisory["id"]))
    return Looked(holes, counted, newest)


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
    order = _pypi_order if package.ecosystem == "PyPI" else _order
    ranges = [one for one in affected.get("ranges") or () if one["type"] != "GIT"]
    return any(_is_within(one["events"], package.version, order) for one in ranges)


def _is_within(events: list[dict[str, Any]], version: str, order: Callable[[str], Any]) -> bool:
    """Whether a version lies in a range, by the events below it.

    Source: OSV's schema, "evaluation".
    """
    inside = False
    steps = [(order(str(at)), what) for event in events for what, at in event.items()]
    for at, what in sorted(steps, key=lambda step: step[0]):
        if what == "introduced" and at <= order(version):
            inside = True
        elif (what == "fixed" and at <= order(version)) or (
            what == "last_affected" and at < order(version)
        ):
            inside = False
    return inside


def _pypi_order(text: str) -> Any:
    try:
        return (1, Version(text))
    except InvalidVersion:  # of before there were rules: below all
        return (0, _order(text))


def _order(text: str) -> tuple[tuple[int, Any], ...]:
    """Numbers above words above nothing: 1.0-rc1 < 1.0 < 1.0.1."""
    parts = re.findall(r"\d+|[a-z]+", text.lower())
    return (*((1, int(part)) if part.isdigit() else (0, part) for part in parts), (1, -1))
