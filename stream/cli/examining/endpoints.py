"""What listens on this machine, asked by HTTP. In: host and port as they are set. Out: its words.

Knows neither worker nor gateway.
"""

from __future__ import annotations

import http.client
import json
from typing import Any, Final

_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_ANSWER_WITHIN_S: Final = 5.0
_MAX_BYTES: Final = 65_536


class StrangerError(Exception):
    """What answers there says nothing of its readiness."""


def asked(host: str, port: int, path: str, max_bytes: int) -> bytes:
    """What `path` is answered with, as far as `max_bytes`.

    Raises
    ------
    OSError, http.client.HTTPException : nobody answers, or not in HTTP
    """
    connection = http.client.HTTPConnection(_ANYWHERE.get(host, host), port, _ANSWER_WITHIN_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(max_bytes)
    finally:
        connection.close()


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
    except (http.client.HTTPException, ValueError) as error:
        raise StrangerError from error
    if not isinstance(told, dict) or "ready" not in told:
        raise StrangerError
    return told


def reason(told: dict[str, Any]) -> str:
    """Why it is not ready."""
    return str(told.get("reason", "it starts"))
