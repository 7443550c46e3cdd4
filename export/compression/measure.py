"""What packing costs and gains. In: a float32 bundle, questions. Out: a line for each way to pack.

Lists are made as `freshet-export evaluate` makes them: by the packed graphs, through the engine's
own fold, with states rounded after every event. Must not know: the command line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from export.compression.bundle import States, compress
from export.data.dataset import Log
from export.measuring.evaluate import AS_SERVED, Answers, replay
from export.measuring.measure import judge
from export.measuring.questions import Questions, last_items
from export.models.base import Float32, Int64
from stream.contracts import EventType
from stream.core.bundle import MANIFEST, Bundle
from stream.core.model import Model
from stream.core.packing import Storage, pack

K = 20
METRICS = (f"recall@{K}", f"ndcg@{K}")
BATCHES = (1, 16, 64)
STRUCK = 50  # rows left out of each timed list
ROUNDS = 7
SECONDS = 0.15  # a variant and batch, at least, in all rounds
USERS, EVENTS = 400, 12  # of the random histories

Report = Callable[[str], None]


class Way(NamedTuple):
    """How item vectors and states are stored."""

    items: Storage
    states: States


PLAIN = Way("float32", "float32")
WAYS = (
    PLAIN,
    Way("float16", "float32"),
    Way("int8", "float32"),
    Way("float32", "int8"),
    Way("int8", "int8"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one way.

    Attributes
    ----------
    stored_bytes, resident_bytes : of the item table: in the bundle, and in a worker on a CPU
    state_bytes : of a user's state vector
    bundle_bytes : of the whole bundle, without graphs for CUDA
    us_by_batch : users at once -> microseconds a user, the median; one thread of this CPU
    found : share of the best K by its own vectors, all of them scored in float32, that are listed
    overlap : share of the items that float32 lists and it lists, too
    metrics : recall and NDCG, and
    losses : float32's minus these; both empty where nothing is known of what users did next
    """

    items: Storage
    states: States
    stored_bytes: int
    resident_bytes: int
    state_bytes: int
    bundle_bytes: int
    us_by_batch: dict[int, float]
    found: float
    overlap: float
    metrics: dict[str, float]
    losses: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def weigh(
    bundle: Bundle,
    asked: Questions | None,
    report: Report,
    ways: Sequence[Way] = WAYS,
    batches: Sequence[int] = BATCHES,
) -> list[Outcome]:
    """Pack a bundle in several ways and measure each.

    Parameters
    ----------
    asked : what users did next; None: lists of random histories are compared, and no metric is told

    Raises
    ------
    UsageError
        The bundle is packed already, or cannot be.
    """
    ways = list(dict.fromkeys((PLAIN, *ways)))
    questions = random_questions(bundle) if asked is None else asked
    with packed_models(bundle, list(dict.fromkeys(way.items for way in ways))) as models:
        report("timing")
        times = {batch: time_lists(models, batch) for batch in batches}
        found = {items: share_found(models["float32"], model) for items, model in models.items()}
        rules = msgspec.structs.replace(AS_SERVED, k=K)
        outcomes: list[Outcome] = []
        plain: Answers | None = None
        for way in ways:
            report(f"lists of {way.items} items, {way.states} states")
            model = models[way.items]
            answers = replay(model, questions, rules=rules, storage=way.states)
            plain = plain or answers
            metrics = {} if asked is None else _metrics(model, answers)
            before = outcomes[0].metrics if outcomes else metrics
            outcomes.append(
                Outcome(
                    *way,
                    stored_bytes=pack(bundle.embeddings, way.items).nbytes,
                    resident_bytes=model.table_bytes,
                    state_bytes=model.state_size * np.dtype(way.states).itemsize,
                    bundle_bytes=_bytes_of(model.bundle),
                    us_by_batch={batch: round(times[batch][way.items], 1) for batch in batches},
                    found=found[way.items],
                    overlap=overlap(answers.listed, plain.listed),
                    metrics=metrics,
                    losses={name: round(before[name] - metrics[name], 5) for name in metrics},
                )
            )
    return outcomes


def _bytes_of(bundle: Bundle) -> int:
    return sum((bundle.path / name).stat().st_size for name in (MANIFEST, *bundle.manifest.files))


def _metrics(model: Model, answers: Answers) -> dict[str, float]:
    measured = judge(model, answers, (K,), AS_SERVED, "ring", None)
    return {name: measured.metrics[name] for name in METRICS}


@contextmanager
def packed_models(bundle: Bundle, storages: Sequence[Storage]) -> Iterator[dict[Storage, Model]]:
    """The bundle's model on the CPU, its items stored in each way."""
    with tempfile.TemporaryDirectory(prefix="freshet-export-") as scratch:
        models: dict[Storage, Model] = {}
        for storage in storages:
            one = bundle
            if storage != "float32":
                one = compress(bundle, Path(scratch) / storage, storage, "float32", cuda=False)
            models[storage] = Model(one, "cpu", spare_rows=0)
        yield models


def random_questions(bundle: Bundle) -> Questions:
    """Users who click on items at random."""
    rng = np.random.default_rng(0)
    events = USERS * EVENTS
    log = Log(
        users=[f"u{user}" for user in range(USERS)],
        items=bundle.item_ids[1:],
        user=np.repeat(np.arange(USERS), EVENTS),
        item=rng.integers(0, len(bundle.item_ids) - 1, events),
        event_type=np.full(events, int(EventType.CLICK)),
        time_ms=np.tile(np.arange(EVENTS) * 60_000 + 1_700_000_000_000, USERS),
        session=np.repeat(np.arange(USERS), EVENTS),
        quantity=np.ones(events),
        price=np.zeros(events),
        titles={},
    )
    return last_items(log)


def random_states(model: Model, users: int, seed: int = 0) -> Float32:
    """States after a few random clicks: float32, shape (users, S)."""
    rng = np.random.default_rng(seed)
    state = np.zeros((users, model.state_size), np.float32)
    click, gaps_s = np.full(users, int(EventType.CLICK)), np.full(users, 60, np.float32)
    for _ in range(EVENTS):
        rows = rng.integers(1, model.bundle.manifest.items, users)
        state = model.update(state, rows, click, gaps_s)
    return state


def time_lists(models: Mapping[Storage, Model], batch: int) -> dict[Storage, float]:
    """Microseconds a user of a list of K, the median; the models take turns."""
    rng = np.random.default_rng(1)
    asked = {}
    for items, model in models.items():
        struck = rng.integers(1, model.bundle.manifest.items, (batch, STRUCK))
        beta = model.bundle.manifest.beta
        asked[items] = (random_states(model, batch), model.new_bias(), struck, beta, K)
        model.score(*asked[items])
    taken: dict[Storage, list[float]] = {items: [] for items in models}
    for _ in range(ROUNDS):
        for items, model in models.items():
            started, until = perf_counter(), perf_counter() + SECONDS / ROUNDS
            while started < until:
                model.score(*asked[items])
                ended = perf_counter()
                taken[items].append(ended - started)
                started = ended
    return {items: float(np.median(s)) * 1e6 / batch for items, s in taken.items()}


def share_found(plain: Model, packed: Model, users: int = 64) -> float:
    """Share of the best K by the packed model's own vectors that it lists, for random states.

    `plain` scores all items in float32; it is given these vectors for that, and its own again.
    """
    rows = np.arange(1, packed.bundle.manifest.items)
    own = plain.embeddings[rows]
    plain.set_embeddings(rows, packed.embeddings[rows])
    try:
        states = random_states(plain, users)
        lists = [_lists(model, states) for model in (packed, plain)]
    finally:
        plain.set_embeddings(rows, own)
    return overlap(*lists)


def _lists(model: Model, states: Float32) -> Int64:
    struck = np.zeros((len(states), 1), np.int64)
    listed = []
    for first in range(0, len(states), 16):
        some = slice(first, first + 16)
        beta = model.bundle.manifest.beta
        listed.append(model.score(states[some], model.new_bias(), struck[some], beta, K)[0])
    return np.concatenate(listed)


def overlap(listed: Int64, of: Int64) -> float:
    """Share of the rows of `of` that `listed` has, list by list; 0 is no row."""
    same = (listed[:, None, :] == of[:, :, None]).any(axis=2) & (of > 0)
    return round(float(same.sum() / max((of > 0).sum(), 1)), 5)


def as_table(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each, under a head."""
    batches = list(outcomes[0].us_by_batch)
    metrics = list(outcomes[0].metrics)
    head = ["items", "states", "table MB", "resident MB", "bundle MB", "state B"]
    head += [f"us/user, {batch}" for batch in batches]
    head += ["found", "overlap", *metrics, *(f"loss of {name}" for name in metrics)]
    lines = [head]
    for outcome in outcomes:
        lines.append(
            [
                outcome.items,
                outcome.states,
                f"{outcome.stored_bytes / 1e6:,.2f}",
                f"{outcome.resident_bytes / 1e6:,.2f}",
                f"{outcome.bundle_bytes / 1e6:,.2f}",
                f"{outcome.state_bytes:,}",
                *(f"{outcome.us_by_batch[batch]:,.1f}" for batch in batches),
                f"{outcome.found:.4f}",
                f"{outcome.overlap:.4f}",
                *(f"{outcome.metrics[name]:.4f}" for name in metrics),
                *(f"{outcome.losses[name]:+.4f}" for name in metrics),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.rjust, line, widths)) for line in lines]
