"""The two graphs of a gated linear recurrence. In: parameters as arrays. Out: serialised ONNX.

The state of a member: the recurrence of each layer, then the running mean (`mean`), then the query
(`query`); members side by side. An event of a type that changes nothing, or of an item without a
row, leaves the state as it is. Every number of a row depends on that row alone, to the last bit.

Must not know: PyTorch, training, files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.models.base import Float32, Int64
from export.models.glr.companions import Companions
from export.models.glr.parameters import LEAST_LENGTH, WIDEST, Parameters
from export.models.glr.sequences import GAP_EDGES_S
from export.to_onnx import node, score_graph, update_graph

EPSILON = 1e-5  # of LayerNorm, as in PyTorch


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One trained network: its parameters by name, as `network.numbers` gives them."""

    numbers: dict[str, Float32]
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Recurrence:
    """All that update and score need beside the item table.

    Attributes
    ----------
    kinds : int64 [16], from `sequences.trained_kinds`
    turned : float32 [16]; 1 for event types that turn towards an item
    again, together : float32 [R]; weights of the last interactions, see `blend.py`
    companions : of every row that was trained
    """

    p: Parameters
    members: list[Member]
    kinds: Int64
    turned: Float32
    again: Float32
    together: Float32
    companions: Companions

    @property
    def state_size(self) -> int:
        """S."""
        return self.p.member_size * len(self.members)

    @property
    def dim(self) -> int:
        """D, of the item table."""
        return self.p.dim * len(self.members)


class _Nodes:
    """Nodes and constants as they are written down: every call is a node and answers its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(node(op, inputs, [output], **attributes))
        return output

    def of(self, op: str, *inputs: str, output: str, **attributes: Any) -> None:
        """A node with an output of a given name."""
        self.nodes.append(node(op, inputs, [output], **attributes))

    def constant(self, value: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def columns(self, name: str, first: int, stop: int) -> str:
        """Columns first..stop of a matrix."""
        ends = [self.constant([at], np.int64) for at in (first, stop, 1)]
        return self("Slice", name, *ends)

    def linear(self, x: str, weight: Float32, bias: Float32 | None = None) -> str:
        """x @ weight' + bias. A packed constant: a row's sums do not depend on the batch."""
        product = self("MatMul", x, self.constant(np.ascontiguousarray(weight.T)))
        return product if bias is None else self("Add", product, self.constant(bias))

    def normed(self, x: str, weight: Float32, bias: Float32) -> str:
        scale, shift = self.constant(weight), self.constant(bias)
        return self("LayerNormalization", x, scale, shift, axis=-1, epsilon=EPSILON)


def update(r: Recurrence) -> bytes:
    """`update.onnx`."""
    p, g = r.p, _Nodes()
    column = g.constant([1], np.int64)
    kind = g("Gather", g.constant(r.kinds, np.int64), "event_type")
    gap = g("Unsqueeze", "gap_s", column)
    above = g("GreaterOrEqual", gap, g.constant(GAP_EDGES_S[None]))
    above = g("Cast", above, to=7)  # int64
    bucket = g("ReduceSum", above, column, keepdims=0)
    items = g("Gather", "item_table", "item_row")
    root = math.sqrt(len(r.members))
    following = []
    for at, member in enumerate(r.members):
        w, start = member.numbers, at * r.p.member_size
        item = items
        if len(r.members) > 1:
            part = g.columns(items, at * p.dim, (at + 1) * p.dim)
            item = g("Mul", part, g.constant(root))
        if p.cosine:
            x = g("Mul", item, g.constant(math.sqrt(p.dim)))
        else:
            x = g.normed(item, w["first.weight"], w["first.bias"])
        x = g("Add", x, g("Gather", g.constant(w["types"]), kind))
        x = g("Add", x, g("Gather", g.constant(w["gaps"]), bucket))
        for layer in range(p.layers):
            first = start + layer * p.state
            x, h = _layer(
                g, w, f"layers.{layer}.", x, g.columns("state", first, first + p.state), p
            )
            following.append(h)
        x = g.normed(x, w["last.weight"], w["last.bias"])
        if p.mean:
            first = start + p.layers * p.state
            mean = g.columns("state", first, first + p.dim)
            both = g.linear(x, w["weigh.weight"], w["weigh.bias"])
            least, most = g.constant(-WIDEST), g.constant(WIDEST)
            weight = g("Exp", g("Clip", g.columns(both, 0, 1), least, most))
            forget = g("Sigmoid", g.columns(both, 1, 2))
            following.append(g("Add", g("Mul", forget, mean), g("Mul", weight, item)))
        if p.query:
            following.append(g.linear(x, w["ask.weight"]))
    changed = g("Concat", *following, axis=1)
    nothing = g.constant(0, np.int64)
    moved = g("And", g("Greater", kind, nothing), g("Greater", "item_row", nothing))
    g.of("Where", g("Unsqueeze", moved, column), changed, "state", output="next_state")
    return update_graph(g.nodes, g.constants, r.state_size, r.dim)


def _layer(
    g: _Nodes, w: dict[str, Float32], of: str, x: str, h: str, p: Parameters
) -> tuple[str, str]:
    def linear(name: str, value: str) -> str:
        return g.linear(value, w[f"{of}{name}.weight"], w[f"{of}{name}.bias"])

    def normed(name: str, value: str) -> str:
        return g.normed(value, w[f"{of}{name}.weight"], w[f"{of}{name}.bias"])

    three = linear("inward", normed("before", x))
    value, gate, forget = (g.columns(three, k * p.state, (k + 1) * p.state) for k in range(3))
    forget = g("Sigmoid", forget)
    new = g("Mul", g("Sub", g.constant(1.0), forget), value)
    h = g("Add", g("Mul", forget, h), new)
    gated = g("Mul", h, g("Mul", gate, g("Sigmoid", gate)))
    x = g("Add", x, linear("outward", gated))
    wide = linear("widen", normed("between", x))
    half = g("Mul", wide, g.constant(0.5))
    bent = g("Erf", g("Mul", wide, g.constant(math.sqrt(0.5))))
    wide = g("Mul", half, g("Add", bent, g.constant(1.0)))
    return g("Add", x, linear("narrow", wide)), h


def score(r: Recurrence) -> bytes:
    """`score.onnx`."""
    p, g = r.p, _Nodes()
    column = g.constant([1], np.int64)
    parts = []
    for at, member in enumerate(r.members):
        first = at * r.p.member_size + p.layers * p.state
        interest = g.columns("state", first, first + p.dim)
        if p.mean and p.query:
            interest = g("Add", interest, g.columns("state", first + p.dim, first + 2 * p.dim))
        if p.cosine:
            length = g("ReduceL2", interest, column)
            length = g("Add", length, g.constant(LEAST_LENGTH))
            interest = g("Div", interest, length)
        factor = g.constant(member.scale * math.sqrt(len(r.members)))
        parts.append(g("Mul", interest, factor))
    interest = g("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    logits = g("Gemm", g("Mul", interest, "beta"), "item_table", "bias", transB=1)
    counts = g("Gather", g.constant(r.turned), "recent_types")  # [B, R]
    again = g("Mul", g("Mul", counts, g.constant(r.again[None])), "beta")
    logits = g("ScatterElements", logits, "recent_rows", again, axis=1, reduction="add")
    trained = g.constant(len(r.companions.rows), np.int64)
    inside = g("Less", "recent_rows", trained)
    known = g("Where", inside, "recent_rows", g.constant(0, np.int64))
    together = g("Mul", g("Mul", counts, g.constant(r.together[None])), "beta")
    worth = g("Gather", g.constant(r.companions.worth), known)  # [B, R, K]
    brought = g("Mul", worth, g("Unsqueeze", together, g.constant([2], np.int64)))
    flat = g.constant([0, -1], np.int64)
    rows = g("Gather", g.constant(r.companions.rows, np.int32), known)
    rows, brought = g("Reshape", rows, flat), g("Reshape", brought, flat)
    g.of("ScatterElements", logits, rows, brought, output="logits", axis=1, reduction="add")
    return score_graph(g.nodes, g.constants, r.state_size, r.dim, recent=len(r.again))
