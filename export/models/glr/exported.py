"""A recurrence as the bundle writer wants it. In: tables, a `Recurrence`. Out: `Trained`. NumPy."""

from __future__ import annotations

from typing import Any

from export.models.base import Float32, Trained
from export.models.glr import graphs
from export.models.glr.reference import RecurrenceReference
from export.weights import EVENT_WEIGHTS
from stream.core.bundle import NEVER_LISTED, Head


def exported(
    recurrence: graphs.Recurrence,
    item_ids: list[str],
    table: Float32,
    biases: Float32,
    *,
    sampled: bool,
    **more: Any,
) -> Trained:
    """Graphs, tables and reference.

    Parameters
    ----------
    table, biases : float32 [n, D], [n]; row 0 is made "no item", in place
    sampled : whether the softmax of the training was over some items of the catalogue
    more : the other fields of `Trained`
    """
    table[0], biases[0] = 0, NEVER_LISTED
    return Trained(
        model="glr",
        item_ids=item_ids,
        embeddings=table,
        biases=biases,
        state_size=recurrence.state_size,
        beta=1.0,
        additive=None,
        head=Head(
            "cosine" if recurrence.p.cosine else "dot product",
            "sampled softmax" if sampled else "softmax",
        ),
        event_weights=EVENT_WEIGHTS,
        update_onnx=graphs.update(recurrence),
        score_onnx=graphs.score(recurrence),
        reference=RecurrenceReference(recurrence, table, biases),
        recent=recurrence.p.last,
        **more,
    )
