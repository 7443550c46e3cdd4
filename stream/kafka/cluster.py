"""The brokers and how to reach them. In: settings. Out: what every Kafka client is made with.

One value for aiokafka, kafka-python and Faust, so that no client is left without TLS or a login.
Opens no connection.
"""

from __future__ import annotations

import logging
import ssl
from functools import lru_cache
from typing import Any, Final, NamedTuple

from stream.config import Security, Settings
from stream.errors import SettingsError
from stream.secrets import read_file, warn_if_open
from stream.settings import variable

# They write whole requests at level debug: logins, and records with users' ids.
WIRE_LOGGERS: Final = (
    "aiokafka.conn",
    "aiokafka.producer.producer",
    "kafka.admin.client",
    "kafka.net.connection",
    "kafka.protocol.parser",
)


class Cluster(NamedTuple):
    """Brokers, and the rights to speak with them.

    Attributes
    ----------
    bootstrap : HOST:PORT,...
    """

    bootstrap: str
    security: Security = Security()

    @classmethod
    def of(cls, settings: Settings) -> Cluster:
        """The cluster that the settings name."""
        return cls(settings.bootstrap, settings.security)

    @property
    def servers(self) -> list[str]:
        """HOST:PORT of each bootstrap server."""
        return [server.strip() for server in self.bootstrap.split(",")]

    @property
    def tls(self) -> bool:
        return self.security.protocol in {"ssl", "sasl_ssl"}

    @property
    def login(self) -> bool:
        return self.security.protocol in {"sasl_plaintext", "sasl_ssl"}

    @property
    def plain(self) -> bool:
        """Neither TLS nor a login."""
        return not (self.tls or self.login)

    def options(self) -> dict[str, Any]:
        """What a client of aiokafka or of kafka-python is made with; the names are the same.

        Raises
        ------
        SettingsError : a certificate or key cannot be used
        """
        return {"bootstrap_servers": self.servers, **self.access()}

    def access(self) -> dict[str, Any]:
        """`options` without the addresses: what one connection is made with."""
        for name in WIRE_LOGGERS:
            logger = logging.getLogger(name)
            logger.setLevel(max(logger.level, logging.INFO))
        security = self.security
        found: dict[str, Any] = {"security_protocol": security.protocol.upper()}
        if self.tls:
            found["ssl_context"] = tls_context(security)
        if self.login:
            found["sasl_mechanism"] = security.mechanism
            found["sasl_plain_username"] = security.username
            found["sasl_plain_password"] = security.password and security.password.reveal()
        return found

    def faust_credentials(self) -> Any:
        """The same for Faust's own clients; None when there is nothing to show.

        Upstream: faust.auth, read by faust.transport.drivers.aiokafka.credentials_to_aiokafka_auth.
        """
        from faust import SASLCredentials, SSLCredentials

        access = self.access()
        context = access.get("ssl_context")
        if self.login:
            return SASLCredentials(
                username=access["sasl_plain_username"],
                password=access["sasl_plain_password"],
                mechanism=access["sasl_mechanism"],
                ssl_context=context,
            )
        return SSLCredentials(context) if self.tls else None


def named(path: str) -> str:
    """A setting of `[security]` by its two names, for messages."""
    return f"security.{path} ({variable(f'security.{path}')})"


@lru_cache(maxsize=8)
def tls_context(security: Security) -> ssl.SSLContext:
    """The TLS client that the settings describe: TLS 1.2 or later, brokers verified.

    Made by hand rather than by `ssl.create_default_context`: from Python 3.13 on that refuses
    authorities without extensions that home-made ones seldom have.

    Raises
    ------
    SettingsError : a file cannot be read or used
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = security.verify_hostname
    if security.ca_file is None:
        context.load_default_certs()
    else:
        where = named("ca_file")
        _require_pem(security.ca_file, where, b"CERTIFICATE")
        try:
            context.load_verify_locations(security.ca_file)
        except ssl.SSLError as error:
            raise _damaged(security.ca_file, where, error) from None
    if security.certificate_file is not None:
        _load_certificate(context, security, security.certificate_file)
    return context


def _load_certificate(context: ssl.SSLContext, security: Security, certificate: str) -> None:
    _require_pem(certificate, named("certificate_file"), b"CERTIFICATE")
    key, where = security.key_file or certificate, named("key_file")
    _require_pem(key, where, b"PRIVATE KEY")
    warn_if_open(key, where)
    # Never None: OpenSSL would ask for the password on the terminal.
    password = security.key_password.reveal() if security.key_password else ""
    try:
        context.load_cert_chain(certificate, security.key_file, password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(
                f"{where}: the key in {key} is not the one of the certificate {certificate}; name "
                f"those that belong together."
            ) from None
        if b"ENCRYPTED" in read_file(key, where):
            one = variable("security.key_password")
            raise SettingsError(
                f"{where}: the key in {key} is encrypted, and its password is missing or wrong; "
                f"set {one} or {named('key_password_file')}."
            ) from None
        raise _damaged(f"{certificate} or {key}", named("certificate_file"), error) from None


def _require_pem(path: str, where: str, what: bytes) -> None:
    if b"-----BEGIN" not in (data := read_file(path, where)) or what not in data:
        raise SettingsError(
            f"{where}: the file {path} holds no {what.decode()} in PEM form; name one that does "
            f"(openssl pkcs12 makes PEM files of a Java key store)."
        )


def _damaged(path: str, where: str, error: ssl.SSLError) -> SettingsError:
    return SettingsError(f"{where}: {path} cannot be used ({error.reason or error}).")
