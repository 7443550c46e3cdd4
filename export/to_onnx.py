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

from export.calibration import Calibration
from stream.core.bundle import NEVER_LISTED
from stream.core.weighing import EVENT_CODES, FADING_RATES, TYPE_WEIGHTS

OPSET = 18
IR_VERSION = 9
BLOCK = 32  # items a block of the top-k; the engine pads tables to multiples of 128

Constants = Mapping[str, npt.NDArray[Any]]

_FLOAT, _INT64 = TensorProto.FLOAT, TensorProto.INT64


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """One node of a graph."""
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def update_graph(
    nodes: Sequence[Any], constants: Constants, state_size: int, dim: int, live_sums: int = 0
) -> bytes:
    """`update.onnx`: `nodes` make `next_state` [B, S] from the five inputs.

    They may only work row by row, or a batch would not fold like its events one by one.

    Parameters
    ----------
    live_sums : above 0 the nodes may use `type_weights` [16] by event code and `fading_rates`
        [live_sums] per second, too; `Trained.live_weights` must say so
    """
    inputs = [
        _tensor("state", _FLOAT, ["B", state_size]),
        _tensor("item_table", _FLOAT, ["N", dim]),
        _tensor("item_row", _INT64, ["B"]),
        _tensor("event_type", _INT64, ["B"]),
        _tensor("gap_s", _FLOAT, ["B"]),
    ]
    if live_sums:
        inputs.append(_tensor(TYPE_WEIGHTS, _FLOAT, [EVENT_CODES]))
        inputs.append(_tensor(FADING_RATES, _FLOAT, [live_sums]))
    outputs = [_tensor("next_state", _FLOAT, ["B", state_size])]
    return _serialise("update", nodes, constants, inputs, outputs)


def score_graph(
    nodes: Sequence[Any],
    constants: Constants,
    state_size: int,
    dim: int,
    recent: int = 0,
    calibration: Calibration | None = None,
) -> bytes:
    """`score.onnx`: `nodes` make `logits` [B, N] from `state`, `item_table`, `bias` and `beta`.

    Exclusion and the exact top-k are added here. Block-max top-k: the k blocks with the largest
    maxima hold the k best items, so two small selections replace one over all N. What is below the
    least of these maxima is none of the k best, and is out before the second selection, whose heap
    then takes in hardly more than it keeps (100 of 3,200: 11 us a user in place of 24). Equal items
    come in the order of their rows, however many rows the table has: the blocks stand in theirs.

    Parameters
    ----------
    recent : R; above 0 the nodes may use `recent_rows` and `recent_types` too, int64 [B, R]: the
        user's last interactions, newest first, 0 = none. A row may be of an item that was added
        after training: any below N
    calibration : of the listed items' logits; `Trained.calibration` must be the same
    """
    inputs = [
        _tensor("state", _FLOAT, ["B", state_size]),
        _tensor("item_table", _FLOAT, ["N", dim]),
        _tensor("bias", _FLOAT, ["N"]),
        _tensor("excluded", _INT64, ["B", "M"]),
        _tensor("beta", _FLOAT, [1]),
        _tensor("k", _INT64, [1]),
    ]
    if recent:
        inputs += [_tensor(name, _INT64, ["B", recent]) for name in ("recent_rows", "recent_types")]
    outputs = [_tensor("rows", _INT64, ["B", "K"]), _tensor("scores", _FLOAT, ["B", "K"])]
    top = [
        node("Shape", ["excluded"], ["excluded_shape"]),
        node("Expand", ["never", "excluded_shape"], ["struck"]),
        node("ScatterElements", ["logits", "excluded", "struck"], ["open"], axis=1),
        node("Reshape", ["open", "to_blocks"], ["blocks"]),  # [B, N/32, 32]
        node("ReduceMax", ["blocks", "last_axis"], ["block_max"], keepdims=0),
        node("Shape", ["block_max"], ["block_count"], start=1, end=2),
        node("Min", ["block_count", "k"], ["taken"]),
        node("TopK", ["block_max", "taken"], ["best_max", "some_block"], axis=1, sorted=0),
        node("TopK", ["some_block", "taken"], ["best_block", "its_place"], axis=1, largest=0),
        node("Unsqueeze", ["best_block", "last_axis"], ["best_block_3d"]),
        node("GatherND", ["blocks", "best_block_3d"], ["candidates_3d"], batch_dims=1),
        node("Reshape", ["candidates_3d", "to_flat"], ["candidates"]),
        node("ReduceMin", ["best_max", "last_axis"], ["least_max"], keepdims=1),  # [B, 1]
        node("Equal", ["taken", "block_count"], ["all_taken"]),  # fewer than k: no bound
        node("Where", ["all_taken", "lowest", "least_max"], ["bound"]),
        node("Less", ["candidates", "bound"], ["is_below"]),
        node("Where", ["is_below", "lowest", "candidates"], ["hopeful"]),
        node("TopK", ["hopeful", "k"], ["best", "position"], axis=1),
        node("Div", ["position", "block_size"], ["block_position"]),
        node("Mod", ["position", "block_size"], ["offset"]),
        node("GatherElements", ["best_block", "block_position"], ["block"], axis=1),
        node("Mul", ["block", "block_size"], ["first_row"]),
        node("Add", ["first_row", "offset"], ["rows"]),
    ]
    shared: dict[str, npt.NDArray[Any]] = {
        "never": np.array(NEVER_LISTED, np.float32),
        "lowest": np.array(-np.inf, np.float32),
        "to_blocks": np.array([0, -1, BLOCK], np.int64),
        "to_flat": np.array([0, -1], np.int64),
        "last_axis": np.array([-1], np.int64),
        "block_size": np.array(BLOCK, np.int64),
    }
    last, knots = _probabilities(calibration)
    everything = {**constants, **shared, **knots}
    return _serialise("score", [*nodes, *top, *last], everything, inputs, outputs)


def with_calibration(score_onnx: bytes, calibration: Calibration) -> bytes:
    """A graph that `score_graph` made without calibration, with one."""
    model = onnx.load_model_from_string(score_onnx)
    last = model.graph.node.pop()
    if list(last.input) != ["best"]:
        raise ValueError("the score graph is calibrated already")
    nodes, knots = _probabilities(calibration)
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(_initializers(knots))
    return _checked(model)


def _probabilities(calibration: Calibration | None) -> tuple[list[Any], Constants]:
    """Nodes that make `scores` of `best` [B, K], exactly 0 of what is out; their constants.

    A calibrated logit is the first y and what it climbs on each stretch between two knots. No term
    falls where the logit rises, nor does their sum when it is rounded: the order stays.
    """
    if calibration is None:
        return [node("Sigmoid", ["best"], ["scores"])], {}
    stretches = len(calibration.x) - 1
    lowest, highest = np.zeros(stretches, np.float32), np.diff(calibration.x)
    lowest[0], highest[-1] = -np.inf, np.inf  # beyond the ends
    nodes = [
        node("Unsqueeze", ["best", "last_axis"], ["best_3d"]),
        node("Sub", ["best_3d", "stretch_start"], ["beyond_start"]),  # [B, K, P - 1]
        node("Max", ["beyond_start", "stretch_lowest"], ["from_start"]),
        node("Min", ["from_start", "stretch_highest"], ["on_stretch"]),
        node("Mul", ["on_stretch", "stretch_slope"], ["climbed"]),
        node("ReduceSum", ["climbed", "last_axis"], ["climbed_in_all"], keepdims=0),
        node("Add", ["climbed_in_all", "first_knot"], ["calibrated"]),
        node("Sigmoid", ["calibrated"], ["scores"]),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "stretch_start": calibration.x[:-1],
        "stretch_lowest": lowest,
        "stretch_highest": highest,
        "stretch_slope": calibration.slopes.astype(np.float32),
        "first_knot": calibration.y[:1],
    }
    return nodes, constants


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
    graph = helper.make_graph(
        list(nodes), name, list(inputs), list(outputs), _initializers(constants)
    )
    return _checked(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
    )


def _initializers(constants: Constants) -> list[Any]:
    return [numpy_helper.from_array(value, name) for name, value in constants.items()]


def _checked(model: Any) -> bytes:
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
