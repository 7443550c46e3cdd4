"""Mermaid diagrams as the pages use them: flowcharts and sequences. In: text. Out: its parts.

Narrower than Mermaid itself, which takes more and shows some of it otherwise than it was meant: a
line that is none of these is refused. Written by hand, since Mermaid's own grammar of these two
runs in a browser alone (npm's `@mermaid-js/parser` reads neither, PyPI's `mermaid-parser-py` brings
a JavaScript engine along) and would take what is refused here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

# Between a node's brackets, unless quoted: nothing that Mermaid would take for a bracket or an end.
_WORDS: Final = r"[^\[\](){}|;#\"]+"
_SHAPES: Final = (
    *((r"\(\[", r"\]\)"), (r"\[\(", r"\)\]"), (r"\[\[", r"\]\]"), (r"\[/", r"/\]")),
    *((r"\{\{", r"\}\}"), (r"\[", r"\]"), (r"\(", r"\)"), (r"\{", r"\}")),
)
_SHAPE: Final = "|".join(f'{left}(?:{_WORDS}|"[^"#;]+"){right}' for left, right in _SHAPES)
_NODE: Final = re.compile(rf"\s*(?P<id>\w+)(?P<shape>{_SHAPE})?\s*")
_ARROW: Final = re.compile(rf"(?:<-->|-->|-\.->|==>)(?:\|(?:{_WORDS}|\"[^\"#;]+\")\|)?")
_FLOWCHART: Final = re.compile(r"flowchart (?:LR|RL|TD|TB|BT)")
_SUBGRAPH: Final = re.compile(rf"subgraph (\w+) \[({_WORDS})\]")
_PARTICIPANT: Final = re.compile(r"participant (\w+) as [^;#]+")
_MESSAGE: Final = re.compile(r"(\w+)(?:->>|-->>)(\w+): [^;#]+")
_NOTE: Final = re.compile(r"Note (?:over|left of|right of) (\w+)(?:,(\w+))?: [^;#]+")
_OPENS: Final = re.compile(r"(?:alt|loop|opt) [^;#]+")
_KEPT: Final = {"end", "subgraph", "graph", "flowchart", "style", "class", "click", "direction"}


class Diagram(NamedTuple):
    """What a diagram shows.

    Attributes
    ----------
    nodes : boxes or participants by id, with whether they have words of their own
    edges : pairs of ids; also of groups, in flowcharts
    groups : ids of subgraphs
    """

    nodes: dict[str, bool]
    edges: list[tuple[str, str]]
    groups: set[str]


def parse(text: str) -> Diagram:
    """Read a diagram.

    Raises
    ------
    ValueError : a line that is none, a box without words, one that nothing leads from or to, a
        group that is not ended
    """
    first, *lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = Diagram({}, [], set())
    if first == "sequenceDiagram":
        depth = _sequence(lines, found)
    elif _FLOWCHART.fullmatch(first):
        depth = _flowchart(lines, found)
    else:
        raise ValueError(f"{first!r} is no kind of diagram that is known here")
    if depth:
        raise ValueError(f"{depth} groups are not ended")
    bare = [name for name, worded in found.nodes.items() if not worded]
    alone = set(found.nodes) - {name for edge in found.edges for name in edge}
    if wrong := [*(f"{name} has no words" for name in bare), *(f"{n} is alone" for n in alone)]:
        raise ValueError("; ".join(wrong))
    return found


def _flowchart(lines: list[str], found: Diagram) -> int:
    depth = 0
    for line in lines:
        if group := _SUBGRAPH.fullmatch(line):
            found.groups.add(group[1])
            depth += 1
        elif line == "end":
            depth -= 1
        else:
            found.edges.extend(itertools.pairwise(_chain(line, found)))
    for group_id in found.groups & set(found.nodes):  # an arrow from or to a whole group
        del found.nodes[group_id]
    return depth


def _chain(line: str, found: Diagram) -> Iterator[str]:
    """The nodes of a line, with arrows between them."""
    at = 0
    while True:
        node = _NODE.match(line, at)
        if node is None or node["id"] in _KEPT:
            raise ValueError(f"no node at {line[at:].strip()!r}")
        found.nodes[node["id"]] = found.nodes.get(node["id"], False) or node["shape"] is not None
        yield node["id"]
        at = node.end()
        if at == len(line):
            return
        arrow = _ARROW.match(line, at)
        if arrow is None:
            raise ValueError(f"no arrow at {line[at:]!r}")
        at = arrow.end()


def _sequence(lines: list[str], found: Diagram) -> int:
    depth = 0
    for line in lines:
        if declared := _PARTICIPANT.fullmatch(line):
            found.nodes[declared[1]] = True
        elif _OPENS.fullmatch(line):
            depth += 1
        elif line == "end":
            depth -= 1
        elif re.fullmatch(r"else [^;#]+", line) and depth:
            continue
        elif said := _MESSAGE.fullmatch(line) or _NOTE.fullmatch(line):
            named = [name for name in said.groups() if name is not None]
            if strangers := [name for name in named if name not in found.nodes]:
                raise ValueError(f"{line!r}: nobody declared {', '.join(strangers)}")
            if len(named) == 2:
                found.edges.append((named[0], named[1]))
        else:
            raise ValueError(f"no line of a sequence: {line!r}")
    return depth
