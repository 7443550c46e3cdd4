"""The network: item vectors in, an interest vector after every event out. PyTorch.

A gated linear recurrence (one layer):

    v, g, a = W x',  f = sigmoid(a),  h[t] = f h[t-1] + (1 - f) v
    y = x + W (h * silu(g)),  then y + MLP(y')

x begins as the item's vector (scaled, with `cosine`; else after LayerNorm, so that what all events
have in common does not drown it) and the vectors of the event's type and time gap; x' is x after
LayerNorm. The interest is the sum of two readouts of the last layer's output y'

    mean:   o[t] = f o[t-1] + w u[t], f = sigmoid and w = exp of two numbers of W y', u the item's
            vector (Hou et al. 2022, "CORE", made recurrent)
    query:  W y'

scaled to length 1. The logit of an item is scale * cosine + bias. `graphs.py` has the same, one
event at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.models.base import Float32, Int64
from export.models.glr.parameters import LEAST_LENGTH, WIDEST, Parameters
from export.models.glr.scan import scan
from export.models.glr.sequences import GAPS, TYPES
from stream.errors import UsageError

FREE_SPREAD = 0.02  # of item vectors at the start, where their length is free


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """What is mixed into each item's vector. `rows`: int64 [n, K]; `shares`: float32 [n, K]."""

    rows: Int64
    shares: Float32


class Layer(nn.Module):
    """One gated linear recurrence with its MLP."""

    def __init__(self, p: Parameters) -> None:
        super().__init__()
        self.width = p.state
        self.before = nn.LayerNorm(p.dim)
        self.inward = nn.Linear(p.dim, 3 * p.state)
        self.outward = nn.Linear(p.state, p.dim)
        self.between = nn.LayerNorm(p.dim)
        self.widen = nn.Linear(p.dim, p.hidden)
        self.narrow = nn.Linear(p.hidden, p.dim)
        self.drop = nn.Dropout(p.dropout)
        for linear in (self.inward, self.outward, self.widen, self.narrow):
            nn.init.trunc_normal_(linear.weight, std=linear.in_features**-0.5)
            nn.init.zeros_(linear.bias)
        nn.init.normal_(self.inward.weight[2 * p.state :], std=0.02)
        memory = torch.exp(torch.linspace(math.log(1.1), math.log(p.longest_memory), p.state))
        with torch.no_grad():
            self.inward.bias[2 * p.state :] = torch.log(memory - 1)  # logit of 1 - 1 / memory
            self.outward.weight.mul_(0.5)
            self.narrow.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        value, gate, forget = self.inward(self.before(x)).split(self.width, -1)
        forget = torch.sigmoid(forget)
        states = scan(forget, (1 - forget) * value)
        x = x + self.drop(self.outward(states * functional.silu(gate)))
        return x + self.drop(self.narrow(functional.gelu(self.widen(self.between(x)))))


class Network(nn.Module):
    """Item vectors, layers and readouts.

    Parameters
    ----------
    items : n, rows of the item table; row 0 is "no item"
    neighbours : of every row; None for none
    """

    def __init__(self, items: int, p: Parameters, neighbours: Neighbours | None) -> None:
        super().__init__()
        self.p = p
        spread = p.dim**-0.5 if p.cosine else FREE_SPREAD
        self.items = nn.Parameter(torch.randn(items, p.dim) * spread)
        self.biases = nn.Parameter(torch.zeros(items))
        self.log_scale = nn.Parameter(torch.tensor(math.log(p.scale) if p.cosine else 0.0))
        self.log_scale.requires_grad_(p.cosine)
        if not p.cosine:
            self.first = nn.LayerNorm(p.dim)
        self.types = nn.Parameter(torch.zeros(TYPES, p.dim))
        self.gaps = nn.Parameter(torch.zeros(GAPS, p.dim))
        self.layers = nn.ModuleList([Layer(p) for _ in range(p.layers)])
        self.last = nn.LayerNorm(p.dim)
        if p.mean:
            self.weigh = nn.Linear(p.dim, 2)
            nn.init.zeros_(self.weigh.weight)
            with torch.no_grad():
                self.weigh.bias.copy_(torch.tensor([0.0, 0.5]))
        if p.query:
            self.ask = nn.Linear(p.dim, p.dim, bias=False)
            # Layers begin near the identity, so alone it begins with the item of the last event.
            nn.init.zeros_(self.ask.weight) if p.mean else nn.init.eye_(self.ask.weight)
        near, shares = None, None
        if neighbours is not None:
            near, shares = torch.from_numpy(neighbours.rows), torch.from_numpy(neighbours.shares)
        self.near: Tensor | None
        self.shares: Tensor | None
        self.register_buffer("near", near, persistent=False)
        self.register_buffer("shares", shares, persistent=False)

    def table(self, rows: Tensor | None = None) -> Tensor:
        """Vectors of some rows (int64 [m]) or all: float [m, d], of length 1 with `cosine`."""
        own = self.items if rows is None else functional.embedding(rows, self.items)
        if self.near is None or self.shares is None:
            return unit(own) if self.p.cosine else own
        near, shares = self.near, self.shares
        if rows is not None:
            near, shares = near[rows], shares[rows]
        if self.training and self.p.edge_dropout:
            kept = torch.rand(shares.shape, device=shares.device) >= self.p.edge_dropout
            shares = shares * kept / (1 - self.p.edge_dropout)
        mixed = functional.embedding_bag(near, self.items, per_sample_weights=shares, mode="sum")
        own = own + self.p.smoothing * mixed
        return unit(own) if self.p.cosine else own

    def forward(self, rows: Tensor, types: Tensor, gaps: Tensor, table: Tensor) -> Tensor:
        """The interest after each event.

        Parameters
        ----------
        rows : int64 [L, B], of `table`
        types, gaps : int64 [L, B]
        table : float [m, d], from `table`

        Returns
        -------
        float [L, B, d], of length 1 with `cosine`
        """
        p = self.p
        item = functional.dropout(functional.embedding(rows, table), p.input_dropout, self.training)
        x = item * math.sqrt(p.dim) if p.cosine else self.first(item)
        x = x + functional.embedding(types, self.types) + functional.embedding(gaps, self.gaps)
        for layer in self.layers:
            x = layer(x)
        x = self.last(x)
        interest = self.ask(x) if p.query else None
        if p.mean:
            weight, forget = self.weigh(x).split(1, -1)
            weight = torch.exp(weight.clamp(-WIDEST, WIDEST))
            mean = scan(torch.sigmoid(forget), weight * item)
            interest = mean if interest is None else mean + interest
        assert interest is not None
        return unit(interest) if p.cosine else interest


def unit(x: Tensor) -> Tensor:
    """Scaled to length 1 along the last axis; a short one stays short."""
    return x / (x.norm(dim=-1, keepdim=True) + LEAST_LENGTH)


def begin(network: Network, values: Mapping[str, Float32]) -> None:
    """Set the parameters, as `numbers` gives them, in place. Rows of NaN keep their random vector.

    Raises
    ------
    UsageError
        They are those of another network.
    """
    known = torch.from_numpy(np.isfinite(values["biases"]))
    found = {name: torch.from_numpy(value) for name, value in values.items()}
    own = network.state_dict()
    found["items"] = torch.where(known[:, None], found["items"], own["items"])
    usual = found["biases"][known].mean()  # a softmax only sees differences
    found["biases"] = torch.where(known, found["biases"], usual)
    try:
        network.load_state_dict(found)
    except RuntimeError:
        raise UsageError(
            "--warm: its network.npz is of another network; train without --warm"
        ) from None


def numbers(network: Network) -> dict[str, Float32]:
    """The parameters by name, as float32 arrays."""
    return {
        name: value.detach().cpu().numpy().astype(np.float32)
        for name, value in network.state_dict().items()
    }
