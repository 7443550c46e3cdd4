"""Who is let in, and how often. In: settings, a request's token and address. Out: yes or no.

Knows nothing of routes. Holds digests of tokens alone.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from stream.errors import SettingsError
from stream.listening import is_loopback
from stream.secrets import read_file, warn_if_open
from stream.settings.gateway import Gateway

log = logging.getLogger(__name__)

MIN_TOKEN_BYTES: Final = 16  # a shorter one could be guessed
_LOOK_EVERY_S: Final = 1.0
_MOST_CLIENTS: Final = 10_000  # the one that asked least recently gives way
_WHERE: Final = "gateway.tokens_file (FRESHET_GATEWAY_TOKENS_FILE)"


class Tokens:
    """The bearer tokens of a file, read again when it changes.

    A file that cannot be used any more, or holds no token, leaves the last ones in force, and the
    log says so: whoever writes it anew must not open the gateway, nor shut everybody out.

    Parameters
    ----------
    path : None: no token is needed
    clock : seconds, monotonic

    Raises
    ------
    SettingsError : the file cannot be read, holds no token, or one that is too short
    """

    def __init__(self, path: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._digests: list[bytes] = []
        self._seen: tuple[int, ...] | None = None
        self._look_at_s = 0.0
        if path is not None:
            self._digests = _read(path)
            warn_if_open(path, _WHERE)
            self._seen = _mark(path)
            self._look_at_s = clock() + _LOOK_EVERY_S

    @property
    def needed(self) -> bool:
        return self._path is not None

    def known(self, token: bytes) -> bool:
        """Whether the token is one of the file's; takes the same time whichever it is."""
        self._look()
        digest = hashlib.sha256(token).digest()
        # All of them, whether or not one was found already.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0

    def _look(self) -> None:
        now_s = self._clock()
        if self._path is None or now_s < self._look_at_s:
            return
        self._look_at_s = now_s + _LOOK_EVERY_S
        mark = _mark(self._path)
        if mark == self._seen:
            return
        self._seen = mark
        try:
            self._digests = _read(self._path)
            log.info("%d tokens read anew", len(self._digests))
        except SettingsError as error:
            log.warning("%s The tokens from before go on", error)


def _mark(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _read(path: str) -> list[bytes]:
    lines = [line.strip() for line in read_file(path, _WHERE).splitlines()]
    tokens = [(number, line) for number, line in enumerate(lines, 1) if line and line[:1] != b"#"]
    if not tokens:
        raise SettingsError(
            f"{_WHERE}: the file {path} holds no token; write one a line into it, such as "
            f"`openssl rand -hex 32` makes."
        )
    for number, token in tokens:
        if len(token) < MIN_TOKEN_BYTES:
            raise SettingsError(
                f"{_WHERE}: the token in line {number} of {path} is shorter than "
                f"{MIN_TOKEN_BYTES} bytes and could be guessed; make one with `openssl rand "
                f"-hex 32`."
            )
    return [hashlib.sha256(token).digest() for _, token in tokens]


def check_open(settings: Gateway) -> None:
    """Refuse to serve whoever comes without a token, but on this machine or where it is asked for.

    Raises
    ------
    SettingsError
    """
    if settings.tokens_file is None and not settings.open and not is_loopback(settings.host):
        raise SettingsError(
            f"gateway.host (FRESHET_GATEWAY_HOST): is {settings.host!r}, where other machines "
            f"reach it, and no token is asked for: name a file of tokens with {_WHERE}, or set "
            f"gateway.open (FRESHET_GATEWAY_OPEN) to true where something else keeps others away."
        )


class Buckets:
    """A bucket of requests for each client, which fills at `rate` a second up to `burst`.

    Parameters
    ----------
    rate : 0: no limit
    clock : seconds, monotonic
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._by_client: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def take(self, client: bytes) -> float:
        """Take one request; 0.0 when there was one, else the seconds until there will be."""
        if not self._rate:
            return 0.0
        now_s = self._clock()
        left, seen_s = self._by_client.pop(client, (self._burst, now_s))
        left = min(self._burst, left + (now_s - seen_s) * self._rate)
        wait_s = 0.0 if left >= 1 else (1 - left) / self._rate
        self._by_client[client] = (left - 1 if not wait_s else left, now_s)
        if len(self._by_client) > _MOST_CLIENTS:
            self._by_client.popitem(last=False)
        return wait_s
