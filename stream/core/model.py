"""Run a bundle's graphs. In: states, events, exclusions. Out: next states, item rows, scores.

The item table and the biases are resident on the device and changed in place; every input and
output goes through IO binding on every provider, so that the path taken on a GPU is the one tested
on a CPU. One thread a session by default: further cores serve further workers, and micro-batches
are too small to share.

Must not know: Kafka, asyncio, users, catalogues.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from stream.core.bundle import NEVER_LISTED, Bundle
from stream.core.content_graph import ContentGraph
from stream.core.recent import Recent
from stream.core.resident import Resident, ResidentBias
from stream.core.sessions import brief, open_sessions
from stream.core.table import ItemTable
from stream.core.weighing import Weighing
from stream.errors import BundleError

REPLAY_LIMIT_S = 60.0  # of golden sequences; the demo's take 5 ms
# Users to be scored at once. The item table is packed anew for each product, since it may change
# between two, and more users share that: 234 us a user at 1, 56 at 32, 44 at 128, 43 at 256 (10,112
# items, 64 dimensions, one busy core).
USERS_AT_ONCE = 128
ROWS_MULTIPLE = 128  # capacities are multiples of it, as the score graphs of all block sizes want

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class Model:
    """A bundle's two graphs with their resident item table.

    Parameters
    ----------
    bundle : verified bundle
    provider : "auto" takes CUDA when a device is there, "cpu", or "cuda"
    spare_rows : rows kept free for items that the bundle does not know
    threads : threads of a session on the CPU

    Attributes
    ----------
    content : makes vectors of catalogue records; None where the bundle has no such graph
    recent : R, how many of a user's last interactions `score` takes; 0 = none
    weighing : the weights that `update` folds with; another one by `weigh`

    Raises
    ------
    ProviderError
        CUDA was asked for and does not work here.
    BundleError
        A graph does not load, has another signature, or misses the golden sequences.
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: Literal["auto", "cpu", "cuda"] = "auto",
        spare_rows: int = 128,
        threads: int = 1,
    ) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.provider, update, score = open_sessions(bundle, provider, threads)
        self.state_size = manifest.state.size
        self.embedding_dim = manifest.embedding_dim
        self.recent = manifest.recent
        self._update, self._update_binding = update, update.io_binding()
        self._score, self._score_binding = score, score.io_binding()
        self._run_options: Any = None
        self._biases: weakref.WeakSet[ResidentBias] = weakref.WeakSet()
        capacity = _blocks(manifest.items + spare_rows)
        self._table = ItemTable(bundle.vectors, manifest.item_storage, capacity, self.provider)
        self.weigh(Weighing.of(manifest))
        with self._at_most(REPLAY_LIMIT_S):
            self.content = ContentGraph.of(bundle, self._run_options)
            self._replay_golden()

    @property
    def rows(self) -> int:
        """Capacity of the item table: bundle's items, spare rows and padding."""
        return self._table.rows

    @property
    def table_bytes(self) -> int:
        """Bytes of the item table on the device."""
        return self._table.nbytes

    @property
    def embeddings(self) -> Float32:
        """float32, shape (rows, D). A read-only view; `set_embeddings` shows in it.

        A copy of them all where the table is packed: there `embeddings_of` takes some.
        """
        return self._table.vectors()

    def embeddings_of(self, *rows: Int64) -> tuple[Float32, list[Int64]]:
        """Some item vectors as float32, shape (m, D), and where in them each of `rows` is.

        m is as many as it takes; all of the table, without a copy, where that is float32.
        """
        return self._table.gather(*rows)

    def weigh(self, weighing: Weighing) -> None:
        """Fold by the weights of other settings from the next event on; states stay as they are.

        Lists that there are go by them after `Lists.adopt`; `Engine.adopt` does both.
        """
        self.weighing = weighing
        self._weights = [Resident(values, self.provider) for values in weighing.inputs.values()]
        for name, resident in zip(weighing.inputs, self._weights, strict=True):
            self._update_binding.bind_ortvalue_input(name, resident.device_value)

    def update(
        self, state: Float32, item_rows: Int64, event_types: Int64, gaps_s: Float32
    ) -> Float32:
        """Fold one event into each of B states.

        Parameters
        ----------
        state : float32, shape (B, S); zeros for a user's first event
        item_rows, event_types : int64, shape (B,); row 0 is "no item"
        gaps_s : float32, shape (B,); event time minus the newest event time that the state has
            seen, in seconds; negative for a late event, 0 for a user's first

        Returns
        -------
        float32, shape (B, S). A new array, bit-equal to folding the rows one by one.
        """
        following = np.empty((len(item_rows), self.state_size), np.float32)
        if len(item_rows) == 0:
            return following
        binding = self._update_binding
        kept = {  # alive until the run is over: the binding holds bare pointers
            "state": np.ascontiguousarray(state, np.float32),
            "item_row": np.ascontiguousarray(item_rows, np.int64),
            "event_type": np.ascontiguousarray(event_types, np.int64),
            "gap_s": np.ascontiguousarray(gaps_s, np.float32),
        }
        for name, value in kept.items():
            binding.bind_cpu_input(name, value)
        for name, resident in self._table.for_update.items():
            binding.bind_ortvalue_input(name, resident)
        _bind_output(binding, "next_state", following)
        self._update.run_with_iobinding(binding, self._run_options)
        return following

    def score(
        self,
        state: Float32,
        bias: ResidentBias,
        excluded: Int64,
        beta: float,
        k: int,
        recent: Recent | None = None,
    ) -> tuple[Int64, Float32]:
        """The best k items of each of B states: sigmoid(beta * affinity + bias).

        Exact; where the device holds item vectors as int8, or as float16 (on CUDA), of those that
        are the best by a product of such numbers (`export/compression/README.md`).

        Parameters
        ----------
        state : float32, shape (B, S)
        bias : from `new_bias`
        excluded : int64, shape (B, M); rows that may not be listed; pad with 0
        beta : weight of the interest against the bias
        k : at least 1; clipped to the number of rows
        recent : the users' last `self.recent` interactions; None: they have done nothing. Not
            looked at by a model that takes none

        Returns
        -------
        rows : int64, shape (B, k), best first
        scores : float32, shape (B, k), in [0, 1]; 0 where nothing was left to list
        """
        k = max(1, min(k, self.rows))
        batch = len(state)
        rows = np.empty((batch, k), np.int64)
        scores = np.empty((batch, k), np.float32)
        if batch == 0:
            return rows, scores
        if excluded.shape[1] == 0:
            excluded = np.zeros((batch, 1), np.int64)
        binding = self._score_binding
        kept = {  # alive until the run is over: the binding holds bare pointers
            "state": np.ascontiguousarray(state, np.float32),
            "excluded": np.ascontiguousarray(excluded, np.int64),
            "beta": np.array([beta], np.float32),
            "k": np.array([k], np.int64),
        }
        if self.recent:
            recent = recent or Recent.nothing(batch, self.recent)
            kept["recent_rows"] = np.ascontiguousarray(recent.rows, np.int64)
            kept["recent_types"] = np.ascontiguousarray(recent.types, np.int64)
        for name, value in kept.items():
            binding.bind_cpu_input(name, value)
        for name, resident in self._table.for_score.items():
            binding.bind_ortvalue_input(name, resident)
        binding.bind_ortvalue_input("bias", bias.resident.device_value)
        _bind_output(binding, "rows", rows)
        _bind_output(binding, "scores", scores)
        self._score.run_with_iobinding(binding, self._run_options)
        return rows, scores

    def set_embeddings(self, rows: Int64, vectors: Float32) -> None:
        """Change item vectors in place, packed like the bundle's.

        `rows`: int64 [m], never 0; `vectors`: float32 [m, D].
        """
        self._table.write(rows, vectors)

    def grow(self, rows: int) -> None:
        """Make room for at least `rows` items. New rows are never listed until they get a bias."""
        capacity = _blocks(rows)
        if capacity <= self.rows:
            return
        self._table.grow(capacity)
        for bias in self._biases:
            bias.resident.grow(capacity, NEVER_LISTED)

    def new_bias(self, values: Float32 | None = None) -> ResidentBias:
        """A bias a row: `values` (float32, shape (n,), n <= rows), or the bundle's when None.

        Rows beyond `values`, and row 0, are never listed.
        """
        given = self.bundle.biases if values is None else values
        full = np.full(self.rows, NEVER_LISTED, np.float32)
        full[: len(given)] = given
        full[0] = NEVER_LISTED
        bias = ResidentBias(Resident(full, self.provider))
        self._biases.add(bias)
        return bias

    @contextmanager
    def _at_most(self, limit_s: float) -> Iterator[None]:
        """Runs in here end with an error after `limit_s`, between two nodes of a graph."""
        self._run_options = options = ort.RunOptions()
        timer = threading.Timer(limit_s, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._run_options = None

    def _replay_golden(self) -> None:
        golden, spec = self.bundle.golden, self.bundle.manifest.golden
        file = self.bundle.path / spec.file
        states = np.empty_like(golden.states)
        try:
            state = np.zeros((len(golden.item_rows), self.state_size), np.float32)
            for t in range(golden.item_rows.shape[1]):
                at = (golden.item_rows[:, t], golden.event_types[:, t], golden.gaps_s[:, t])
                state = states[:, t] = self.update(state, *at)
            bias, beta, k = self.new_bias(), self.bundle.manifest.beta, golden.rows.shape[1]
            listed = self.score(state, bias, golden.excluded, beta, k, golden.recent)
        except Exception as error:  # ONNX Runtime's errors share no base class
            cure = "make the bundle again with `freshet-export train`"
            raise BundleError(f"{file}: cannot be replayed ({brief(error)}); {cure}") from None
        fault = golden.fault(states, *listed, spec.tolerance)
        if fault is not None:
            raise BundleError(
                f"{file}: the {self.provider} provider {fault} on the golden sequences, allowed "
                f"{spec.tolerance:.3g}; make the bundle again, or try another provider"
            )


def _blocks(rows: int) -> int:
    return -(-rows // ROWS_MULTIPLE) * ROWS_MULTIPLE


def _bind_output(binding: Any, name: str, into: npt.NDArray[Any]) -> None:
    # `into.ctypes.data` is the same address at five times the cost.
    address = into.__array_interface__["data"][0]
    binding.bind_output(name, "cpu", 0, into.dtype.type, into.shape, address)
