"""How a model that was just trained is to be stored. In: the model, a judge. Out: `Wanted`, losses.

What rounding costs is measured on held-out events, with the engine's own fold. Must not know: logs,
how a model is trained.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from export.compression.bundle import NotPackableError, States, compress
from export.measuring.measure import Measured
from stream.core.model import Model
from stream.core.packing import Storage

MAX_LOSS = 0.005  # recall@20 that int8 states may cost before float32 is chosen
METRICS = ("recall@20", "ndcg@20")

Judge = Callable[[Model, States], Measured]
Report = Callable[[str], None]


class Wanted(NamedTuple):
    """How it is to be stored.

    Attributes
    ----------
    states : None: int8 where the model asks for it and that costs no more than `MAX_LOSS`
    """

    items: Storage = "float32"
    states: States | None = None


def settle(
    model: Model, measured: Measured, judge: Judge, wanted: Wanted, report: Report
) -> tuple[Wanted, dict[str, Any]]:
    """Decide, and say for the manifest what it costs.

    Parameters
    ----------
    model : trained on the older events, with float32 items
    measured : its lists, with the states that its bundle asks for
    judge : measures a model with states stored in a given way

    Returns
    -------
    what it is to be, `states` decided and `items` "float32" where they cannot be packed; metrics
    """
    asked: States = model.bundle.manifest.state.storage
    metrics: dict[str, Any] = {}
    states: States = wanted.states or asked
    by_states = {asked: measured}
    if states == "int8":
        other: States = "float32" if asked == "int8" else "int8"
        by_states[other] = judge(model, other)
        loss = _loss(by_states["float32"], by_states["int8"])["recall@20"]
        metrics["int8_recall_loss"] = loss
        if wanted.states is None and loss > MAX_LOSS:
            states = "float32"
        report(f"int8 states cost {loss:+.4f} recall@20: {states}")
    if wanted.items == "float32":
        return Wanted("float32", states), metrics
    with tempfile.TemporaryDirectory(prefix="freshet-export-") as scratch:
        try:
            packed = compress(model.bundle, Path(scratch) / "packed", wanted.items, states)
        except NotPackableError as error:
            report(f"items stay float32: {error}")
            return Wanted("float32", states), metrics
        found = judge(Model(packed, "cpu", spare_rows=0), states)
    base = by_states[states] if states in by_states else judge(model, states)
    losses = _loss(base, found)
    metrics["packed_items"] = {"storage": wanted.items, "losses": losses}
    told = ", ".join(f"{loss:+.4f} {name}" for name, loss in losses.items())
    report(f"{wanted.items} items cost {told}")
    return Wanted(wanted.items, states), metrics


def _loss(plain: Measured, packed: Measured) -> dict[str, float]:
    return {name: round(plain.metrics[name] - packed.metrics[name], 4) for name in METRICS}
