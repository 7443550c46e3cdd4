"""The gateway: whether one could start here, or how the one that runs is. Out: a finding.

Its rights on topics are looked at in `topics.py`.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import Any

from stream.cli.examining.endpoints import StrangerError, asked_readiness, reason
from stream.cli.examining.finding import Finding
from stream.config import Settings
from stream.errors import SettingsError
from stream.gateway.access import Tokens, check_open
from stream.gateway.view import partitions_named

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
        return _without(host, port, facts)
    facts["readyz"] = told
    if told["ready"] is True:
        return Finding("gateway", "ok", f"the one at {at} serves", facts=facts)
    return Finding("gateway", "note", f"the one at {at} waits: {reason(told)}", facts=facts)


def _without(host: str, port: int, facts: dict[str, Any]) -> Finding:
    """None runs; could one listen there?"""
    at = f"{host}:{port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            # As a server does: connections that just ended there are no obstacle.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            detail, cure = f"{at} is taken, and answers nothing", f"give {_ITS_PORT} a free port"
            return Finding("gateway", "fault", detail, cure, facts=facts)
        if error.errno == errno.EACCES:
            detail = f"this user may not listen on {at}"
            cure = f"give {_ITS_PORT} one above 1023"
            return Finding("gateway", "fault", detail, cure, facts=facts)
        # Fit for the machine that a gateway is meant for, which may be another one.
        detail = f"{at} is no address of this machine ({error.strerror or error})"
        return Finding("gateway", "note", detail, facts=facts)
    return Finding("gateway", "note", f"none answers at {at} on this machine", facts=facts)
