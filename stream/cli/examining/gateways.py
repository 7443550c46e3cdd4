"""The gateway: whether one could start here, or how the one that runs is. Out: a finding.

Its rights on topics are looked at in `topics.py`.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from stream.cli.examining.endpoints import (
    Place,
    StrangerError,
    asked_readiness,
    examine_place,
    reason,
)
from stream.cli.examining.finding import Finding
from stream.config import Settings
from stream.errors import SettingsError
from stream.gateway.access import Tokens, check_open
from stream.gateway.view import partitions_named

_ITS_HOST = "gateway.host (FRESHET_GATEWAY_HOST)"
_ITS_PORT = "gateway.port (FRESHET_GATEWAY_PORT)"


def examine_gateway(settings: Settings) -> Finding:
    """Its settings and tokens as it would take them, then the port: a gateway's, or free."""
    given = settings.gateway
    facts: dict[str, Any] = {"tokens_file": given.tokens_file}
    try:
        check_open(given)
        facts["partitions"] = len(partitions_named(given.partitions, settings.topics.partitions))
        Tokens(given.tokens_file)
    except SettingsError as error:
        return Finding("gateway", "fault", str(error), facts=facts)
    found = _at_its_port(given.host, given.port, facts)
    if found.status == "fault" or not _open_to_all(given.tokens_file):
        return found
    detail = f"{found.detail}; every user of this machine may read or change its tokens"
    cure = f"chmod 600 {given.tokens_file} (Kubernetes: defaultMode 0400)"
    return found._replace(status="note", detail=detail, cure=cure)


def _open_to_all(file: str | None) -> bool:
    return file is not None and bool(os.stat(file).st_mode & (stat.S_IROTH | stat.S_IWOTH))


def _at_its_port(host: str, port: int, facts: dict[str, Any]) -> Finding:
    if port == 0:
        return Finding("gateway", "ok", "one could start; its port is any free one", facts=facts)
    at = f"{host}:{port}"
    try:
        told = asked_readiness(host, port)
        if told is not None and "lists" not in told:  # a worker, on the port of a gateway
            raise StrangerError
    except StrangerError:
        detail = f"what answers at {at} is no gateway"
        return Finding("gateway", "fault", detail, f"give {_ITS_PORT} a free port", facts=facts)
    if told is None:
        return examine_place(Place("gateway", host, port, _ITS_HOST, _ITS_PORT), facts)
    facts["readyz"] = told
    if told["ready"] is True:
        return Finding("gateway", "ok", f"the one at {at} serves", facts=facts)
    return Finding("gateway", "note", f"the one at {at} waits: {reason(told)}", facts=facts)
