"""All settings together, the tables that have no file of their own, and every setting by its path.

Knows no value that somebody set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import FieldInfo

from stream.placements import Placement
from stream.secrets import Secret
from stream.sections import Seconds, Text
from stream.sections import Section as _Section
from stream.settings.gateway import Gateway
from stream.settings.lists import Lists
from stream.settings.quality import Quality
from stream.settings.statistics import Statistics
from stream.settings.weights import Weights
from stream.words.settings import Wording

_PORT = r"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST_PORT = rf"(?:\[[^\]\s]+\]|[^\s,:\[\]]+):{_PORT}"

TopicName = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$", title="1 to 249 letters, digits, dots, _ or -"),
]
Bootstrap = Annotated[
    str,
    Meta(
        pattern=rf"^{_HOST_PORT}(?:,{_HOST_PORT})*$",
        title="HOST:PORT (1 to 65535), or several with commas between",
    ),
]


class Topics(_Section, frozen=True):
    """Names, partitions and copies of the topics."""

    clicks: Annotated[TopicName, Meta(description="topic of views, clicks, carts, likes")] = (
        "clicks"
    )
    purchases: Annotated[TopicName, Meta(description="topic of purchases and cancellations")] = (
        "purchases"
    )
    items: Annotated[TopicName, Meta(description="topic of the catalogue")] = "items"
    requests: Annotated[TopicName, Meta(description="topic of what users and services ask")] = (
        "requests"
    )
    erasures: Annotated[TopicName, Meta(description="topic of users to forget")] = "erasures"
    recommendations: Annotated[TopicName, Meta(description="topic of the lists")] = (
        "recommendations"
    )
    answers: Annotated[TopicName, Meta(description="topic of the answers to requests")] = "answers"
    dead_letters: Annotated[TopicName, Meta(description="topic of unusable records")] = (
        "dead-letters"
    )
    receipts: Annotated[TopicName, Meta(description="topic of erasures done")] = "receipts"
    trending: Annotated[
        TopicName, Meta(description="topic of what trends in a kind or category")
    ] = "trending"
    partitions: Annotated[
        int, Meta(ge=1, le=10_000, description="partitions of every keyed topic")
    ] = 6
    replication: Annotated[int, Meta(ge=1, le=32, description="copies of every partition")] = 1


class State(_Section, frozen=True):
    """What is kept of each user."""

    ring: Annotated[int, Meta(ge=0, le=255, description="interactions remembered of each user")] = (
        50
    )
    impressions: Annotated[
        int,
        Meta(
            ge=0,
            le=255,
            description="newest impressions of items with a `bid` remembered of each user, 16 "
            "bytes each; what `frequency` of placements counts",
        ),
    ] = 0
    expire_after_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3_153_600_000,
            description="a user without an event for so long, by event time, leaves; 0: never",
        ),
    ] = 31_536_000
    max_users: Annotated[
        int,
        Meta(
            ge=0,
            le=2**40,
            description="most users kept, an equal share of them in each partition; the least "
            "recently active leave; 0: no limit",
        ),
    ] = 0


class Privacy(_Section, frozen=True):
    """What is kept in the place of user ids."""

    secret: Annotated[
        Secret | None,
        Meta(
            description="32 random bytes or more that key the hash standing for a user id in "
            "states, changelog and logs; unset: ids are kept as they are"
        ),
    ] = None
    secret_file: Annotated[Text | None, Meta(description="file that holds that secret")] = None
    overwrite_memory: Annotated[
        bool,
        Meta(description="a worker overwrites memory that it frees, which costs throughput"),
    ] = False


class Batch(_Section, frozen=True):
    """Micro-batches."""

    max_events: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="most events in one micro-batch, which is all that one step takes",
        ),
    ] = 2048
    max_requests: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="most requests of a partition in one micro-batch; lists of events wait "
            "until they are answered",
        ),
    ] = 64
    in_flight: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="partition batches of a worker sent and not yet acknowledged; as many wait",
        ),
    ] = 8


class Broker(_Section, frozen=True):
    """How the worker lives with the broker."""

    session_timeout_s: Annotated[
        Seconds, Meta(description="silence after which the group takes the partitions away")
    ] = 10.0
    heartbeat_s: Annotated[
        Seconds, Meta(description="time between heartbeats; under the session timeout")
    ] = 3.0
    commit_every_s: Annotated[
        Seconds, Meta(description="time between commits of the source offsets")
    ] = 1.0
    recovery_timeout_s: Annotated[
        Seconds,
        Meta(
            description="longest time without progress before the worker ends itself: in recovery, "
            "in a rebalance, while events wait, with its event loop blocked"
        ),
    ] = 60.0
    fence_refresh_s: Annotated[
        float,
        Meta(gt=0, le=43_200, description="an idle partition's fence is renewed this often"),
    ] = 3600.0


class Security(_Section, frozen=True):
    """How every client reaches the brokers, and as whom."""

    protocol: Annotated[
        Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"],
        Meta(description="how brokers are reached; sasl_ssl: a login over TLS"),
    ] = "plaintext"
    ca_file: Annotated[
        Text | None,
        Meta(
            description="PEM file of the authorities that brokers are trusted by; unset: system's"
        ),
    ] = None
    certificate_file: Annotated[
        Text | None, Meta(description="PEM file of the client's certificate, for mutual TLS")
    ] = None
    key_file: Annotated[
        Text | None,
        Meta(description="PEM file of its private key; unset: in the certificate's file"),
    ] = None
    key_password: Annotated[
        Secret | None, Meta(description="what an encrypted private key is opened with")
    ] = None
    key_password_file: Annotated[
        Text | None, Meta(description="file that holds the key's password")
    ] = None
    verify_hostname: Annotated[
        bool, Meta(description="a broker's certificate must name the host that was asked for")
    ] = True
    mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Meta(description="kind of login")
    ] = "SCRAM-SHA-512"
    username: Annotated[Text | None, Meta(description="name to log in with")] = None
    password: Annotated[Secret | None, Meta(description="password of that name")] = None
    password_file: Annotated[Text | None, Meta(description="file that holds the password")] = None


class Settings(_Section, frozen=True):
    """Everything that can be set."""

    bootstrap: Annotated[Bootstrap, Meta(description="brokers, HOST:PORT,...")] = "127.0.0.1:9092"
    group: Annotated[Text, Meta(description="consumer group, and prefix of the changelog")] = (
        "freshet"
    )
    bundle: Annotated[Text | None, Meta(description="folder of the model bundle")] = None
    provider: Annotated[
        Literal["auto", "cpu", "cuda"],
        Meta(description="where the model runs; auto: cuda when it works"),
    ] = "auto"
    metrics_host: Annotated[Text, Meta(description="address of /metrics, /healthz, /readyz")] = (
        "127.0.0.1"
    )
    metrics_port: Annotated[
        int, Meta(ge=0, le=65535, description="port of /metrics; 0: any free one")
    ] = 9464
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least severe log line")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"],
        Meta(description="how a worker's log is written; json: one object a line"),
    ] = "text"
    topics: Topics = Topics()
    state: State = State()
    statistics: Statistics = Statistics()
    quality: Quality = Quality()
    lists: Lists = Lists()
    batch: Batch = Batch()
    broker: Broker = Broker()
    security: Security = Security()
    privacy: Privacy = Privacy()
    words: Wording = Wording()
    weights: Weights = Weights()
    gateway: Gateway = Gateway()
    placements: dict[str, Placement] = field(default_factory=lambda: {"home": Placement()})


SECTIONS: Final[dict[str, type[Struct]]] = {
    setting.name: setting.type
    for setting in msgspec.structs.fields(Settings)
    if isinstance(setting.type, type) and issubclass(setting.type, Struct)
}


def _leaves() -> Iterator[tuple[str, FieldInfo]]:
    """Path and field of every setting outside the placements."""
    for setting in msgspec.structs.fields(Settings):
        if setting.name in SECTIONS:
            for inner in msgspec.structs.fields(SECTIONS[setting.name]):
                yield f"{setting.name}.{inner.name}", inner
        elif setting.name != "placements":
            yield setting.name, setting


def _types(of: Any) -> Iterator[Any]:
    """What a type is made of, however deep inside."""
    yield get_origin(of) or of
    for inner in get_args(of):
        yield from _types(inner)


FIELDS: Final = dict(_leaves())
SECRETS: Final = frozenset(path for path, of in FIELDS.items() if Secret in _types(of.type))
# Written with commas in the environment and in flags.
LISTS: Final = frozenset(path for path, of in FIELDS.items() if tuple in _types(of.type))


def variable(path: str) -> str:
    """The environment's name for the setting at `path`."""
    return "FRESHET_" + path.replace(".", "_").upper()


# Unset, they leave ids as they are: what was to fill such a variable must not fail in silence.
NEVER_EMPTY: Final = frozenset({"privacy.secret", "privacy.secret_file"})

CONFIG_VARIABLE: Final = "FRESHET_CONFIG"
# Named like a setting and none: where this repository's tests look for public logs.
TESTS_VARIABLE: Final = "FRESHET_DATA"
