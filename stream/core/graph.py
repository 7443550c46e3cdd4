"""Look into an ONNX graph before anything runs it. In: verified bytes. Out: nothing, or a refusal.

A graph is a program from whoever made the bundle. ONNX Runtime would open files for tensors that
say they are stored elsewhere, and load what it has of other vendors' operators; so what it gets is
plain: standard operators, every tensor in the graph itself, no loop that need not end.

The few messages of ONNX that say so are declared here and read by protobuf, which ONNX Runtime
brings; the package onnx would cost 27 MB and a second at each start. Must not know: what the graph
computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from stream.errors import BundleError

MAX_NODES: Final = 20_000
MAX_RANK: Final = 16
STANDARD_DOMAINS: Final = (b"", b"ai.onnx")
ENDLESS: Final = (b"Loop", b"Scan")  # a wrong one never ends, and no model needs them for one step
CURE: Final = "do not use this bundle; a model of yours: export it with standard operators alone"

# message -> field -> number, type, whether it repeats. Of onnx.proto, whose numbers never change.
MESSAGES: Final[dict[str, dict[str, tuple[int, str, bool]]]] = {
    "ModelProto": {
        "graph": (7, "GraphProto", False),
        "opset_import": (8, "OperatorSetIdProto", True),
        "training_info": (20, "TrainingInfoProto", True),
        "functions": (25, "FunctionProto", True),
    },
    "OperatorSetIdProto": {"domain": (1, "bytes", False), "version": (2, "int64", False)},
    "TrainingInfoProto": {},
    "FunctionProto": {},
    "GraphProto": {
        "node": (1, "NodeProto", True),
        "initializer": (5, "TensorProto", True),
        "sparse_initializer": (15, "SparseTensorProto", True),
    },
    "NodeProto": {
        "op_type": (4, "bytes", False),
        "attribute": (5, "AttributeProto", True),
        "domain": (7, "bytes", False),
    },
    "AttributeProto": {
        "t": (5, "TensorProto", False),
        "g": (6, "GraphProto", False),
        "tensors": (10, "TensorProto", True),
        "graphs": (11, "GraphProto", True),
        "sparse_tensor": (22, "SparseTensorProto", False),
        "sparse_tensors": (23, "SparseTensorProto", True),
    },
    "SparseTensorProto": {
        "values": (1, "TensorProto", False),
        "indices": (2, "TensorProto", False),
    },
    "TensorProto": {
        "dims": (1, "int64", True),
        "external_data": (13, "StringStringEntryProto", True),
        "data_location": (14, "int64", False),
    },
    "StringStringEntryProto": {},
}


def check_graph(file: Path, content: bytes, opset: int) -> None:
    """Refuse a graph that could do more than compute.

    Raises
    ------
    BundleError
        It is no ONNX graph; or it has operators of another domain, functions of its own, loops,
        data outside itself, tensors larger than it is; or not this opset.
    """
    model = _MODEL()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise BundleError(f"{file}: not an ONNX graph ({error}); {CURE}") from None
    for what in ("functions", "training_info"):
        if getattr(model, what):
            raise BundleError(f"{file}: has {what.replace('_', ' ')} of its own; {CURE}")
    for opsets in model.opset_import:
        _check_domain(file, opsets.domain, "imports operators")
        if opsets.version != opset:
            raise BundleError(
                f"{file}: is of opset {opsets.version}, the manifest says {opset}; {CURE}"
            )
    nodes = 0
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        _check_tensors(file, _tensors(graph.initializer, graph.sparse_initializer), len(content))
        nodes += len(graph.node)
        if nodes > MAX_NODES:
            raise BundleError(f"{file}: has more than {MAX_NODES} nodes; {CURE}")
        for node in graph.node:
            _check_domain(file, node.domain, f"has operator {_shown(node.op_type)}")
            if node.op_type in ENDLESS:
                raise BundleError(
                    f"{file}: has a {_shown(node.op_type)}, which may not end; {CURE}"
                )
            for value in node.attribute:
                tensors = _tensors((value.t, *value.tensors), (value.sparse_tensor,))
                _check_tensors(file, tensors, len(content))
                _check_tensors(file, _tensors((), value.sparse_tensors), len(content))
                graphs += value.graphs
                if value.HasField("g"):
                    graphs.append(value.g)


def _tensors(dense: Any, sparse: Any) -> Iterator[Any]:
    yield from dense
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _check_tensors(file: Path, tensors: Iterator[Any], size: int) -> None:
    for tensor in tensors:
        if tensor.external_data or tensor.data_location:
            raise BundleError(f"{file}: keeps a tensor in another file; {CURE}")
        # The smallest elements are half a byte; protobuf would let them claim anything.
        dims = tensor.dims
        if len(dims) > MAX_RANK or min(dims, default=0) < 0 or prod(dims) > 2 * size:
            raise BundleError(
                f"{file}: has a tensor that claims to be larger than the file; {CURE}"
            )


def _check_domain(file: Path, domain: bytes, what: str) -> None:
    if domain not in STANDARD_DOMAINS:
        raise BundleError(f"{file}: {what} of domain {_shown(domain)}, not of ONNX itself; {CURE}")


def _shown(name: bytes) -> str:
    return ascii(name[:60].decode(errors="replace"))


def _model_class() -> Any:
    """The class of `ModelProto`, in a pool of its own: the package onnx may be there as well."""
    field = descriptor_pb2.FieldDescriptorProto
    plain = {"bytes": field.TYPE_BYTES, "int64": field.TYPE_INT64}
    declared = descriptor_pb2.FileDescriptorProto(
        name="freshet_onnx.proto", package="onnx", syntax="proto2"
    )
    for name, fields in MESSAGES.items():
        message = declared.message_type.add(name=name)
        for field_name, (number, kind, repeated) in fields.items():
            message.field.add(
                name=field_name,
                number=number,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type=plain.get(kind, field.TYPE_MESSAGE),
                type_name=None if kind in plain else f".onnx.{kind}",
            )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(declared.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("onnx.ModelProto"))


_MODEL: Final = _model_class()
