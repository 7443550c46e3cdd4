"""What users ask a network to change, bounded. In: their windows. Out: clipped sums. PyTorch.

The loss of a user is the mean cross-entropy of what came next in one window of that user's events,
and knows nothing of other users. Gradients of item vectors, of item biases and of the network are
clipped apart, so that the strong ones do not drown the others (McMahan et al. 2018, "per-layer").
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from export.models.base import Int64
from export.models.glr.network import Network, unit
from export.models.glr.scan import by_autograd

GROUPS: Final = 3  # item vectors, item biases, the network
AT_ONCE: Final = 4_000_000  # numbers of the gradients and logits of users looked at together
BARRED: Final = -1e9  # logit of a column that is not in the softmax


class Windows(NamedTuple):
    """A window of each of U users. int64 [U, L], 0 where one has ended.

    Attributes
    ----------
    rows, types, gaps : of each event but the last
    targets : row of the event after it; every event turns towards its item
    """

    rows: Int64
    types: Int64
    gaps: Int64
    targets: Int64


class Gradients(NamedTuple):
    """Of users side by side, or their sum. `items`: [..., n, d]; `biases`: [..., n]."""

    items: Tensor
    biases: Tensor
    network: dict[str, Tensor]


def clipped_sum(network: Network, windows: Windows, shared: Int64, clip: float) -> Gradients:
    """The sum over users of their gradients, each of a length of `clip` at most.

    Parameters
    ----------
    shared : int64 [m], ascending; rows of the items in every user's softmax, beside the user's own:
        all of them, or some that do not depend on data
    clip : C; each group of a user is clipped to C / sqrt(3). inf: none is
    """
    total = Gradients(
        torch.zeros_like(network.items),
        torch.zeros_like(network.biases),
        {name: torch.zeros_like(value) for name, value in _inner(network).items()},
    )
    limit = clip / math.sqrt(GROUPS)
    longest = windows.rows.shape[1]
    columns = len(shared) + longest + 1
    chunk = max(1, AT_ONCE // (columns * (network.p.dim + longest)))
    for first in range(0, len(windows.rows), chunk):
        some = Windows(*(column[first : first + chunk] for column in windows))
        rows, found = user_gradients(network, some, shared)
        of_items, of_biases, of_network = (
            torch.clamp(limit / length.clamp(min=1e-12), max=1.0) for length in lengths(found)
        )
        flat = rows.flatten()
        total.items.index_add_(0, flat, (found.items * of_items[:, None, None]).flatten(0, 1))
        total.biases.index_add_(0, flat, (found.biases * of_biases[:, None]).flatten())
        for name, value in found.network.items():
            total.network[name] += torch.tensordot(of_network, value, 1)
    return total


def lengths(found: Gradients) -> tuple[Tensor, Tensor, Tensor]:
    """Euclidean length of each user's gradient, by group: [U] each."""
    inner = torch.cat([value.reshape(len(value), -1) for value in found.network.values()], 1)
    return found.items.flatten(1).norm(dim=1), found.biases.norm(dim=1), inner.norm(dim=1)


def user_gradients(network: Network, windows: Windows, shared: Int64) -> tuple[Tensor, Gradients]:
    """Rows int64 [U, M], and the gradients of their items [U, M, d], biases [U, M] and the rest.

    A user's columns are the shared rows and, where these are not all, the window's own ones, each
    row in one column: else its parts would be clipped apart.
    """
    users, n, items = len(windows.rows), len(shared), len(network.items)
    if n == items - 1:
        rows = np.broadcast_to(shared, (users, n))
        events, targets = np.maximum(windows.rows - 1, 0), np.maximum(windows.targets - 1, 0)
        shift = np.zeros(rows.shape, np.float32)
    else:
        own = np.concatenate([windows.rows[:, :1], windows.targets], axis=1)
        first = (own[:, :, None] == own[:, None, :]).argmax(2)
        rows = np.concatenate([np.broadcast_to(shared, (users, n)), own], axis=1)
        taken = (shared[None, :, None] == own[:, None, :]).any(2)
        again = (first != np.arange(own.shape[1])) | (own == 0)
        # The shared ones stand for all items (logQ: Bengio and Senecal 2008).
        others = np.full((users, n), math.log((items - 1) / n), np.float32)
        shift = np.concatenate([others, np.zeros(own.shape, np.float32)], axis=1)
        shift[np.concatenate([taken, again], axis=1)] = BARRED
        events, targets = n + first[:, :-1], n + first[:, 1:]
    weights = (windows.targets > 0).astype(np.float32)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1)
    at = torch.from_numpy(np.array(rows))
    columns = (events, windows.types, windows.gaps, targets, weights, shift)

    def loss(
        inner: dict[str, Tensor],
        vectors: Tensor,
        biases: Tensor,
        events: Tensor,
        types: Tensor,
        gaps: Tensor,
        targets: Tensor,
        weights: Tensor,
        shift: Tensor,
    ) -> Tensor:
        """Of one user."""
        table = unit(vectors)
        given = (column[:, None] for column in (events, types, gaps))
        interest = functional_call(network, inner, (*given, table))[:, 0]
        logits = interest @ table.T * inner["log_scale"].exp() + biases + shift
        return (functional.cross_entropy(logits, targets, reduction="none") * weights).sum()

    with by_autograd():
        gradient = vmap(grad(loss, argnums=(0, 1, 2)), in_dims=(None, *[0] * 8))
        inner, vectors, biases = gradient(
            _inner(network),
            network.items.detach()[at],
            network.biases.detach()[at],
            *(torch.from_numpy(np.ascontiguousarray(column)) for column in columns),
        )
    return at, Gradients(vectors, biases, inner)


def _inner(network: Network) -> dict[str, Tensor]:
    """Parameters that belong to no item, by name."""
    return {
        name: value.detach()
        for name, value in network.named_parameters()
        if name not in ("items", "biases")
    }
