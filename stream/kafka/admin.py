"""The administration client. In: broker addresses. Out: a client that spoke with one of them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from kafka import KafkaAdminClient
from kafka.errors import AuthorizationError, KafkaError

from stream.errors import BrokerError
from stream.kafka.cluster import Cluster
from stream.kafka.rights import denied


@contextlib.contextmanager
def open_admin(brokers: Cluster | str, timeout_s: float = 5.0) -> Iterator[KafkaAdminClient]:
    """Open an administration client that has spoken with the broker, and close it at the end.

    Parameters
    ----------
    brokers : HOST:PORT,... alone: plain connections
    timeout_s : for the first answer; later requests get 30 s

    Raises
    ------
    SettingsError
        A certificate, a key or an authority cannot be used.
    BrokerError
        Nobody answers, or not like a Kafka broker, or does not let us in; or a request in the body
        failed.
    """
    cluster = Cluster(brokers) if isinstance(brokers, str) else brokers
    bootstrap = cluster.bootstrap
    cluster.access()  # a file that cannot be used is told before anybody is looked for
    try:
        # First a bare connection: a client that is refused goes on trying until its time is over.
        require_listening(cluster.servers, timeout_s)
        if not cluster.plain:
            require_let_in(cluster, timeout_s)
        admin = KafkaAdminClient(
            **cluster.options(),
            bootstrap_timeout_ms=int(timeout_s * 1000),
            client_id="freshet",
        )
    except (KafkaError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, KafkaError):
            require_let_in(cluster, timeout_s)
        raise BrokerError(
            f"no Kafka broker answers at {bootstrap}: start one (`freshet broker` or `make kafka`) "
            "or name the right one with --bootstrap HOST:PORT or FRESHET_BOOTSTRAP"
        ) from error
    try:
        yield admin
    except AuthorizationError as error:
        raise denied(cluster, error) from error
    except KafkaError as error:
        raise BrokerError(
            f"the broker at {bootstrap} did not do what was asked ({error}): try again when it is "
            "well, or see its log"
        ) from error
    finally:
        admin.close()


def require_let_in(cluster: Cluster, timeout_s: float = 5.0) -> None:
    """Look whether the brokers let us in, those that are there.

    Raises
    ------
    BrokerError : why they do not, and which setting to look at
    """
    from stream.kafka.knock import why_not_let_in  # aiokafka takes its time to import

    refusal = why_not_let_in(cluster, timeout_s)
    if refusal is not None:
        raise BrokerError(refusal)


def require_listening(servers: list[str], timeout_s: float) -> None:
    """Connect to one of `servers` (HOST:PORT), whichever, and let go again.

    Raises
    ------
    OSError, ValueError, OverflowError : of the last one, when none takes a connection
    """
    refused: Exception = ValueError("no server is named")
    for server in servers:
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
        except (OSError, ValueError, OverflowError) as error:
            refused = error
        else:
            return
    raise refused
