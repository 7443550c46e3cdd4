"""The AsyncAPI 3 document of all topics, made from the code: `python -m tests.support.asyncapi`.

In: the records of `stream.contracts` (types, limits, docstrings), the topics as settings and specs
have them, the rights of a worker. Out: deploy/asyncapi.yaml, which tests/unit/test_asyncapi.py
holds. A record is found by its docstring ("A record of `clicks`. Key: user_id; a null ..."), so
that one that is added or changed needs nothing here.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml
from msgspec import Struct

from stream import contracts
from stream.contracts import REASONS, Unreadable, codec, dead_letter_headers
from stream.contracts.describing import attributes_of, described, structs_of, summary_of
from stream.kafka.letters import Letter, shorter
from stream.kafka.rights import serving
from stream.kafka.specs import changelog_topic, policies_of, wanted_topics
from stream.settings import Settings, Topics
from tests.support.examples import examples

ROOT = Path(__file__).parents[2]
PATH = ROOT / "deploy" / "asyncapi.yaml"
SCHEMAS: Final = "#/components/schemas/{name}"
MESSAGES: Final = "#/components/messages/"
KAFKA: Final = "0.5.0"  # version of the bindings
BYTES: Final = "application/octet-stream"

# As they come, where the decoder takes more than the record that it makes of it.
_AS_IT_COMES: Final[dict[type[Struct], type[Struct]]] = {contracts.Item: codec._ItemRecord}

Document = dict[str, Any]


class Told(NamedTuple):
    """What the docstring of a record says.

    Attributes
    ----------
    topic : field of `Topics`; None: no record of its own
    key : the field that is the record's key
    null : what a null value means; None: there is none
    attributes : field -> what it is
    """

    text: str
    topic: str | None
    key: str | None
    null: str | None
    attributes: Mapping[str, str]


def told(record: type[Struct]) -> Told:
    text = summary_of(record)
    topic = re.match(r"A record of `([\w-]+)`", text)
    key = re.search(r"\bKey: `?(\w+)`?(?:; ([^.]*\bnull\b[^.]*))?\.", text)
    return Told(
        text,
        topic[1].replace("-", "_") if topic else None,
        key[1] if key else None,
        key[2] if key else None,
        attributes_of(record),
    )


def records() -> dict[str, type[Struct]]:
    """Topic (field of `Topics`) -> its record."""
    structs = [
        value
        for value in vars(contracts).values()
        if isinstance(value, type) and issubclass(value, Struct)
    ]
    found = {topic: record for record in structs if (topic := told(record).topic)}
    return {name: found[name] for name in topic_names() if name in found}


def topic_names() -> dict[str, str]:
    """Field of `Topics` -> the topic's name by default."""
    names = msgspec.structs.asdict(Topics())
    return {field: name for field, name in names.items() if isinstance(name, str)}


def document() -> Document:
    """The whole document; its parts in the order of the standard's own examples."""
    settings = Settings()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Freshet",
            "version": project["version"],
            "description": (
                f"{project['description']} Values are JSON in UTF-8, unknown fields pass. Records "
                "go to the partition that murmur2 of their key says, as the Java client's does by "
                "default; stream/README.md has producers in Java, Node and Python. The addresses "
                "of the channels are the topics' names by default; they are settings."
            ),
            "license": {"name": project["license"]},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": settings.bootstrap,
                "protocol": "kafka",
                "description": "FRESHET_BOOTSTRAP; TLS, logins and ACLs: deploy/SECURE.md",
            }
        },
        "channels": _channels(settings),
        "operations": _operations(settings),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _channels(settings: Settings) -> Document:
    specs = {spec.name: spec for spec in wanted_topics(settings)}
    meanings = {
        field.name: str(_metadata(field.type).get("description", ""))
        for field in msgspec.structs.fields(Topics)
    }
    addresses = topic_names()
    for own in sorted(specs.keys() - set(addresses.values())):
        name = own.removeprefix(f"{settings.group}-").replace("-", "_")
        name = "changelog" if own == changelog_topic(settings) else name
        addresses[name], meanings[name] = own, f"Freshet's own {name}: for workers alone"
    return {
        name: {
            "address": address,
            "summary": meanings[name].removeprefix("topic of "),
            "messages": {message: {"$ref": MESSAGES + message} for message in _names(name)},
            "bindings": {
                "kafka": {
                    "partitions": settings.topics.partitions,
                    "replicas": settings.topics.replication,
                    "topicConfiguration": {
                        key: sorted(policies_of(value))
                        if key == "cleanup.policy"
                        else _plain(value)
                        for key, value in specs[address].config.items()
                    },
                    "bindingVersion": KAFKA,
                }
            },
        }
        for name, address in addresses.items()
    }


def _metadata(kind: Any) -> Mapping[str, Any]:
    """What `Meta` says of an annotated type."""
    found = msgspec.inspect.type_info(kind)
    schema = found.extra_json_schema if isinstance(found, msgspec.inspect.Metadata) else None
    return schema or {}


def _plain(value: str) -> int | float | str:
    """A topic's setting as what it is: most are numbers."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value)
    return value


def _names(topic: str) -> list[str]:
    """Messages of a topic: the record, and the null that takes one back."""
    if topic == "dead_letters":
        return ["DeadLetter"]
    record = records().get(topic)
    if record is None:
        return []
    return [record.__name__, *([f"{record.__name__}Null"] if told(record).null else [])]


def _operations(settings: Settings) -> Document:
    """What a worker reads and writes, by the rights that it needs."""
    rights = serving(settings)
    made: Document = {}
    for topic, address in topic_names().items():
        names = _names(topic)
        # Workers tell each other what trends: that topic's records are their own.
        both = {"Read", "Write"} <= rights[address] and topic != "trending"
        for right, action in (("Read", "receive"), ("Write", "send")):
            if right in rights[address]:
                # Where it answers on the topic that it reads, with a null.
                said = (names[:1] if action == "receive" else names[1:]) if both else names
                made[f"{action}_{topic}"] = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{topic}"},
                    "messages": [{"$ref": f"#/channels/{topic}/messages/{name}"} for name in said],
                }
    _add_replies(made)
    return made


def _add_replies(operations: Document) -> None:
    """What is received with a request_id is answered where one with it is sent."""
    correlated = {topic: record for topic, record in records().items() if _correlated(record)}
    asked = [topic for topic in correlated if f"receive_{topic}" in operations]
    answered = [topic for topic in correlated if f"send_{topic}" in operations]
    for question, answer in zip(asked, answered, strict=True):
        operations[f"receive_{question}"]["reply"] = {
            "channel": {"$ref": f"#/channels/{answer}"},
            "messages": operations[f"send_{answer}"]["messages"],
        }


def _correlated(record: type[Struct]) -> bool:
    return "request_id" in record.__struct_fields__


def _messages() -> Document:
    messages: Document = {}
    for record in records().values():
        said = told(record)
        name = record.__name__
        bindings = {"bindings": _key({"type": "string", "description": f"{said.key} as text"})}
        messages[name] = {
            "summary": said.text,
            "payload": {"$ref": SCHEMAS.format(name=name)},
            **bindings,
            "examples": examples(record),
        }
        if _correlated(record):
            messages[name]["correlationId"] = {"location": "$message.payload#/request_id"}
        if said.null:
            messages[f"{name}Null"] = {
                "summary": said.null,
                "payload": {"type": "null"},
                **bindings,
                "examples": [{"name": "null", "payload": None}],
            }
    messages["DeadLetter"] = {
        "summary": "A record that cannot be used: key, value and headers as they came, and why.",
        "contentType": BYTES,
        "headers": _letter_headers(),
        "payload": {"description": "the record's value, byte by byte"},
        "bindings": _key({"description": "the record's key, byte by byte; may be null"}),
    }
    return messages


def _key(schema: Document) -> Document:
    return {"kafka": {"key": schema, "bindingVersion": KAFKA}}


def _letter_headers() -> Document:
    """Headers that Freshet puts behind a refused record's own."""
    plain = dead_letter_headers("", None, "", 0, 0)
    unreadable = Unreadable.of(b"value", "", 0, 1)
    whole = dead_letter_headers("", None, "", 0, 0, sent=[("name", b"")], value=unreadable)
    *_, cut = shorter(Letter(b"key", b"value", 0, whole))
    always = [name for name, _ in plain]
    every = dict.fromkeys([*always, *(name for name, _ in cut.headers)])
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", **({"enum": sorted(REASONS)} if name == always[0] else {})}
            for name in every
        },
        "required": always,
    }


def _schemas() -> Document:
    kinds = [_AS_IT_COMES.get(record, record) for record in records().values()]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=SCHEMAS)
    structs = structs_of(kinds)
    shown = {_AS_IT_COMES[record].__name__: record for record in _AS_IT_COMES}
    made: Document = {}
    for name, schema in schemas.items():
        record = shown.get(name, structs[name])
        said = told(record)
        properties = {
            field: described(schema_of, said.attributes.get(field))
            for field, schema_of in schema["properties"].items()
        }
        made[record.__name__] = {
            **schema,
            "title": record.__name__,
            "description": said.text,
            "properties": properties,
        }
    return made


class _Dumper(yaml.SafeDumper):
    """Every part in full: an alias is of no use to a reader."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump(made: Document) -> str:
    """A document as YAML, in its own order."""
    return str(
        yaml.dump(made, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2)
    )


def text() -> str:
    """The document as it is written."""
    return "# Made by `python -m tests.support.asyncapi` from the code; change that.\n" + dump(
        document()
    )


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
