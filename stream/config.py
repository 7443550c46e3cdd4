"""Settings from defaults < TOML file < environment (FRESHET_*) < flags.

In: a file, an environment, flags. Out: one frozen `Settings`, every value checked. The only reader
of the environment; knows nothing of brokers, and of a bundle only its path.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import FieldInfo

from stream.checks import check_together
from stream.described import Described, allowed, describe_settings
from stream.errors import SettingsError
from stream.placements import Placement
from stream.secrets import FILE_SUFFIX, Secret, from_text, read_secret
from stream.settings import (
    CONFIG_VARIABLE,
    FIELDS,
    LISTS,
    NEVER_EMPTY,
    SECRETS,
    SECTIONS,
    TESTS_VARIABLE,
    Batch,
    Broker,
    Security,
    Settings,
    State,
    Topics,
    variable,
)
from stream.tables import Source, as_table, read_placements, unknown

__all__ = [
    "Batch",
    "Broker",
    "Described",
    "Placement",
    "Security",
    "Settings",
    "State",
    "Topics",
    "describe_settings",
    "environment_with",
    "given_origins",
    "given_paths",
    "load_settings",
    "log_format_asked",
    "may_colour",
    "settings_file",
]

# Kubernetes puts such variables into every pod beside a service called freshet.
_SERVICE_LINK: Final = re.compile(r"FRESHET_(\w+_)?(SERVICE_HOST|SERVICE_PORT\w*|PORT(_\d+_\w+)?)")


class _Given(NamedTuple):
    """A value, and where it was given, in words fit for a message. The value may be a secret."""

    value: Any
    origin: str
    text: bool  # from the environment or a flag: numbers come as strings


def load_settings(
    config: Path | None = None,
    overrides: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] = os.environ,
    content: bytes | None = None,
) -> Settings:
    """Read the settings.

    Parameters
    ----------
    config : TOML file; None = the one that FRESHET_CONFIG names, if any
    overrides : flags by TOML path, such as {"state.ring": "80"}; None = not given
    environ : an empty variable counts as not set, but for `NEVER_EMPTY`
    content : what the file holds; None: it is read

    Raises
    ------
    SettingsError
        naming the file and path, the variable or the flag, and what would be right
    """
    config = settings_file(config, environ)
    text = "" if config is None else _read(config, content)
    table = {} if config is None else _parse(text, config)
    source = Source(str(config), text)
    given = _given(table, source, overrides or {}, environ)

    values: dict[str, Any] = {section: {} for section in SECTIONS}
    for path, found in given.items():
        section, _, name = path.rpartition(".")
        (values[section] if section else values)[name] = _convert(
            FIELDS[path], found, exactly=path in SECRETS, listed=path in LISTS
        )
    for path, secret in _secrets_from_files(given).items():
        section, _, name = path.rpartition(".")
        values[section][name] = secret
    if "placements" in table:
        values["placements"] = read_placements(table["placements"], source)
    settings = msgspec.convert(values, Settings, dec_hook=from_text)
    check_together(settings, {path: found.origin for path, found in given.items()})
    return settings


def given_origins(
    config: Path | None = None,
    overrides: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """TOML path -> where `load_settings` finds it given, placements apart; the rest are defaults.

    Raises
    ------
    SettingsError : as `load_settings`
    """
    config = settings_file(config, environ)
    text = "" if config is None else _read(config)
    table = {} if config is None else _parse(text, config)
    given = _given(table, Source(str(config), text), overrides or {}, environ)
    return {path: found.origin for path, found in given.items()}


def given_paths(
    config: Path | None = None,
    overrides: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> frozenset[str]:
    """The paths of `given_origins`."""
    return frozenset(given_origins(config, overrides, environ))


def log_format_asked(
    config: Path | None, flag: str | None, environ: Mapping[str, str] = os.environ
) -> str:
    """The log's format as far as it can be told before it is known that all settings are right."""
    table: Mapping[str, Any] = {}
    with contextlib.suppress(SettingsError):
        file = settings_file(config, environ)
        table = {} if file is None else _parse(_read(file), file)
    given = flag or environ.get(variable("log_format")) or table.get("log_format")
    return str(given or FIELDS["log_format"].default).strip()


def may_colour(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the user has nothing against colour on terminals: https://no-color.org."""
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def environment_with(
    settings: Mapping[str, str], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """`environ` for a child process that shall find `settings`, by TOML path, given there."""
    return {**environ, **{variable(path): value for path, value in settings.items()}}


def settings_file(
    config: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Path | None:
    """The file that `load_settings` reads; None: there is none."""
    named = environ.get(CONFIG_VARIABLE)
    return Path(named) if config is None and named else config


def _given(
    table: Mapping[str, Any],
    source: Source,
    overrides: Mapping[str, str | None],
    environ: Mapping[str, str],
) -> dict[str, _Given]:
    """What was given by TOML path; the stronger place wins."""
    given = dict(_from_file(table, source))
    given |= _from_environment(environ) | _from_flags(overrides)
    for path in SECRETS & given.keys():
        file = given.get(path + FILE_SUFFIX)
        if file is not None and not file.text:  # the environment is stronger than the TOML file
            del given[path + FILE_SUFFIX]
        elif file is not None:
            raise SettingsError(
                f"{given[path].origin}: is set, and so is {file.origin}; keep one of the two."
            )
    return given


def _secrets_from_files(given: Mapping[str, _Given]) -> dict[str, Secret]:
    """Path -> secret, for those that a file holds."""
    files = {path: given.get(path + FILE_SUFFIX) for path in SECRETS}
    return {
        path: read_secret(str(file.value).strip(), file.origin)
        for path, file in files.items()
        if file is not None
    }


def _read(path: Path, content: bytes | None = None) -> str:
    try:
        return (path.read_bytes() if content is None else content).decode()
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}). Name a TOML file with --config or "
            f"{CONFIG_VARIABLE}."
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text. A TOML file must be.") from None


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is not TOML: {error}.") from None


def _from_file(table: Mapping[str, Any], source: Source) -> Iterator[tuple[str, _Given]]:
    for name, value in table.items():
        if name in SECTIONS:
            for inner, leaf in as_table(value, source.at((name,))).items():
                path, origin = f"{name}.{inner}", source.at((name, inner))
                if path not in FIELDS:
                    raise unknown(origin, path, FIELDS)
                if path in SECRETS:
                    raise _exposed(origin, path, "this file is often copied or kept")
                yield path, _Given(leaf, origin, text=False)
        elif name in FIELDS:
            yield name, _Given(value, source.at((name,)), text=False)
        elif name != "placements":
            raise unknown(source.at((name,)), name, [*FIELDS, *SECTIONS, "placements"])


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    path_by_variable = {variable(path): path for path in FIELDS}
    given = {}
    for name, value in sorted(environ.items()):
        if name in path_by_variable:
            path = path_by_variable[name]
            if value:
                given[path] = _Given(value, f"environment: {name}", text=True)
            elif path in NEVER_EMPTY:
                raise SettingsError(
                    f"environment: {name}: is empty, and user ids would be kept as they are; fill "
                    "it, or unset it if they shall be."
                )
        elif (
            name.startswith("FRESHET_")
            and name not in (CONFIG_VARIABLE, TESTS_VARIABLE)
            and not _SERVICE_LINK.fullmatch(name)
        ):
            raise unknown(f"environment: {name}", name, [*path_by_variable, CONFIG_VARIABLE])
    return given


def _from_flags(overrides: Mapping[str, str | None]) -> dict[str, _Given]:
    given = {}
    for path, value in overrides.items():
        flag = "--" + path.replace(".", "-").replace("_", "-")
        if path not in FIELDS:
            raise unknown(flag, path, FIELDS)
        if value is not None and path in SECRETS:
            raise _exposed(flag, path, "every user of this machine can see it there")
        if value is not None:
            given[path] = _Given(value, flag, text=True)
    return given


def _convert(setting: FieldInfo, given: _Given, *, exactly: bool, listed: bool) -> Any:
    value = given.value
    if isinstance(value, str) and not exactly:
        value = value.strip()
        if given.text and listed:
            value = [part.strip() for part in value.split(",")]
    try:
        return msgspec.convert(value, setting.type, strict=not given.text, dec_hook=from_text)
    except msgspec.ValidationError:
        raise SettingsError(
            f"{given.origin}: is {given.value!r}; must be {allowed(setting)}."
        ) from None


def _exposed(origin: str, path: str, why: str) -> SettingsError:
    return SettingsError(
        f"{origin}: a secret does not belong here, since {why}; set {variable(path)}, or name a "
        f"file that holds it with {path}{FILE_SUFFIX} ({variable(path + FILE_SUFFIX)})."
    )
