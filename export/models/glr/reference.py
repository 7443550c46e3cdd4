"""A gated linear recurrence in NumPy, float64 inside, an event at a time: what graphs must do.

Must not know: ONNX, PyTorch.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import erf, expit

from export.models.base import Float32, Int64
from export.models.glr.graphs import EPSILON, Recurrence
from export.models.glr.parameters import LEAST_LENGTH, WIDEST
from export.models.glr.sequences import gap_bucket
from stream.core.recent import Recent

Float64 = npt.NDArray[np.float64]


class RecurrenceReference:
    """The recurrence in NumPy, float64 inside."""

    def __init__(self, r: Recurrence, table: Float32, biases: Float32) -> None:
        self._r, self._table, self._biases = r, table.astype(np.float64), biases.astype(np.float64)
        self._numbers = [
            {name: value.astype(np.float64) for name, value in member.numbers.items()}
            for member in r.members
        ]

    def update(
        self, state: Float32, item_rows: Int64, event_types: Int64, gaps_s: Float32
    ) -> Float32:
        r, p = self._r, self._r.p
        kind, gap = r.kinds[event_types], gap_bucket(np.maximum(gaps_s, 0))
        following = []
        for at, w in enumerate(self._numbers):
            own = state[:, at * r.p.member_size : (at + 1) * r.p.member_size].astype(np.float64)
            item = self._table[item_rows, at * p.dim : (at + 1) * p.dim] * math.sqrt(len(r.members))
            if p.cosine:
                x = item * math.sqrt(p.dim)
            else:
                x = _normed(item, w["first.weight"], w["first.bias"])
            x = x + w["types"][kind] + w["gaps"][gap]
            parts = []
            for layer in range(p.layers):
                x, h = self._layer(w, layer, x, own[:, layer * p.state : (layer + 1) * p.state])
                parts.append(h)
            x = _normed(x, w["last.weight"], w["last.bias"])
            if p.mean:
                mean = own[:, p.layers * p.state : p.layers * p.state + p.dim]
                both = x @ w["weigh.weight"].T + w["weigh.bias"]
                weight = np.exp(np.clip(both[:, :1], -WIDEST, WIDEST))
                parts.append(expit(both[:, 1:]) * mean + weight * item)
            if p.query:
                parts.append(x @ w["ask.weight"].T)
            following += parts
        moved = (kind > 0) & (item_rows > 0)
        changed: Float32 = np.concatenate(following, axis=1).astype(np.float32)
        return np.where(moved[:, None], changed, state).astype(np.float32)

    def _layer(
        self, w: dict[str, Float64], layer: int, x: Float64, h: Float64
    ) -> tuple[Float64, Float64]:
        def of(name: str) -> tuple[Float64, Float64]:
            return w[f"layers.{layer}.{name}.weight"], w[f"layers.{layer}.{name}.bias"]

        def linear(name: str, values: Float64) -> Float64:
            weight, bias = of(name)
            return values @ weight.T + bias

        value, gate, forget = np.split(linear("inward", _normed(x, *of("before"))), 3, axis=1)
        forget = expit(forget)
        h = forget * h + (1 - forget) * value
        x = x + linear("outward", h * gate * expit(gate))
        wide = linear("widen", _normed(x, *of("between")))
        return x + linear("narrow", wide * (1 + erf(wide / math.sqrt(2))) / 2), h

    def logits(self, state: Float32, beta: float, recent: Recent) -> Float32:
        r, p = self._r, self._r.p
        parts = []
        for at, member in enumerate(r.members):
            own = state[:, at * r.p.member_size : (at + 1) * r.p.member_size].astype(np.float64)
            interest = np.zeros((len(state), p.dim))
            for back in range(p.mean + p.query):
                first = p.layers * p.state + back * p.dim
                interest += own[:, first : first + p.dim]
            if p.cosine:
                length = np.sqrt((interest**2).sum(axis=1, keepdims=True)) + LEAST_LENGTH
                interest /= length
            parts.append(interest * member.scale * math.sqrt(len(r.members)))
        logits = np.concatenate(parts, axis=1) @ self._table.T
        for lag in range(len(r.again)):
            rows = recent.rows[:, lag]
            counts = r.turned[recent.types[:, lag]].astype(np.float64)
            at_user = np.arange(len(rows))
            logits[at_user, rows] += counts * float(r.again[lag])
            known = np.where(rows < len(r.companions.rows), rows, 0)
            brought = r.companions.worth[known] * (counts * float(r.together[lag]))[:, None]
            np.add.at(logits, (at_user[:, None], r.companions.rows[known]), brought)
        return (beta * logits + self._biases).astype(np.float32)


def _normed(x: Float64, weight: Float64, bias: Float64) -> Float64:
    centred = x - x.mean(axis=1, keepdims=True)
    normed: Float64 = (
        centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON) * weight + bias
    )
    return normed
