"""What every model hands over for export, and what all of them take from a log.

`Trained` is a model as the bundle writer wants it: graphs, tables, and a NumPy reference that says
what the graphs must compute. Item vectors and popularity are shared by the models.

Must not know: which models exist, the bundle's files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import eigsh

from export.calibration import Calibration
from export.data.dataset import Log
from export.models.content_map import ContentMap
from export.models.warm import WarmStart
from export.to_onnx import with_calibration
from export.weights import turns_towards
from stream.contracts import EventType
from stream.core.bundle import NEVER_LISTED, Additive, Head
from stream.errors import UsageError

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Up to here all eigenvectors are computed: Lanczos can miss equal eigenvalues, which small
# catalogues of separate themes have.
DENSE_ITEMS = 1_000


class Reference(Protocol):
    """The model in NumPy, float64 inside: what the graphs are checked against."""

    def update(
        self, state: Float32, item_rows: Int64, event_types: Int64, gaps_s: Float32
    ) -> Float32:
        """float32 [B, S] after one event each."""

    @property
    def logits(self) -> Callable[..., Float32]:
        """float32 [B, n], of the bundle's n rows, before exclusion, calibration and sigmoid.

        Called with the states (float32 [B, S]) and beta; where `Trained.recent` is above 0, with a
        `Recent` of such users as well.
        """


@dataclass(slots=True, eq=False)
class Trained:
    """A model ready for export. Arrays have n rows, row 0 being "no item".

    Attributes
    ----------
    model : its name in `MODELS`
    item_ids : n ids, the first one ""
    embeddings : float32, shape (n, D), of any length; row 0 zeros
    biases : float32, shape (n,); added to every logit; row 0 `NEVER_LISTED`
    state_size : S, numbers in a user's state; a user's first state is zeros
    storage : how the engine keeps them; "int8" only where that costs no recall
    item_storage : how item vectors are to be packed when the bundle is written (`compression/`);
        the arrays and graphs here are those of float32
    beta : weight of the interest against the bias, unless a placement sets another
    additive : the sums that add up to the score, for exact reasons; None if there are none
    event_weights : weight of each event type, a purchase being 1; reasons name positive ones
    update_onnx, score_onnx : serialised by `export.to_onnx`; see `export/README.md`
    reference : the same in NumPy; golden sequences come from it
    created : ISO time of the newest event trained on
    training : what the model was made from and with: counts, parameters
    recent : how many of a user's last interactions the score graph takes; 0 = none
    calibration : of the listed items' logits, in the score graph; None where there is none
    content : vectors of items that were not trained on, from their records; None if it has no such
    live_weights : the update graph takes weights and fading as inputs; needs `additive`, or
        `half_lives_s` where its sums are a part of the state
    exclude_seen, exclude_bought, metrics : filled in by `export.training.train.fit`, which measures
        them
    head : what makes scores, for people; None: the model does not say
    settled : what held-out events decided, for a training on the whole log; None: nothing
    repurchase_s : float32, shape (n,); after how long items are bought again, 0 where they are not;
        filled in by `fit`, too
    network : float32 arrays that a next training may begin from, see `WarmStart`; empty: none
    """

    model: str
    item_ids: list[str]
    embeddings: Float32
    biases: Float32
    state_size: int
    storage: Literal["float32", "int8"]
    beta: float
    additive: Additive | None
    event_weights: dict[EventType, float]
    update_onnx: bytes
    score_onnx: bytes
    reference: Reference
    created: str
    training: dict[str, Any]
    recent: int = 0
    calibration: Calibration | None = None
    content: ContentMap | None = None
    live_weights: bool = False
    half_lives_s: tuple[float, ...] = ()
    item_storage: Literal["float32", "float16", "int8"] = "float32"
    exclude_seen: bool = False
    exclude_bought: bool = True
    metrics: dict[str, Any] = field(default_factory=dict)
    head: Head | None = None
    settled: Any = None
    network: dict[str, Float32] = field(default_factory=dict)
    repurchase_s: Float32 | None = None

    def calibrated(self, calibration: Calibration) -> Trained:
        """The same model with calibrated scores; it must have none yet."""
        score_onnx = with_calibration(self.score_onnx, calibration)
        head = self.head and msgspec.structs.replace(self.head, score="calibrated sigmoid")
        return replace(self, score_onnx=score_onnx, calibration=calibration, head=head)


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Which events of a log are trained on, and which ones ask for their item.

    Attributes
    ----------
    trained : bool, shape (len(log),)
    asked : int64; positions in the log of events that are not trained on, to be predicted from all
        that their user did before
    """

    trained: npt.NDArray[np.bool_]
    asked: Int64


@dataclass(frozen=True, slots=True)
class Run:
    """Where and for how long a model trains that takes long, and who is told.

    Attributes
    ----------
    seconds : None: as many epochs as there are
    device : "cpu", "cuda", or "auto": CUDA where there is one
    checkpoint : beginning of the files to go on from; None: nothing is kept
    report : gets a line after each epoch
    keep : gets each trained network, built anew for it; None: nobody does
    watch : gets what an epoch was judged by; what it raises ends the training; None: nobody does
    warm : where the training begins; None: from nothing
    """

    seconds: float | None = None
    device: str = "auto"
    checkpoint: Path | None = None
    report: Callable[[str], None] = field(default=lambda message: None)
    keep: Callable[[Any], None] | None = None
    watch: Callable[[Mapping[str, float]], None] | None = None
    warm: WarmStart | None = None

    def part(self, share: float, name: str = "all") -> Run:
        """A share of the time, with a checkpoint of its own."""
        seconds = None if self.seconds is None else self.seconds * share
        file = self.checkpoint
        checkpoint = None if file is None else file.with_name(f"{file.name}-{name}")
        return replace(self, seconds=seconds, checkpoint=checkpoint)


@dataclass(slots=True, eq=False)
class Baskets:
    """Sessions as a sparse 0/1 matrix: one row a session, one column an item row (0 is unused)."""

    item_ids: list[str]
    matrix: sparse.csr_array

    @classmethod
    def of(cls, log: Log, min_count: int = 1) -> Baskets:
        """Sessions with what the user turned towards; cancellations and dislikes do not count.

        Parameters
        ----------
        min_count : items in fewer sessions than this get no row
        """
        log = log.select(turns_towards(log.event_type))
        pairs = np.unique(np.stack([log.session, log.item]), axis=1)
        counts = np.bincount(pairs[1], minlength=len(log.items))
        known = np.flatnonzero(counts >= max(min_count, 1))
        if len(known) < 2:
            raise UsageError(
                f"the log has {len(known)} items in {min_count} or more sessions; training needs "
                "at least two"
            )
        row_by_code = np.zeros(len(log.items), np.int64)
        row_by_code[known] = np.arange(1, len(known) + 1)
        session, row = np.unique(pairs[0], return_inverse=True)[1], row_by_code[pairs[1]]
        session, row = session[row > 0], row[row > 0]
        matrix = sparse.csr_array(
            (np.ones(len(row)), (session, row)), shape=(int(session.max()) + 1, len(known) + 1)
        )
        return cls(["", *(log.items[code] for code in known)], matrix)

    def counts(self) -> npt.NDArray[np.float64]:
        """Sessions that hold each item: float64, shape (n,)."""
        return np.asarray(self.matrix.sum(axis=0), np.float64)

    def cooccurrence(self, damping: float) -> sparse.csr_array:
        """Sessions that hold both items, [n, n], diagonal 0.

        A session of s items counts s**-damping: an order of 400 says less about each pair.
        """
        size = np.asarray(self.matrix.sum(axis=1), np.float64)
        weighted = sparse.diags_array(size**-damping) @ self.matrix
        together = sparse.csr_array(self.matrix.T @ weighted)
        together.setdiag(0)
        together.eliminate_zeros()
        return together

    def popularity_bias(self, strength: float = 1.0) -> Float32:
        """Log odds that a session holds the item, smoothed: a guest's score is a probability."""
        sessions = self.matrix.shape[0]
        share = (self.counts() + 0.5) / (sessions + 1.0)
        bias = np.log(share / (1 - np.minimum(share, 1 - 1e-6)))
        centred = bias[1:].mean() + strength * (bias - bias[1:].mean())
        centred[0] = NEVER_LISTED
        bias_by_row: Float32 = centred.astype(np.float32)
        return bias_by_row


def item_vectors(
    together: sparse.csr_array, dim: int, *, smoothing: float, power: float
) -> Float32:
    """Truncated SVD of the positive PMI of co-occurrence (Levy and Goldberg 2014).

    Parameters
    ----------
    together : symmetric counts, [n, n]
    smoothing : exponent of the context counts; below 1 it damps rare items
    power : exponent of the singular values in the vectors

    Returns
    -------
    float32, shape (n, dim). Rows of items with any neighbour have length 1; others are zeros.
    """
    if together.nnz == 0:  # every session holds one item
        return np.zeros((together.shape[0], dim), np.float32)
    pairs = together.tocoo()
    count = np.asarray(together.sum(axis=1), np.float64)
    context = np.maximum(count, 1e-12) ** smoothing
    context /= context.sum()
    joint = pairs.data / pairs.data.sum()
    target = count / count.sum()
    pmi = np.log(joint / (target[pairs.row] * context[pairs.col]))
    positive = np.maximum(pmi, 0)
    matrix = sparse.csr_array((positive, (pairs.row, pairs.col)), shape=together.shape)
    matrix = (matrix + matrix.T) / 2
    rank = min(dim, matrix.shape[0] - 1)
    if matrix.shape[0] <= DENSE_ITEMS:
        values, vectors = np.linalg.eigh(matrix.toarray())
    else:  # a fixed start makes the result repeatable
        start = np.random.default_rng(0).standard_normal(matrix.shape[0])
        values, vectors = eigsh(matrix, k=rank, which="LA", v0=start)
    # Symmetric, so eigenvectors are singular vectors.
    order = np.argsort(-values)[:rank]
    values, vectors = values[order], vectors[:, order]
    signs = np.sign(vectors[np.argmax(np.abs(vectors), axis=0), np.arange(rank)])
    # A small catalogue has fewer positive directions than dimensions; the others are noise.
    useful = values > 1e-6 * values[0]
    scaled = vectors * signs * np.where(useful, np.where(useful, values, 1) ** power, 0)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    out = np.zeros((matrix.shape[0], dim), np.float32)
    out[:, :rank] = np.where(length > 1e-9, scaled / np.maximum(length, 1e-9), 0)
    out[0] = 0
    return out
