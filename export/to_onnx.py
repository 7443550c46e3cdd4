"""Build the graphs of a bundle. In: a model's nodes and constants. Out: serialised ONNX.

`update_graph` and `score_graph` fix the signature that `stream.core.model` checks; a model brings
the nodes between. Opset 18 with an IR version that ONNX Runtime 1.22 and later read.

Must not know: which model it is, training data, files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from stream.core.bundle import NEVER_LISTED

OPSET = 18
IR_VERSION = 9
BLOCK = 32  # items a block of the top-k; the engine pads tables to multiples of 128

Constants = Mapping[str, npt.NDArray[Any]]

_FLOAT, _INT64 = TensorProto.FLOAT, TensorProto.INT64


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """One node of a graph."""
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def update_graph(nodes: Sequence[Any], constants: Constants, state_size: int, dim: int) -> bytes:
    """`update.onnx`: `nodes` make `next_state` [B, S] from the five inputs.

    They may only work row by row, or a batch would not fold like its events one by one.
    """
    inputs = [
        _tensor("state", _FLOAT, ["B", state_size]),
        _tensor("item_table", _FLOAT, ["N", dim]),
        _tensor("item_row", _INT64, ["B"]),
        _tensor("event_type", _INT64, ["B"]),
        _tensor("gap_s", _FLOAT, ["B"]),
    ]
    outputs = [_tensor("next_state", _FLOAT, ["B", state_size])]
    return _serialise("update", nodes, constants, inputs, outputs)


def score_graph(nodes: Sequence[Any], constants: Constants, state_size: int, dim: int) -> bytes:
    """`score.onnx`: `nodes` make `logits` [B, N] from `state`, `item_table`, `bias` and `beta`.

    Exclusion and the exact top-k are added here. Block-max top-k: the k blocks with the largest
    maxima hold the k best items, so two small selections replace one over all N.
    """
    inputs = [
        _tensor("state", _FLOAT, ["B", state_size]),
        _tensor("item_table", _FLOAT, ["N", dim]),
        _tensor("bias", _FLOAT, ["N"]),
        _tensor("excluded", _INT64, ["B", "M"]),
        _tensor("beta", _FLOAT, [1]),
        _tensor("k", _INT64, [1]),
    ]
    outputs = [_tensor("rows", _INT64, ["B", "K"]), _tensor("scores", _FLOAT, ["B", "K"])]
    top = [
        node("Shape", ["excluded"], ["excluded_shape"]),
        node("Expand", ["never", "excluded_shape"], ["struck"]),
        node("ScatterElements", ["logits", "excluded", "struck"], ["open"], axis=1),
        node("Reshape", ["open", "to_blocks"], ["blocks"]),  # [B, N/32, 32]
        node("ReduceMax", ["blocks", "last_axis"], ["block_max"], keepdims=0),
        node("Shape", ["block_max"], ["block_count"], start=1, end=2),
        node("Min", ["block_count", "k"], ["taken"]),
        node("TopK", ["block_max", "taken"], ["best_max", "best_block"], axis=1, sorted=0),
        node("Unsqueeze", ["best_block", "last_axis"], ["best_block_3d"]),
        node("GatherND", ["blocks", "best_block_3d"], ["candidates_3d"], batch_dims=1),
        node("Reshape", ["candidates_3d", "to_flat"], ["candidates"]),
        node("TopK", ["candidates", "k"], ["best", "position"], axis=1),
        node("Div", ["position", "block_size"], ["block_position"]),
        node("Mod", ["position", "block_size"], ["offset"]),
        node("GatherElements", ["best_block", "block_position"], ["block"], axis=1),
        node("Mul", ["block", "block_size"], ["first_row"]),
        node("Add", ["first_row", "offset"], ["rows"]),
        node("Sigmoid", ["best"], ["scores"]),  # exactly 0 for what is out
    ]
    shared: dict[str, npt.NDArray[Any]] = {
        "never": np.array(NEVER_LISTED, np.float32),
        "to_blocks": np.array([0, -1, BLOCK], np.int64),
        "to_flat": np.array([0, -1], np.int64),
        "last_axis": np.array([-1], np.int64),
        "block_size": np.array(BLOCK, np.int64),
    }
    return _serialise("score", [*nodes, *top], {**constants, **shared}, inputs, outputs)


def content_graph(nodes: Sequence[Any], constants: Constants, dim: int) -> bytes:
    """`content.onnx`: `nodes` make `vector` [B, dim] from hashed features, padded with zeros."""
    inputs = [
        _tensor("feature_ids", _INT64, ["B", "F"]),
        _tensor("feature_values", _FLOAT, ["B", "F"]),
    ]
    outputs = [_tensor("vector", _FLOAT, ["B", dim])]
    return _serialise("content", nodes, constants, inputs, outputs)


def _tensor(name: str, kind: int, shape: Sequence[int | str]) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def _serialise(
    name: str,
    nodes: Sequence[Any],
    constants: Constants,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> bytes:
    tensors = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
