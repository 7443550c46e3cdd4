"""Apache Kafka that lets nobody in without a right: TLS, logins, ACLs. For tests.

One broker with a listener for each way in. Its authority is made anew for every run; the standard
authorizer allows only what ACLs allow, and the broker's own name is the one super user.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
)
from kafka.errors import NoError

from stream.config import Security
from stream.kafka.admin import open_admin
from stream.kafka.broker import HOST, free_port
from stream.kafka.cluster import Cluster
from tests.support.authority import Authority
from tests.support.kafka import ROOT, ApacheKafka

PAGE = ROOT / "deploy" / "SECURE.md"
BROKER = "broker"
# Listener -> its security protocol. MUTUAL is the brokers' own, too.
LISTENERS = {
    "MUTUAL": "SSL",  # asks for the client's certificate
    "TLS": "SSL",
    "LOGIN": "SASL_SSL",  # every mechanism
    "OPEN": "SASL_PLAINTEXT",  # SCRAM-SHA-512 alone
    "ELSEWHERE": "SSL",  # its certificate names another host
    "EXPIRED": "SSL",
    "ASTRAY": "SSL",  # sends clients on to a name that its certificate lacks
}
_JAAS = "org.apache.kafka.common.security"


class SecuredKafka(ApacheKafka):
    """One broker, several listeners; `start` as any broker.

    Parameters
    ----------
    folder : for the data and the certificates
    users : name -> password, alike for PLAIN and both kinds of SCRAM
    """

    def __init__(self, folder: Path, users: dict[str, str]) -> None:
        super().__init__(folder / "kafka", short_lived=True)
        self.users = users
        self.authority = Authority(folder)
        self.ports = {name: free_port() for name in LISTENERS}
        self.port = self.ports["MUTUAL"]
        self._stores = {
            "MUTUAL": self._store(BROKER, HOST),
            "ELSEWHERE": self._store("elsewhere", "kafka.invalid"),
            "EXPIRED": self._store("expired", HOST, days=-1),
        }

    def _store(self, name: str, *hosts: str, days: int = 1) -> Path:
        certificate_file, key_file = self.authority.issue(name, *hosts, days=days)
        store = certificate_file.with_suffix(".store")
        store.write_bytes(key_file.read_bytes() + certificate_file.read_bytes())
        return store

    def address(self, listener: str) -> str:
        return f"{HOST}:{self.ports[listener]}"

    @property
    def cluster(self) -> Cluster:
        """With all rights, as the broker itself."""
        folder = self.authority.folder
        security = Security(
            protocol="ssl",
            ca_file=str(self.authority.ca_file),
            certificate_file=str(folder / f"{BROKER}.pem"),
            key_file=str(folder / f"{BROKER}.key"),
        )
        return Cluster(self.address("MUTUAL"), security)

    def allow(self, acls: Iterable[ACL]) -> None:
        """Give rights."""
        with open_admin(self.cluster) as admin:
            answer = admin.create_acls(list(acls))
            assert not answer["failed"], answer

    def forbid(self, acls: Iterable[ACL]) -> None:
        """Take rights away again."""
        with open_admin(self.cluster) as admin:
            for acl, gone, error in admin.delete_acls(list(acls)):
                assert error is NoError, (acl, error)
                assert gone, acl

    def _configuration(self) -> str:
        plain = super()._configuration()
        listeners = [f"{name}://{self.address(name)}" for name in LISTENERS]
        protocols = [f"{name}:{protocol}" for name, protocol in LISTENERS.items()]
        mine = {
            "listeners": ",".join([*listeners, f"CONTROLLER://{HOST}:{self.controller_port}"]),
            "advertised.listeners": ",".join(listeners).replace(
                f"ASTRAY://{HOST}", "ASTRAY://localhost"
            ),
            "listener.security.protocol.map": ",".join([*protocols, "CONTROLLER:SSL"]),
            "inter.broker.listener.name": "MUTUAL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._stores["MUTUAL"]),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.ca_file),
            "ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
            "listener.name.controller.ssl.client.auth": "required",
            "listener.name.mutual.ssl.client.auth": "required",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": f"User:{BROKER}",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.open.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        }
        for name in ("ELSEWHERE", "EXPIRED"):
            mine[f"listener.name.{name.lower()}.ssl.keystore.location"] = str(self._stores[name])
        users = " ".join(f'user_{name}="{word}"' for name, word in self.users.items())
        for name in ("login", "open"):
            mine[f"listener.name.{name}.plain.sasl.jaas.config"] = (
                f"{_JAAS}.plain.PlainLoginModule required {users};"
            )
            for kind in ("256", "512"):
                mine[f"listener.name.{name}.scram-sha-{kind}.sasl.jaas.config"] = (
                    f"{_JAAS}.scram.ScramLoginModule required;"
                )
        kept = [line for line in plain.splitlines() if line.partition("=")[0] not in mine]
        return "\n".join([*kept, *(f"{key}={value}" for key, value in mine.items())]) + "\n"

    def _shape(self) -> str:
        return super()._configuration() + repr(self._format_options())

    def _format_options(self) -> list[str]:
        return [
            word
            for name, password in self.users.items()
            for kind in ("256", "512")
            for word in ("--add-scram", f"SCRAM-SHA-{kind}=[name={name},password={password}]")
        ]


def page_acls() -> list[ACL]:
    """The ACLs of the page on securing, as its `acl` lines give them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("principal")
    parser.add_argument("--operation", action="append", required=True)
    parser.add_argument("--topic", action="append", default=[])
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("--cluster", action="store_true")
    acls = []
    for line in re.findall(r"^ *acl (User:.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        given = parser.parse_args(shlex.split(line))
        resources = [(ResourceType.TOPIC, name) for name in given.topic]
        resources += [(ResourceType.GROUP, name) for name in given.group]
        resources += [(ResourceType.CLUSTER, "kafka-cluster")] if given.cluster else []
        acls += [
            make_acl(given.principal, operation, *resource)
            for resource in resources
            for operation in given.operation
        ]
    return acls


def make_acl(principal: str, operation: str, kind: ResourceType, name: str) -> ACL:
    """One right; the operation as kafka-acls calls it, such as DescribeConfigs."""
    constant = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()
    allow, pattern = ACLPermissionType.ALLOW, ResourcePattern(kind, name)
    return ACL(principal, "*", ACLOperation[constant], allow, pattern)
