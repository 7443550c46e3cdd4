"""What listens on this machine, asked by HTTP. In: host and port as they are set. Out: its words.

Where nobody answers, whether one could listen there. Knows neither worker nor gateway.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from stream.cli.examining.finding import Finding
from stream.listening import require_host

_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_ANSWER_WITHIN_S: Final = 5.0
_MAX_BYTES: Final = 65_536


class StrangerError(Exception):
    """What answers there says nothing of its readiness."""


class Place(NamedTuple):
    """Where somebody listens, or could.

    Attributes
    ----------
    check : whose findings these are
    host_setting, port_setting : what the two are set by
    """

    check: str
    host: str
    port: int
    host_setting: str
    port_setting: str

    @property
    def at(self) -> str:
        """Both in words."""
        return f"{self.host}:{self.port}"


def asked(host: str, port: int, path: str, max_bytes: int) -> bytes:
    """What `path` is answered with, as far as `max_bytes`.

    Raises
    ------
    OSError, http.client.HTTPException : nobody answers, not in time, or not in HTTP
    """
    require_host(host)
    connection = http.client.HTTPConnection(_ANYWHERE.get(host, host), port, _ANSWER_WITHIN_S)
    try:
        connection.connect()
        with _ended_in_time(connection.sock):
            connection.request("GET", path)
            return connection.getresponse().read(max_bytes)
    finally:
        connection.close()


@contextlib.contextmanager
def _ended_in_time(connected: socket.socket) -> Iterator[None]:
    """End a connection that takes too long altogether; its own limit begins anew at each byte.

    Raises
    ------
    TimeoutError
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(OSError):  # the other side was first
            connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_ANSWER_WITHIN_S, end)
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not late.is_set():
            raise
    finally:
        timer.cancel()
        timer.join()
    if late.is_set():
        raise TimeoutError


def asked_readiness(host: str, port: int) -> dict[str, Any] | None:
    """What `/readyz` is answered with, and `ready` in it; None: nobody answers.

    Raises
    ------
    StrangerError
    """
    try:
        told = json.loads(asked(host, port, "/readyz", _MAX_BYTES))
    except OSError:
        return None
    except (http.client.HTTPException, ValueError, RecursionError) as error:
        raise StrangerError from error
    if not isinstance(told, dict) or "ready" not in told:
        raise StrangerError
    return told


def reason(told: dict[str, Any]) -> str:
    """Why it is not ready."""
    return str(told.get("reason", "it starts"))


def examine_place(place: Place, facts: dict[str, Any]) -> Finding:
    """Nobody answers there; could one listen?"""
    free = f"give {place.port_setting} a free port"
    try:
        require_host(place.host)
    except OSError as error:
        detail = f"{place.host_setting} is {place.host!r}, and {error.strerror}"
        return Finding(place.check, "fault", detail, "set an address of this machine", facts=facts)
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        family, kind, _, _, address = found[0]
        with socket.socket(family, kind) as tried:
            # As a server does: connections that just ended there are no obstacle.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            detail = f"{place.at} is taken, and answers nothing"
            return Finding(place.check, "fault", detail, free, facts=facts)
        if error.errno == errno.EACCES:
            detail = f"this user may not listen on {place.at}"
            cure = f"give {place.port_setting} one above 1023"
            return Finding(place.check, "fault", detail, cure, facts=facts)
        # Fit for the machine that it is meant for, which may be another one.
        detail = f"{place.at} is no address of this machine ({error.strerror or error})"
        return Finding(place.check, "note", detail, facts=facts)
    detail = f"none answers at {place.at} on this machine"
    return Finding(place.check, "note", detail, facts=facts)
