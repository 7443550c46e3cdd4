"""Every setting: its name, default, limits and meaning, as types.

The README's table is made from these annotations. Where values come from is `config`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct, field, inspect
from msgspec.structs import FieldInfo

from stream.contracts.records import ItemKind

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
Text = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]


class _Section(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Topics(_Section, frozen=True):
    """Names, partitions and copies of the topics."""

    clicks: Annotated[TopicName, Meta(description="topic of views, clicks, carts, likes")] = (
        "clicks"
    )
    purchases: Annotated[TopicName, Meta(description="topic of purchases and cancellations")] = (
        "purchases"
    )
    items: Annotated[TopicName, Meta(description="topic of the catalogue")] = "items"
    requests: Annotated[TopicName, Meta(description="topic of requests for a list")] = "requests"
    erasures: Annotated[TopicName, Meta(description="topic of users to forget")] = "erasures"
    recommendations: Annotated[TopicName, Meta(description="topic of the lists")] = (
        "recommendations"
    )
    answers: Annotated[TopicName, Meta(description="topic of the answers to requests")] = "answers"
    dead_letters: Annotated[TopicName, Meta(description="topic of unusable records")] = (
        "dead-letters"
    )
    receipts: Annotated[TopicName, Meta(description="topic of erasures done")] = "receipts"
    partitions: Annotated[
        int, Meta(ge=1, le=10_000, description="partitions of every keyed topic")
    ] = 6
    replication: Annotated[int, Meta(ge=1, le=32, description="copies of every partition")] = 1


class State(_Section, frozen=True):
    """What is kept of each user."""

    ring: Annotated[int, Meta(ge=0, le=255, description="interactions remembered of each user")] = (
        50
    )


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
            description="longest time without progress, in recovery or while events wait, "
            "before the worker ends itself"
        ),
    ] = 60.0
    fence_refresh_s: Annotated[
        float,
        Meta(gt=0, le=43_200, description="an idle partition's fence is renewed this often"),
    ] = 3600.0


class Placement(_Section, frozen=True):
    """One list that users see."""

    k: Annotated[int, Meta(ge=1, le=1000, description="length of the list")] = 20
    kinds: Annotated[
        tuple[ItemKind, ...], Meta(min_length=1, description="kinds of item that may be listed")
    ] = ("product",)
    beta: Annotated[
        Annotated[float, Meta(gt=0, le=1000)] | None,
        Meta(description="steepness of the score; unset: the bundle's"),
    ] = None
    theta: Annotated[float, Meta(ge=0, lt=1, description="items that score less are left out")] = (
        0.0
    )
    exclude_seen: Annotated[
        bool | None, Meta(description="leave out items seen lately; unset: the bundle's")
    ] = None
    seen_window_s: Annotated[
        Seconds | None,
        Meta(description="how long an item counts as seen; unset: while in the ring"),
    ] = None
    exclude_bought: Annotated[bool, Meta(description="leave out items bought lately")] = True


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
    data: Annotated[Text | None, Meta(description="folder of the development data")] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least severe log line")
    ] = "info"
    topics: Topics = Topics()
    state: State = State()
    batch: Batch = Batch()
    broker: Broker = Broker()
    placements: dict[str, Placement] = field(default_factory=lambda: {"home": Placement()})


SECTIONS: Final[dict[str, type[Struct]]] = {
    "topics": Topics,
    "state": State,
    "batch": Batch,
    "broker": Broker,
}


def _leaves() -> Iterator[tuple[str, FieldInfo]]:
    """Path and field of every setting outside the placements."""
    for setting in msgspec.structs.fields(Settings):
        if setting.name in SECTIONS:
            for inner in msgspec.structs.fields(SECTIONS[setting.name]):
                yield f"{setting.name}.{inner.name}", inner
        elif setting.name != "placements":
            yield setting.name, setting


FIELDS: Final = dict(_leaves())
PLACEMENT_FIELDS: Final = {f.name: f for f in msgspec.structs.fields(Placement)}


def variable(path: str) -> str:
    """The environment's name for the setting at `path`."""
    return "FRESHET_" + path.replace(".", "_").upper()


CONFIG_VARIABLE: Final = "FRESHET_CONFIG"


class Described(NamedTuple):
    """A row of the README's table of settings."""

    path: str
    environment: str
    default: str
    meaning: str


def allowed(setting: FieldInfo) -> str:
    """What a setting may be, in words."""
    return _words(inspect.type_info(setting.type))


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            known = (kind.extra_json_schema or {}).get("title")
            words = str(known or _words(kind.type))
        case inspect.UnionType():
            words = " or ".join(
                _words(k) for k in kind.types if not isinstance(k, inspect.NoneType)
            )
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            low = f"above {kind.gt}" if kind.gt is not None else f"from {kind.ge}"
            high = f", under {kind.lt}" if kind.lt is not None else f" to {kind.le}"
            words = f"{noun} {low}{high}"
        case inspect.LiteralType():
            words = ", ".join(map(str, kind.values[:-1])) + f" or {kind.values[-1]}"
        case inspect.VarTupleType():
            words = f"a list of {_words(kind.item_type)}"
        case inspect.BoolType():
            words = "true or false"
        case _:
            words = "a text that is not empty"
    return words


def describe_settings() -> list[Described]:
    """Every setting, for the README's table and the test that compares the two."""
    rows = [Described("", CONFIG_VARIABLE, "", "this TOML file")]
    rows += [
        Described(path, variable(path), _shown(setting.default), _meaning(setting))
        for path, setting in FIELDS.items()
    ]
    rows += [
        Described(f"placements.<name>.{name}", "", _shown(setting.default), _meaning(setting))
        for name, setting in PLACEMENT_FIELDS.items()
    ]
    return rows


def _meaning(setting: FieldInfo) -> str:
    kind = inspect.type_info(setting.type)
    schema = (kind.extra_json_schema if isinstance(kind, inspect.Metadata) else None) or {}
    return str(schema["description"])


def _shown(default: Any) -> str:
    """A default as TOML, without the quotes of a text; empty for none."""
    if default is None:
        return ""
    return default if isinstance(default, str) else msgspec.json.encode(default).decode()
