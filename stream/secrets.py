"""Secret settings: kept out of every output, taken from the environment or from a file.

In: a variable's text, or the path of a file. Out: a `Secret`. A setting `x` of this type has a
setting `x_file` beside it, which names a file; neither the TOML file nor a flag may hold the secret
itself. Knows no setting by name.
"""

from __future__ import annotations

import hmac
import logging
import os
import stat
from pathlib import Path
from typing import Any, Final, NoReturn

from stream.errors import SettingsError

FILE_SUFFIX: Final = "_file"
MAX_BYTES: Final = 65_536

log = logging.getLogger(__name__)


class Secret:
    """A text that no output shows: `repr` and `str` are stars, encoding and pickling it fail."""

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self.__text

    def reveal_bytes(self) -> bytes:
        """The same as bytes; an environment variable may hold any."""
        return self.__text.encode(errors="surrogateescape")

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.reveal_bytes(), other.reveal_bytes())

    def __hash__(self) -> int:
        return hash((Secret, self.__text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not written anywhere")


def read_secret(path: str, origin: str) -> Secret:
    """The secret that a file holds, without the line break at its end.

    Parameters
    ----------
    origin : where the path was given, for messages

    Raises
    ------
    SettingsError : the file cannot be read, is empty, or holds no text
    """
    data = read_file(path, origin)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SettingsError(f"{origin}: the file {path} is empty; write the secret into it.")
    if "\0" in text:
        raise SettingsError(
            f"{origin}: the file {path} is not UTF-8 text; write the secret as such."
        )
    warn_if_open(path, origin)
    return Secret(text)


def read_file(path: str, origin: str) -> bytes:
    """What a small file holds.

    Raises
    ------
    SettingsError
        it cannot be read, is a pipe or a device, which may never end, or is far too large for what
        it should hold
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SettingsError(
                f"{origin}: {path} is no regular file but a folder, a pipe or a device; "
                "name one that is."
            )
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"{origin}: the file {path} cannot be read ({why}); name one that can be."
        ) from None
    if len(data) > MAX_BYTES:
        raise SettingsError(f"{origin}: the file {path} is larger than {MAX_BYTES} bytes.")
    return data


def warn_if_open(path: str, origin: str) -> None:
    """Warn when every user of this machine may read a secret file, or change it.

    Only a warning: Kubernetes mounts secrets so unless `defaultMode` says otherwise, in a container
    of one user.
    """
    mode = os.stat(path).st_mode
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        log.warning(
            "%s: every user of this machine may read or change the file %s (mode %04o): "
            "chmod 600 it (Kubernetes: defaultMode 0400)",
            origin,
            path,
            stat.S_IMODE(mode),
        )


def from_text(kind: type, value: Any) -> Secret:
    """msgspec's hook for settings of type Secret."""
    if kind is Secret and isinstance(value, str | Secret):
        return value if isinstance(value, Secret) else Secret(value)
    raise NotImplementedError(f"no setting is of type {kind}")
