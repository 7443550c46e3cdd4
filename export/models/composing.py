"""The graphs of an ensemble. In: its members' graphs. Out: serialised ONNX of the same signature.

Members keep their nodes, under names that begin with their own. Those with live weights take the
ensemble's, and their own of its half-lives. Each gets its columns of the state and of the item
vectors, and a beta of its own. Queries stand side by side and are multiplied with the item table
once; what else a member adds to its logits is added to those of the one before.

Must not know: which models there are, how weights come about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import compose, numpy_helper

from export.models.base import Trained
from export.to_onnx import node, score_graph, update_graph
from stream.core.weighing import FADING_RATES, TYPE_WEIGHTS

TABLE = "item_table"


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A member and its place in the ensemble.

    Attributes
    ----------
    factor : of the member's affinity: its weight times its own beta
    state : its columns of the state
    vectors : its columns of an item's vector; None where it does not look at vectors
    """

    trained: Trained
    factor: float
    state: slice
    vectors: slice | None

    @property
    def name(self) -> str:
        return self.trained.model


def looks_at_vectors(trained: Trained) -> bool:
    """Whether a model's graphs read the item table."""
    graphs = (trained.update_onnx, trained.score_onnx)
    return any(
        TABLE in n.input
        for content in graphs
        for n in onnx.load_model_from_string(content).graph.node
    )


def update(parts: Sequence[Part], dim: int) -> bytes:
    """`update.onnx`. `dim`: D, of the item table."""
    g = _Nodes()
    fading = 0  # half-lives of the members so far
    for part in parts:
        g.columns("state", part.state, f"{part.name}/state")
        for name in ("item_row", "event_type", "gap_s"):
            g.add("Identity", [name], f"{part.name}/{name}")
        if own := len(half_lives_s(part.trained)):
            g.add("Identity", [TYPE_WEIGHTS], f"{part.name}/{TYPE_WEIGHTS}")
            g.columns(FADING_RATES, slice(fading, fading + own), f"{part.name}/{FADING_RATES}", 0)
            fading += own
        for n in g.taken(part, part.trained.update_onnx, "next_state"):
            if part.vectors is None or not _reads(part, n, "Gather"):
                g.nodes.append(n)
                continue
            whole = f"{part.name}/whole_{n.output[0]}"
            g.add("Gather", [TABLE, n.input[1]], whole)
            g.columns(whole, part.vectors, n.output[0])
    states = [f"{part.name}/next_state" for part in parts]
    g.nodes.append(node("Concat", states, ["next_state"], axis=1))
    return update_graph(g.nodes, g.constants, parts[-1].state.stop, dim, live_sums=fading)


def score(parts: Sequence[Part], dim: int, recent: int) -> bytes:
    """`score.onnx`. `dim`: D, of the item table; `recent`: R, the most that any member takes."""
    g = _Nodes()
    queries: list[str] = []
    then: list[tuple[str, list[Any], str]] = []  # member, nodes, what they add to is called
    for part in parts:
        g.columns("state", part.state, f"{part.name}/state")
        g.constants[f"{part.name}/factor"] = np.array(part.factor, np.float32)
        g.add("Mul", ["beta", f"{part.name}/factor"], f"{part.name}/beta")
        if part.trained.recent:
            for name in ("recent_rows", "recent_types"):
                g.columns(name, slice(0, part.trained.recent), f"{part.name}/{name}")
        nodes, base = g.taken(part, part.trained.score_onnx, "logits"), f"{part.name}/bias"
        if part.vectors is not None:
            at = next(at for at, n in enumerate(nodes) if _reads(part, n, "Gemm"))
            g.nodes += nodes[:at]
            queries.append(nodes[at].input[0])
            nodes, base = nodes[at + 1 :], nodes[at].output[0]
        then.append((part.name, nodes, base))
    g.add("Concat", queries, "queries", axis=1)
    logits = "by_vectors"
    g.add("Gemm", ["queries", TABLE, "bias"], logits, transB=1)
    for name, nodes, base in then:
        g.add("Identity", [logits], base)
        g.nodes += nodes
        logits = f"{name}/logits"
    g.add("Identity", [logits], "logits")
    return score_graph(g.nodes, g.constants, parts[-1].state.stop, dim, recent)


def half_lives_s(trained: Trained) -> tuple[float, ...]:
    """Of the sums of a member whose update graph takes them as inputs; empty: it does not."""
    if trained.additive is None or not trained.live_weights:
        return ()
    return tuple(fading.half_life_s for fading in trained.additive.sums)


def _reads(part: Part, n: Any, kind: str) -> bool:
    """Whether a node reads a member's item table; it must be of the kind that can be replaced."""
    found = f"{part.name}/{TABLE}" in n.input
    if found and n.op_type != kind:
        raise ValueError(f"{part.name} uses the item table in a {n.op_type}")
    return found


class _Nodes:
    """Nodes and constants as they are written down."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self.nodes.append(node(op, inputs, [output], **attributes))

    def columns(self, name: str, of: slice, output: str, axis: int = 1) -> None:
        """Some columns of a matrix, or numbers of a vector along axis 0."""
        ends = []
        for at in (of.start, of.stop, axis):
            ends.append(f"at_{at}")
            self.constants[ends[-1]] = np.array([at], np.int64)
        self.add("Slice", [name, *ends], output)

    def taken(self, part: Part, content: bytes, output: str) -> list[Any]:
        """A member's nodes up to the one that makes `output`, under the member's name."""
        graph = onnx.load_model_from_string(content).graph
        compose.add_prefix_graph(graph, f"{part.name}/", inplace=True)
        made = f"{part.name}/{output}"
        last = next(at for at, n in enumerate(graph.node) if made in n.output)
        nodes = list(graph.node[: last + 1])
        used = {name for n in nodes for name in n.input}
        for tensor in graph.initializer:
            if tensor.name in used:
                self.constants[tensor.name] = numpy_helper.to_array(tensor)
        return nodes
