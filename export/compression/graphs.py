"""A bundle's graphs for a packed item table. In: the float32 graphs of `to_onnx`. Out: new ones.

Whatever the model, its update graph gathers rows of the table and its score graph has one product
with all of it; these are what is replaced. `stream/core/table.py` says how tables lie in memory.

int8 scores in two steps. Users' queries are rounded to integers, each with a scale of its own, and
the product of integers says which `CONSIDERED` items are the best; their scores are then computed
in float32 from the stored vectors. So only the stored vectors are rounded in what comes out, and a
user's list does not depend on who else is in the batch. float16 on CUDA does the same with a
product in float16. On a CPU a float16 table is float32 in memory, and the graphs stay.

Must not know: models, files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.to_onnx import node
from stream.core.packing import Storage
from stream.errors import UsageError

CONSIDERED = 100  # items that are scored in float32, or twice k where that is more
# Largest query on a CPU: 7 bits. Older ones add products in pairs, in 16 bits; 2 * 63 * 127 fits.
CPU_QUERY = 63
CUDA_QUERY = 127

Provider = Literal["cpu", "cuda"]
_TINY = float(np.finfo(np.float32).tiny)
_CODE = {"float16": TensorProto.FLOAT16, "int8": TensorProto.INT8}


class NotPackableError(UsageError):
    """The graph has no product with the item table that could be taken apart."""


def packed_update(update_onnx: bytes, storage: Storage, provider: Provider) -> bytes:
    """`update.onnx` for a packed table.

    Raises
    ------
    NotPackableError
        It reads the table in another way than by rows.
    """
    if storage == "float32" or (storage == "float16" and provider == "cpu"):
        return update_onnx
    g = _Graph(update_onnx)
    for at, reader in g.readers_of_table("Gather"):
        rows, vectors = reader.input[1], reader.output[0]
        g.replace(at, g.vectors(storage, rows, vectors))
    g.retype_table(storage)
    return g.serialised()


def packed_score(score_onnx: bytes, storage: Storage, provider: Provider) -> bytes:
    """`score.onnx` for a packed table.

    Raises
    ------
    NotPackableError
        Its logits are no product of a query and the table.
    """
    if storage == "float32" or (storage == "float16" and provider == "cpu"):
        return score_onnx
    g = _Graph(score_onnx)
    products = g.readers_of_table("Gemm")
    if len(products) != 1:
        raise NotPackableError("its scores are not one product with the item table")
    ((at, product),) = products
    if product.input[2:] != ["bias"] or _attributes(product) != {"transB": 1}:
        raise NotPackableError("its scores are another product with the item table than is known")
    query, logits = product.input[0], product.output[0]
    near = _by_half if storage == "float16" else _by_integers(provider)
    nodes = [*near(g, query), node("Add", ["near", "bias"], [logits])]
    g.replace(at, nodes)
    _reconsider(g, storage, query)
    g.retype_table(storage, columns=True)
    return g.serialised()


def _by_half(g: _Graph, query: str) -> list[Any]:
    """`near` [B, N] from `query` [B, D], with a product in float16."""
    return [
        node("Cast", [query], ["half_query"], to=TensorProto.FLOAT16),
        node("Gemm", ["half_query", "item_table"], ["half"], transB=1),
        node("Cast", ["half"], ["near"], to=TensorProto.FLOAT),
    ]


def _by_integers(provider: Provider) -> Callable[[_Graph, str], list[Any]]:
    """`near` [B, N] from `query` [B, D], with a product of integers.

    A CPU has it for unsigned by signed ones, CUDA for signed by signed.
    """
    largest = CPU_QUERY if provider == "cpu" else CUDA_QUERY

    def near(g: _Graph, query: str) -> list[Any]:
        g.constant("query_largest", np.float32(largest))
        g.constant("query_tiny", np.float32(_TINY))
        g.constant("last", np.array([-1], np.int64))
        quantised = [
            node("Abs", [query], ["query_size"]),
            node("ReduceMax", ["query_size", "last"], ["query_most"], keepdims=1),
            node("Div", ["query_most", "query_largest"], ["query_step_or_0"]),
            node("Max", ["query_step_or_0", "query_tiny"], ["query_step"]),
            node("Div", [query, "query_step"], ["query_steps"]),
            node("Round", ["query_steps"], ["query_rounded"]),
        ]
        if provider == "cpu":
            g.constant("query_middle", np.float32(CPU_QUERY + 1))
            g.constant("query_zero", np.uint8(CPU_QUERY + 1))
            product = [
                node("Add", ["query_rounded", "query_middle"], ["query_shifted"]),
                node("Cast", ["query_shifted"], ["query_integers"], to=TensorProto.UINT8),
                node(
                    "MatMulInteger", ["query_integers", "item_columns", "query_zero"], ["products"]
                ),
            ]
        else:
            product = [
                node("Cast", ["query_rounded"], ["query_integers"], to=TensorProto.INT8),
                node("MatMulInteger", ["query_integers", "item_columns"], ["products"]),
            ]
        # Product, conversion and the items' scales are one kernel of ONNX Runtime's on a CPU where
        # they stand like this, with a factor of the query's that is a constant.
        g.constant("query_factor", np.float32(1 / 128))
        g.constant("query_factors", np.float32(128))
        return [
            *quantised,
            *product,
            node("Cast", ["products"], ["products_float"], to=TensorProto.FLOAT),
            node("Mul", ["query_factor", "item_scale"], ["factors"]),
            node("Mul", ["products_float", "factors"], ["near_in_steps"]),
            node("Mul", ["query_step", "query_factors"], ["query_scale"]),
            node("Mul", ["near_in_steps", "query_scale"], ["near"]),
        ]

    return near


def _reconsider(g: _Graph, storage: Storage, query: str) -> None:
    """Take more than k by `near`, score these in float32 and take k of them."""
    for at, name in enumerate(("taken", "best", "rows")):
        last, number = g.maker_of(name)
        if at == 0:
            last.input[1] = "considered"
        elif at == 1:
            last.input[1] = "considered"
            last.output[0] = "near_best"
        else:
            last.output[0] = "near_rows"
    g.constant("twice", np.array([2], np.int64))
    g.constant("least_considered", np.array([CONSIDERED], np.int64))
    g.constant("after", np.array([-1], np.int64))
    counted = [
        node("Mul", ["k", "twice"], ["twice_k"]),
        node("Max", ["twice_k", "least_considered"], ["wanted"]),
        node("Shape", ["bias"], ["table_rows"]),
        node("Min", ["wanted", "table_rows"], ["considered"]),
    ]
    exact = [
        *g.vectors(storage, "near_rows", "near_vectors"),  # [B, R, D]
        node("Unsqueeze", [query, "after"], ["query_column"]),
        node("MatMul", ["near_vectors", "query_column"], ["exact_column"]),
        node("Squeeze", ["exact_column", "after"], ["exact"]),
        # What else is in a logit (bias, last interactions, exclusion) stays as it was added.
        node("GatherElements", ["near", "near_rows"], ["near_of_rows"], axis=1),
        node("Sub", ["near_best", "near_of_rows"], ["beside"]),
        node("Add", ["beside", "exact"], ["reconsidered"]),
        node("TopK", ["reconsidered", "k"], ["best", "place"], axis=1),
        node("GatherElements", ["near_rows", "place"], ["rows"], axis=1),
    ]
    g.replace(number, [last, *exact])
    g.replace(0, [*counted, g.nodes[0]])


class _Graph:
    """A graph that is being changed."""

    def __init__(self, content: bytes) -> None:
        self._model = onnx.load_model_from_string(content)
        self.nodes = list(self._model.graph.node)

    def readers_of_table(self, kind: str) -> list[tuple[int, Any]]:
        """The nodes that read the item table, last ones first, with their places."""
        found = [(at, n) for at, n in enumerate(self.nodes) if "item_table" in n.input]
        for _, reader in found:
            place = 0 if kind == "Gather" else 1
            if reader.op_type != kind or reader.input[place] != "item_table":
                raise NotPackableError(f"it uses the item table in a {reader.op_type}")
        return found[::-1]

    def maker_of(self, name: str) -> tuple[Any, int]:
        """The node that makes `name`, and its place."""
        return next((n, at) for at, n in enumerate(self.nodes) if name in n.output)

    def replace(self, at: int, nodes: list[Any]) -> None:
        """Put nodes in the place of one."""
        self.nodes[at : at + 1] = nodes

    def constant(self, name: str, value: Any) -> None:
        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))

    def vectors(self, storage: Storage, rows: str, output: str) -> list[Any]:
        """Nodes that gather float32 vectors, [..., D]; `rows` is int64 [...]."""
        packed, as_float, scale, scales, after = (
            f"packed_{output}_{step}" for step in ("gathered", "float", "scale", "scales", "after")
        )
        gather = node("Gather", ["item_table", rows], [packed])
        if storage == "float16":
            return [gather, node("Cast", [packed], [output], to=TensorProto.FLOAT)]
        self.constant(after, np.array([-1], np.int64))
        return [
            gather,
            node("Cast", [packed], [as_float], to=TensorProto.FLOAT),
            node("Gather", ["item_scale", rows], [scale]),
            node("Unsqueeze", [scale, after], [scales]),
            node("Mul", [as_float, scales], [output]),
        ]

    def retype_table(self, storage: Storage, columns: bool = False) -> None:
        """Say in the signature how the table is packed.

        Parameters
        ----------
        columns : whether an int8 table is also used on its side
        """
        inputs = self._model.graph.input
        at = next(at for at, tensor in enumerate(inputs) if tensor.name == "item_table")
        rows, dim = (d.dim_param or d.dim_value for d in inputs[at].type.tensor_type.shape.dim)
        typed = [("item_table", _CODE[storage], [rows, dim])]
        if storage == "int8":
            typed += [("item_columns", TensorProto.INT8, [dim, rows])] if columns else []
            typed += [("item_scale", TensorProto.FLOAT, [rows])]
        inputs[at].CopyFrom(helper.make_tensor_value_info(*typed[0]))
        for further in reversed(typed[1:]):
            inputs.insert(at + 1, helper.make_tensor_value_info(*further))

    def serialised(self) -> bytes:
        del self._model.graph.node[:]
        self._model.graph.node.extend(self.nodes)
        onnx.checker.check_model(self._model)
        content: bytes = self._model.SerializeToString(deterministic=True)
        return content


def _attributes(product: Any) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in product.attribute}
