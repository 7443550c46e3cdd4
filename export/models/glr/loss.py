"""Cross-entropy of a softmax over many items, by chunks. PyTorch.

Logits of all positions and all items at once would not fit a cache, let alone a memory; each chunk
makes its own, and its share of the gradients with them, in bfloat16 products with float32 sums.

The library compiles a product anew for each shape and keeps it: a thousand shapes are gigabytes. So
chunks come in few sizes, and `fitting` rounds the number of items.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 512  # positions, at most: what fits a CPU's cache
CHUNK_ON_GPU = 8192  # fewer calls; with 8,000 items 400 MB
CHUNKS_OF = 64  # their number is a multiple of this


def cross_entropy(
    interest: Tensor,
    table: Tensor,
    biases: Tensor,
    targets: Tensor,
    weights: Tensor,
    correction: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Weighted mean of -log softmax(interest @ table' + biases + correction)[target].

    Parameters
    ----------
    interest : float [N, d], scaled
    table, biases : float [M, d], [M]; of the items that are in the softmax
    targets : int64 [N], indices of `table`
    weights : float [N]
    correction : float [M]; the log of how many items each one stands for, where they were sampled
        (logQ: Bengio and Senecal 2008)
    smoothing : share of the probability that the target gives to all M alike
    """
    shift = biases if correction is None else biases + correction
    loss: Tensor = _CrossEntropy.apply(
        interest, table, shift, targets, weights / weights.sum(), smoothing
    )
    return loss


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        interest: Tensor,
        table: Tensor,
        shift: Tensor,
        targets: Tensor,
        weights: Tensor,
        smoothing: float,
    ) -> Tensor:
        half, count, items = torch.bfloat16, len(interest), len(table)
        chunks = -(-count // (CHUNK if interest.device.type == "cpu" else CHUNK_ON_GPU))
        size = -(-count // (chunks * CHUNKS_OF)) * CHUNKS_OF
        table_half = table.to(half)
        interest_half = interest.new_zeros(chunks * size, interest.shape[1], dtype=half)
        interest_half[:count] = interest
        weight_padded = weights.new_zeros(chunks * size, 1)
        weight_padded[:count, 0] = weights
        of_interest = torch.empty_like(interest_half, dtype=interest.dtype)
        of_table = torch.zeros_like(table)
        of_shift = torch.zeros_like(shift)
        products = interest.new_empty(size, items, dtype=half)
        odds = interest.new_empty(size, items)
        logsums = weights.new_empty(chunks * size)
        for begin in range(0, chunks * size, size):
            part = slice(begin, begin + size)
            torch.mm(interest_half[part], table_half.t(), out=products)
            torch.add(products, shift, out=odds)
            largest = odds.amax(1, keepdim=True)
            total = odds.sub_(largest).exp_().sum(1, keepdim=True)
            logsums[part] = (largest + total.log())[:, 0]
            share = weight_padded[part] / total
            of_shift += (share.t() @ odds)[0]
            products.copy_(odds)
            of_interest[part] = torch.mm(products, table_half) * share
            of_table += torch.mm(products.t(), (interest_half[part] * share).to(half))
        of_interest = of_interest[:count]
        weight = weights[:, None]
        at_target = table[targets]
        target_logit = (interest * at_target).sum(1) + shift[targets]
        total = (weights * (logsums[:count] - target_logit)).sum().double()
        # What is wanted: the target, and of the smoothed share the mean of all items.
        sharp = 1 - smoothing
        of_interest -= sharp * weight * at_target
        of_table.index_add_(0, targets, weight * interest, alpha=-sharp)
        of_shift.index_add_(0, targets, weights, alpha=-sharp)
        if smoothing:
            mean = table.mean(0)
            of_interest -= smoothing * weight * mean
            of_table -= smoothing / len(table) * (weight * interest).sum(0)
            of_shift -= smoothing / len(table)
            spread = (weight * interest).sum(0) @ mean + shift.mean()
            total += smoothing * ((weights * target_logit).sum() - spread)
        ctx.save_for_backward(of_interest, of_table, of_shift)
        return total.to(interest.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (*(saved * gradients[0] for saved in ctx.saved_tensors), None, None, None)
