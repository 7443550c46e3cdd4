"""Why brokers do not let us in. In: a cluster. Out: the reason, and the setting to look at.

The clients try again in silence when TLS or a login fails; so one connection is made here first, on
aiokafka's own, and each way to fail gets its words. Sends nothing but requests for versions, login
and metadata.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Coroutine
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from stream.kafka.cluster import Cluster, named

# OpenSSL's X509_V_ERR_*
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAME: Final = frozenset({62, 64})
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_OUR_CERTIFICATE: Final = ("BAD_CERTIFICATE", "CERTIFICATE_", "UNKNOWN_CA", "HANDSHAKE_FAILURE")


class RefusalError(Exception):
    """A broker is there and does not let us in; the message says why, and what to look at."""


def why_not_let_in(cluster: Cluster, timeout_s: float = 5.0) -> str | None:
    """Why no broker lets us in; None when one does, or when none is there at all.

    Of a cluster with TLS or logins, every broker is tried that the first one names.
    """
    found: list[str | None] = []
    cluster.access()  # raises here what would be lost in the thread
    # In a thread of its own: the caller may have an event loop running.
    thread = threading.Thread(
        target=lambda: found.append(asyncio.run(find_refusal(cluster, timeout_s))), daemon=True
    )
    thread.start()
    thread.join(3 * timeout_s)
    return found[0] if found else None


async def find_refusal(cluster: Cluster, timeout_s: float = 5.0) -> str | None:
    """As `why_not_let_in`, on the running loop."""
    refusal: str | None = None
    for server in cluster.servers:
        host, _, port = server.rpartition(":")
        try:
            brokers = await _enter(cluster, host.strip("[]"), int(port), timeout_s)
        except RefusalError as error:
            refusal = refusal or str(error)
        except (OSError, KafkaError, TimeoutError):
            continue  # not there
        else:
            return None if cluster.plain else await _try_all(cluster, brokers, timeout_s)
    return refusal


async def _try_all(
    cluster: Cluster, brokers: list[tuple[str, int]], timeout_s: float
) -> str | None:
    entries: list[Coroutine[Any, Any, Any]]
    entries = [_enter(cluster, host, port, timeout_s) for host, port in brokers]
    for answer in await asyncio.gather(*entries, return_exceptions=True):
        if isinstance(answer, RefusalError):
            return f"{answer} (The brokers themselves tell that address: advertised.listeners.)"
    return None


async def _enter(cluster: Cluster, host: str, port: int, timeout_s: float) -> list[tuple[str, int]]:
    """Connect, log in, ask for metadata; answers the brokers' addresses.

    Raises
    ------
    RefusalError : it is there and does not let us in
    OSError, TimeoutError : nobody is there
    """
    async with asyncio.timeout(timeout_s):
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        await writer.wait_closed()
    connection = AIOKafkaConnection(
        host, port, request_timeout_ms=int(timeout_s * 1000), **cluster.access()
    )
    try:
        await connection.connect()
        metadata = await connection.send(MetadataRequest([]))
    except TimeoutError:
        raise
    except (OSError, KafkaError, ValueError, AssertionError) as error:
        raise RefusalError(await _words(cluster, host, port, error, timeout_s)) from error
    finally:
        await _drop(connection)
    return [(broker[1], broker[2]) for broker in metadata.brokers]


async def _drop(connection: AIOKafkaConnection) -> None:
    """Close at once: a TLS connection would wait for the other side's goodbye.

    Upstream: aiokafka AIOKafkaConnection._protocol (0.14), whose transport `close` lets go of.
    """
    transport = getattr(connection._protocol, "_transport", None)
    connection.close()
    if transport is not None:
        transport.abort()
        await asyncio.sleep(0)  # the socket is closed by the loop's next step


async def _words(
    cluster: Cluster, host: str, port: int, error: BaseException, timeout_s: float
) -> str:
    """What went wrong on a connection to `host`, and which setting has the cure."""
    where = f"the broker at {host}:{port}"
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _of_its_certificate(where, host, cause)
    reason = getattr(cause, "reason", None) or ""
    if isinstance(cause, ssl.SSLError) and any(word in reason for word in _OUR_CERTIFICATE):
        return _of_our_certificate(cluster, where, reason)
    if isinstance(cause, ssl.SSLError) and "PROTOCOL" in reason:
        return f"{where} speaks no TLS of version 1.2 or later ({reason}): enable it there"
    if isinstance(error, KafkaError | ValueError | AssertionError) and (
        words := _of_the_login(cluster, where, error)
    ):
        return words
    return await _of_the_protocol(cluster, where, host, port, timeout_s)


def _of_the_login(cluster: Cluster, where: str, error: BaseException) -> str | None:
    if isinstance(error, UnsupportedSaslMechanismError):
        offered = str(error).partition("Enabled mechanisms are: ")[2]
        return (
            f"{where} takes no login of the kind {cluster.security.mechanism}"
            f"{f', only {offered}' if offered else ''}: look at {named('mechanism')}"
        )
    if isinstance(error, SaslAuthenticationFailed | ValueError | AssertionError):
        return (
            f"{where} refuses the login of {cluster.security.username!r} "
            f"({cluster.security.mechanism}): look at {named('username')}, "
            f"FRESHET_SECURITY_PASSWORD or {named('password_file')}, and {named('mechanism')}"
        )
    if isinstance(error, IllegalSaslStateError):
        return f"{where} takes no login: look at {named('protocol')}"
    return None


def _of_its_certificate(where: str, host: str, error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code in _OTHER_NAME:
        return (
            f"the certificate of {where} does not name {host}: name the broker in bootstrap "
            f"(FRESHET_BOOTSTRAP) as its certificate does, or, if you know that it is the right "
            f"one, set {named('verify_hostname')} to false"
        )
    if code in {_EXPIRED, _NOT_YET_VALID}:
        return (
            f"the certificate of {where}, or its authority's, is not valid now "
            f"({error.verify_message}): renew it on the broker, the authority's in "
            f"{named('ca_file')}, or set this machine's clock"
        )
    if code in _UNKNOWN_AUTHORITY:
        return (
            f"the certificate of {where} comes from an authority that is not trusted here: name "
            f"the file of that authority with {named('ca_file')}"
        )
    return (
        f"the certificate of {where} cannot be verified ({error.verify_message}): "
        f"look at {named('ca_file')}"
    )


def _of_our_certificate(cluster: Cluster, where: str, reason: str) -> str:
    if cluster.security.certificate_file is None:
        return (
            f"{where} wants a certificate of this client: set {named('certificate_file')} and "
            f"{named('key_file')}"
        )
    return (
        f"{where} refuses the certificate of this client ({reason}): look at "
        f"{named('certificate_file')} and {named('key_file')}; it must be valid now and come from "
        f"an authority that the broker trusts"
    )


async def _of_the_protocol(
    cluster: Cluster, where: str, host: str, port: int, timeout_s: float
) -> str:
    """A connection that is cut without a word: the two sides do not speak alike."""
    speaks_tls = await _speaks_tls(host, port, timeout_s)
    if cluster.tls and not speaks_tls:
        word = "sasl_plaintext" if cluster.login else "plaintext"
        return (
            f"{where} does not speak TLS: set {named('protocol')} to {word}, or name its TLS port "
            f"in bootstrap (FRESHET_BOOTSTRAP)"
        )
    if speaks_tls and not cluster.tls:
        return f"{where} speaks TLS: set {named('protocol')} to ssl, or to sasl_ssl with a login"
    if cluster.login:
        return f"{where} breaks the login off: look at {named('protocol')}"
    word = "sasl_ssl" if cluster.tls else "sasl_plaintext"
    return f"{where} wants a login, or is no Kafka broker: set {named('protocol')} to {word}"


async def _speaks_tls(host: str, port: int, timeout_s: float) -> bool:
    """Whether a TLS handshake goes through, whatever the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def shake() -> bool:
        try:
            with socket.create_connection((host, port), timeout_s) as bare:
                context.wrap_socket(bare, server_hostname=host).close()
        except (OSError, ValueError):
            return False
        return True

    return await asyncio.to_thread(shake)
