"""What no setting can say by itself. In: settings. Out: an error where two of them disagree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from stream.errors import SettingsError
from stream.settings import SECRETS, Privacy, Security, Settings, variable

# Whoever can read the changelog can try secrets against it, as fast as BLAKE2b runs.
MIN_SECRET_BYTES: Final = 32


def check_together(settings: Settings, origins: Mapping[str, str]) -> None:
    """Compare the settings with each other.

    Parameters
    ----------
    origins : where a setting was given, by TOML path; absent: it has its default

    Raises
    ------
    SettingsError
    """

    def origin(path: str) -> str:
        return origins.get(path, f"{path} (default)")

    broker = settings.broker
    if broker.heartbeat_s >= broker.session_timeout_s:
        raise SettingsError(
            f"{origin('broker.heartbeat_s')}: is {broker.heartbeat_s}; must be under "
            f"broker.session_timeout_s ({broker.session_timeout_s}), best a third of it."
        )
    statistics = settings.statistics
    if statistics.recent_half_life_s >= statistics.half_life_s:
        raise SettingsError(
            f"{origin('statistics.recent_half_life_s')}: is {statistics.recent_half_life_s:g}; "
            f"must be under statistics.half_life_s ({statistics.half_life_s:g}), since what is "
            "recent is told apart from what is usual."
        )
    path_by_name: dict[str, str] = {}
    for field, name in msgspec.structs.asdict(settings.topics).items():
        if field in {"partitions", "replication"}:
            continue
        path = f"topics.{field}"
        if path_by_name.setdefault(name, path) != path:
            raise SettingsError(
                f"{origin(path)}: is {name!r}, and so is {origin(path_by_name[name])}; "
                "every topic needs a name of its own."
            )
    _check_frequencies(settings)
    _check_security(settings.security, origins)
    _check_privacy(settings.privacy, origins)


def _check_frequencies(settings: Settings) -> None:
    """As many impressions are remembered as are to be counted."""
    kept = settings.state.impressions
    for name, placement in settings.placements.items():
        variants = placement.variants.items()
        wanted = {f"{name}.variants.{other}": of.placement for other, of in variants}
        for path, of in {name: placement, **wanted}.items():
            most = of.frequency.most
            if most is not None and most > kept:
                raise SettingsError(
                    f"placements.{path}.frequency.most: is {most}, yet {kept} impressions are "
                    f"remembered of a user; set {_named('state.impressions')} to several times as "
                    "many as the items that a user is shown with a bid."
                )


def _check_security(security: Security, origins: Mapping[str, str]) -> None:
    """What is given would be used, and what is needed is there."""
    protocol = security.protocol
    uses = {
        "security.ca_file": "ssl",
        "security.certificate_file": "ssl",
        "security.key_file": "ssl",
        "security.key_password": "ssl",
        "security.username": "sasl",
        "security.password": "sasl",
        "security.password_file": "sasl",
    }
    for path, word in uses.items():
        if path in origins and word not in protocol:
            better = "sasl_ssl" if word == "sasl" or "sasl" in protocol else "ssl"
            raise SettingsError(
                f"{origins[path]}: is set, yet {_named('security.protocol')} is {protocol}, which "
                f"has no use for it; set that to {better}."
            )
    for name in ("username", "password"):
        if "sasl" in protocol and getattr(security, name) is None:
            file = f", or {_named('security.password_file')}" if name == "password" else ""
            wanted = _named(f"security.{name}")
            raise SettingsError(
                f"security.protocol is {protocol}, which needs a login: set {wanted}{file}."
            )
    for name in ("key_file", "key_password"):
        if getattr(security, name) is not None and security.certificate_file is None:
            raise SettingsError(
                f"security.{name} is set without a certificate: set "
                f"{_named('security.certificate_file')} as well."
            )


def _check_privacy(privacy: Privacy, origins: Mapping[str, str]) -> None:
    """A secret that can be guessed hides nothing."""
    if privacy.secret is not None and len(privacy.secret.reveal_bytes()) < MIN_SECRET_BYTES:
        path = "privacy.secret" if "privacy.secret" in origins else "privacy.secret_file"
        raise SettingsError(
            f"{origins.get(path, path)}: the secret is shorter than {MIN_SECRET_BYTES} bytes, and "
            "could be guessed by whoever reads the changelog; make one with `openssl rand -hex 32`."
        )


def _named(path: str) -> str:
    """A setting by the two names that a user knows it by; a secret has no place in the file."""
    return variable(path) if path in SECRETS else f"{path} ({variable(path)})"
