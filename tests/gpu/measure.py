"""Time a provider. In: a bundle, shapes. Out: seconds, and the share of what memory allows.

Three ways, from the inside out:

- `resident`: every input and output stays on the device, shapes are fixed, and on CUDA the graph is
  captured once and replayed, where it can be;
- `served`: `Model.score`, as the engine calls it: states go to the device, lists come back;
- `engine`: `Engine.step`, from records of clicks to records of lists, everything but Kafka.

A score of B users cannot move less than the table's numbers once, and the logits once out and once
in, since a top-k follows a product: the roofline is that many bytes at the bandwidth of a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from stream.config import Placement
from stream.contracts import EventType
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.engine import Engine
from stream.core.model import Model
from stream.core.table import ItemTable
from stream.kafka.batches import RecordBatch
from tests.support.parts import Part

STRUCK = 50
NOW_MS = 1_795_000_000_000
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def seconds_each(call: Callable[[], object], seconds: float) -> float:
    """The median, of calls for so long and three at least, after one that is not counted."""
    call()
    taken: list[float] = []
    until = perf_counter() + seconds
    while len(taken) < 3 or perf_counter() < until:
        started = perf_counter()
        call()
        taken.append(perf_counter() - started)
    return float(np.median(taken))


def session_of(graph: bytes, provider: str, threads: int, **cuda: str) -> Any:
    """A session that uses nothing but `provider`, and the CPU for what has no kernel there."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    wanted: list[Any] = [PROVIDERS["cpu"]]
    if provider == "cuda":
        wanted.insert(0, (PROVIDERS["cuda"], {"use_tf32": "0", **cuda}))
    return ort.InferenceSession(graph, options, providers=wanted)


def bandwidth(provider: str, megabytes: int, seconds: float, threads: int) -> float:
    """Bytes a second of reading an array and writing one, on the device."""
    size = megabytes * 1_000_000 // 4
    tensor = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name in "xy"]
    one = numpy_helper.from_array(np.float32(1), "one")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["y"])], "copy", tensor[:1], tensor[1:], [one]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = session_of(model.SerializeToString(), provider, threads)
    binding = session.io_binding()
    given = ort.OrtValue.ortvalue_from_numpy(np.zeros(size, np.float32), provider, 0)
    made = ort.OrtValue.ortvalue_from_shape_and_type([size], np.float32, provider, 0)
    binding.bind_ortvalue_input("x", given)
    binding.bind_ortvalue_output("y", made)
    return 2 * 4 * size / seconds_each(lambda: session.run_with_iobinding(binding), seconds)


def fixed(score_onnx: bytes, batch: int, rows: int, k: int) -> bytes:
    """A score graph for one shape: k a constant, no size open."""
    model = onnx.load_model_from_string(score_onnx)
    sizes = {"B": batch, "N": rows, "M": STRUCK, "K": k}
    kept = [tensor for tensor in model.graph.input if tensor.name != "k"]
    for tensor in (*kept, *model.graph.output):
        for dim in tensor.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = sizes[dim.dim_param]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.append(numpy_helper.from_array(np.array([k], np.int64), "k"))
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


class Resident:
    """A score with everything on the device.

    Attributes
    ----------
    captured : whether a CUDA graph is replayed; else why not, on CUDA
    least_bytes : that a score cannot do without, see above
    """

    def __init__(
        self, bundle: Bundle, model: Model, batch: int, k: int, threads: int, capture: bool = True
    ) -> None:
        provider, rows = model.provider, model.rows
        graph = bundle.score_onnx
        if provider == "cuda" and bundle.cuda_onnx is not None:
            graph = bundle.cuda_onnx[1]
        graph = fixed(graph, batch, rows, k)
        rng = np.random.default_rng(5)
        table = ItemTable(bundle.vectors, bundle.manifest.item_storage, rows, provider)
        width = self._width(bundle, provider)
        self.least_bytes = rows * bundle.manifest.embedding_dim * width + 2 * 4 * batch * rows
        given = {
            "state": rng.standard_normal((batch, model.state_size)).astype(np.float32),
            "bias": model.new_bias().values,
            "excluded": rng.integers(1, bundle.manifest.items, (batch, STRUCK)),
            "beta": np.array([bundle.manifest.beta], np.float32),
        }
        self._kept: Any = {
            name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value), provider, 0)
            for name, value in given.items()
        } | table.for_score
        self.given = given
        self._made = {
            name: ort.OrtValue.ortvalue_from_shape_and_type([batch, k], kind, provider, 0)
            for name, kind in (("rows", np.int64), ("scores", np.float32))
        }
        self.captured: bool | str = False
        if provider == "cuda" and capture:
            try:
                self._open(session_of(graph, provider, threads, enable_cuda_graph="1"))
                self.captured = True
                return
            except Exception as error:  # ONNX Runtime's errors share no base class
                self.captured = str(error).strip().splitlines()[0][:200]
        self._open(session_of(graph, provider, threads))

    @staticmethod
    def _width(bundle: Bundle, provider: str) -> int:
        """Bytes of a number of the table that the product reads."""
        storage = bundle.manifest.item_storage
        return 4 if provider == "cpu" and storage == "float16" else np.dtype(storage).itemsize

    def _open(self, session: Any) -> None:
        self._session, self._binding = session, session.io_binding()
        for name, value in self._kept.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._made.items():
            self._binding.bind_ortvalue_output(name, value)
        self.run()
        self.run()  # the first one captures, the second one replays

    def run(self) -> None:
        """Once."""
        self._session.run_with_iobinding(self._binding)

    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        """What the last run made: rows and scores, shape (batch, k)."""
        return self._made["rows"].numpy(), self._made["scores"].numpy()


def served(model: Model, batch: int, k: int, seconds: float) -> float:
    """Seconds of a `Model.score` of `batch` users."""
    rng = np.random.default_rng(6)
    state = rng.standard_normal((batch, model.state_size)).astype(np.float32)
    struck = rng.integers(1, model.bundle.manifest.items, (batch, STRUCK))
    bias, beta = model.new_bias(), model.bundle.manifest.beta
    return seconds_each(lambda: model.score(state, bias, struck, beta, k), seconds)


class Shop:
    """An engine with one partition, fed with clicks of strangers."""

    def __init__(self, model: Model, k: int) -> None:
        self._engine = Engine(
            model,
            Catalogue(model.bundle.item_ids),
            kinds={"clicks": "clicks"},
            placements={"home": Placement(k=k)},
            ring=50,
        )
        self._shard = self._engine.new_shard(0, 1)
        self._rng = np.random.default_rng(7)
        self._items = len(model.bundle.item_ids) - 1
        self._offset = 0

    def batch(self, users: int) -> RecordBatch:
        """A click of each of so many users."""
        rows = self._rng.integers(1, self._items + 1, users).tolist()
        keys = [b"u%d" % user for user in range(users)]
        values = [
            msgspec.json.encode(
                {
                    "user_id": key.decode(),
                    "item_id": f"i{row}",
                    "type": EventType.CLICK.name.lower(),
                    "event_time_ms": NOW_MS,
                }
            )
            for key, row in zip(keys, rows, strict=True)
        ]
        first, self._offset = self._offset, self._offset + users
        offsets = list(range(first, self._offset))
        times_ms = [NOW_MS] * users
        return RecordBatch("clicks", 0, first, self._offset, keys, values, offsets, times_ms)

    def step(self, batch: RecordBatch) -> int:
        """Lists made of it."""
        (result,) = self._engine.step([Part(self._shard, batch, 0)], NOW_MS).parts
        return len(result.list_values)

    def seconds(self, users: int, seconds: float) -> float:
        """Of a step with a click of each of so many users, and a list for each."""
        taken: list[float] = []
        self.step(self.batch(users))
        until = perf_counter() + seconds
        while len(taken) < 3 or perf_counter() < until:
            batch = self.batch(users)
            started = perf_counter()
            made = self.step(batch)
            taken.append(perf_counter() - started)
            if made != users:
                raise AssertionError(f"{made} lists for {users} users")
        return float(np.median(taken))
