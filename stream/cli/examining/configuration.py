"""The settings, and where each comes from. Out: a finding that holds no secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from stream.cli.examining.finding import Finding
from stream.config import Settings
from stream.revision import revision_of
from stream.secrets import FILE_SUFFIX
from stream.settings import FIELDS, SECRETS


def examine_configuration(settings: Settings, origins: Mapping[str, str]) -> Finding:
    """Every setting with its value and its source; those that are given, for people.

    Parameters
    ----------
    origins : TOML path -> where it was given; what is not there is a default
    """
    facts: dict[str, Any] = {}
    for path in FIELDS:
        facts[path] = {"value": _shown(settings, path), "source": _source(path, origins)}
    facts["placements"] = {
        "value": msgspec.to_builtins(settings.placements),
        "source": "default" if settings.placements == Settings().placements else "file",
    }
    lines = [
        f"{path} = {told['value']} ({told['source']})"
        for path, told in facts.items()
        if told["source"] != "default" and path != "placements"
    ]
    revision = revision_of(settings.placements, settings.weights)
    lines.append(f"placements: {', '.join(settings.placements)}, settings {revision}")
    lines.append("the rest are defaults")
    facts["placements"]["revision"] = revision
    told = f"brokers {settings.bootstrap}, group {settings.group}"
    return Finding("configuration", "ok", told, more=tuple(lines), facts=facts)


def _shown(settings: Settings, path: str) -> Any:
    section, _, name = path.rpartition(".")
    value = getattr(getattr(settings, section) if section else settings, name)
    if path in SECRETS:
        return None if value is None else str(value)  # stars
    return value


def _source(path: str, origins: Mapping[str, str]) -> str:
    own = origins.get(path)
    return own or (origins.get(path + FILE_SUFFIX) if path in SECRETS else None) or "default"
