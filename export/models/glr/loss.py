"""Cross-entropy of a softmax over many items, by chunks. PyTorch.

Logits of all positions and all items at once would not fit a cache, let alone a memory; each chunk
makes its own, and its share of the gradients with them, in bfloat16 products with float32 sums.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 512  # positions


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
        half = torch.bfloat16
        table_half, interest_half = table.to(half), interest.to(half)
        of_interest = torch.empty_like(interest)
        of_table = torch.zeros_like(table)
        of_shift = torch.zeros_like(shift)
        weight = weights[:, None]
        at_target = table[targets]
        target_logit = (interest * at_target).sum(1) + shift[targets]
        total = torch.zeros((), dtype=torch.float64, device=interest.device)
        for begin in range(0, len(interest), CHUNK):
            part = slice(begin, begin + CHUNK)
            logits = torch.mm(interest_half[part], table_half.t()).float().add_(shift)
            logsum = torch.logsumexp(logits, 1, keepdim=True)
            total += (weights[part] * (logsum[:, 0] - target_logit[part])).sum()
            share = logits.sub_(logsum).exp_().mul_(weight[part])
            of_shift += share.sum(0)
            share_half = share.to(half)
            of_interest[part] = torch.mm(share_half, table_half)
            of_table += torch.mm(share_half.t(), interest_half[part])
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
