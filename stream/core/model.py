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
from stream.core.sessions import brief, open_sessions
from stream.errors import BundleError

REPLAY_LIMIT_S = 60.0  # of golden sequences; the demo's take 5 ms
ROWS_MULTIPLE = 128  # capacities are multiples of it, as the score graphs of all block sizes want

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class _Resident:
    """A host array and its twin on the device; on a CPU the two are the same memory."""

    def __init__(self, values: Float32, device: str) -> None:
        self._device = device
        self.replace(values)

    def replace(self, values: Float32) -> None:
        self.host = np.ascontiguousarray(values, np.float32)
        self.device_value = ort.OrtValue.ortvalue_from_numpy(self.host, self._device, 0)

    def write(self, rows: Int64, values: Float32) -> None:
        self.host[rows] = values
        if self._device != "cpu":
            self.device_value.update_inplace(self.host)


class ResidentBias:
    """One bias a row, resident beside the item table. Made by `Model.new_bias`."""

    def __init__(self, resident: _Resident) -> None:
        self._resident = resident

    @property
    def values(self) -> Float32:
        """float32, shape (rows,). A read-only view of what is scored with now."""
        return _read_only(self._resident.host)

    def set(self, rows: Int64, values: Float32 | float) -> None:
        """Change the biases of `rows` (int64, shape (m,)) in place; `NEVER_LISTED` bars an item."""
        self._resident.write(rows, np.asarray(values, np.float32))


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
        self._update, self._update_binding = update, update.io_binding()
        self._score, self._score_binding = score, score.io_binding()
        self._run_options: Any = None
        self._biases: weakref.WeakSet[ResidentBias] = weakref.WeakSet()
        capacity = _blocks(manifest.items + spare_rows)
        table = np.zeros((capacity, self.embedding_dim), np.float32)
        table[: manifest.items] = bundle.embeddings
        self._table = _Resident(table, self.provider)
        with self._at_most(REPLAY_LIMIT_S):
            self.content = ContentGraph.of(bundle, self._run_options)
            self._replay_golden()

    @property
    def rows(self) -> int:
        """Capacity of the item table: bundle's items, spare rows and padding."""
        return len(self._table.host)

    @property
    def embeddings(self) -> Float32:
        """float32, shape (rows, D). A read-only view; `set_embeddings` shows in it."""
        return _read_only(self._table.host)

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
        kept = (  # alive until the run is over: the binding holds bare pointers
            np.ascontiguousarray(state, np.float32),
            np.ascontiguousarray(item_rows, np.int64),
            np.ascontiguousarray(event_types, np.int64),
            np.ascontiguousarray(gaps_s, np.float32),
        )
        for name, value in zip(("state", "item_row", "event_type", "gap_s"), kept, strict=True):
            binding.bind_cpu_input(name, value)
        binding.bind_ortvalue_input("item_table", self._table.device_value)
        _bind_output(binding, "next_state", following)
        self._update.run_with_iobinding(binding, self._run_options)
        return following

    def score(
        self, state: Float32, bias: ResidentBias, excluded: Int64, beta: float, k: int
    ) -> tuple[Int64, Float32]:
        """The best k items of each of B states: sigmoid(beta * (u.i) + bias), exact.

        Parameters
        ----------
        state : float32, shape (B, S)
        bias : from `new_bias`
        excluded : int64, shape (B, M); rows that may not be listed; pad with 0
        beta : weight of the interest against the bias
        k : at least 1; clipped to the number of rows

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
        kept = (  # alive until the run is over: the binding holds bare pointers
            np.ascontiguousarray(state, np.float32),
            np.ascontiguousarray(excluded, np.int64),
            np.array([beta], np.float32),
            np.array([k], np.int64),
        )
        for name, value in zip(("state", "excluded", "beta", "k"), kept, strict=True):
            binding.bind_cpu_input(name, value)
        binding.bind_ortvalue_input("item_table", self._table.device_value)
        binding.bind_ortvalue_input("bias", bias._resident.device_value)
        _bind_output(binding, "rows", rows)
        _bind_output(binding, "scores", scores)
        self._score.run_with_iobinding(binding, self._run_options)
        return rows, scores

    def set_embeddings(self, rows: Int64, vectors: Float32) -> None:
        """Change item vectors in place. `rows`: int64 [m], never 0; `vectors`: float32 [m, D]."""
        self._table.write(rows, vectors)

    def grow(self, rows: int) -> None:
        """Make room for at least `rows` items. New rows are never listed until they get a bias."""
        capacity = _blocks(rows)
        added = capacity - self.rows
        if added <= 0:
            return
        old = self._table.host
        self._table.replace(np.concatenate([old, np.zeros((added, old.shape[1]), np.float32)]))
        for bias in self._biases:
            tail = np.full(added, NEVER_LISTED, np.float32)
            bias._resident.replace(np.concatenate([bias._resident.host, tail]))

    def new_bias(self, values: Float32 | None = None) -> ResidentBias:
        """A bias a row: `values` (float32, shape (n,), n <= rows), or the bundle's when None.

        Rows beyond `values`, and row 0, are never listed.
        """
        given = self.bundle.biases if values is None else values
        full = np.full(self.rows, NEVER_LISTED, np.float32)
        full[: len(given)] = given
        full[0] = NEVER_LISTED
        bias = ResidentBias(_Resident(full, self.provider))
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
        worst = 0.0
        try:
            state = np.zeros((len(golden.item_rows), self.state_size), np.float32)
            for t in range(golden.item_rows.shape[1]):
                at = (golden.item_rows[:, t], golden.event_types[:, t], golden.gaps_s[:, t])
                state = self.update(state, *at)
                worst = max(worst, _difference(state, golden.states[:, t]))
            k = golden.rows.shape[1]
            beta = self.bundle.manifest.beta
            rows, scores = self.score(state, self.new_bias(), golden.excluded, beta, k)
        except Exception as error:  # ONNX Runtime's errors share no base class
            cure = "make the bundle again with `freshet-export train`"
            raise BundleError(f"{file}: cannot be replayed ({brief(error)}); {cure}") from None
        if scores.shape == golden.scores.shape:
            worst = max(worst, _difference(scores, golden.scores))
            # Another row at a rank is a fault unless the two tie there within the tolerance.
            other = (rows != golden.rows) & (scores > 0)
            previous = np.abs(np.diff(golden.scores, axis=1, prepend=2.0))
            following = np.abs(np.diff(golden.scores, axis=1, append=golden.scores[:, -1:]))
            tied = np.minimum(previous, following) <= 2 * spec.tolerance
            swapped = bool((other & ~tied).any())
        else:
            swapped = True
        if swapped or not worst <= spec.tolerance:
            what = "lists other items" if swapped else f"differs by up to {worst:.3g}"
            raise BundleError(
                f"{file}: the {self.provider} provider {what} on the golden sequences, allowed "
                f"{spec.tolerance:.3g}; make the bundle again, or try another provider"
            )


def _blocks(rows: int) -> int:
    return -(-rows // ROWS_MULTIPLE) * ROWS_MULTIPLE


def _read_only(values: Float32) -> Float32:
    view = values.view()
    view.flags.writeable = False
    return view


def _difference(a: Float32, b: Float32) -> float:
    return float(np.max(np.abs(a - b), initial=0.0))


def _bind_output(binding: Any, name: str, into: npt.NDArray[Any]) -> None:
    # `into.ctypes.data` is the same address at five times the cost.
    address = into.__array_interface__["data"][0]
    binding.bind_output(name, "cpu", 0, into.dtype.type, into.shape, address)
