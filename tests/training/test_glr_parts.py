"""The scan and the loss against what PyTorch computes from their definitions."""

from __future__ import annotations

import pytest
import torch

from export.models.glr.loss import cross_entropy
from export.models.glr.scan import doubling, in_turn, scan


@pytest.mark.parametrize("length", [1, 2, 13, 64])
@pytest.mark.parametrize("width", [1, 4])
def test_both_scans_are_the_recurrence(length: int, width: int) -> None:
    torch.manual_seed(0)
    forget, arriving = torch.rand(length, 3, width).double(), torch.randn(length, 3, 4).double()
    state, expected = torch.zeros(3, 4).double(), []
    for f, b in zip(forget, arriving, strict=True):
        state = f * state + b
        expected.append(state)
    for way in (in_turn, doubling):
        torch.testing.assert_close(way(forget, arriving), torch.stack(expected))


@pytest.mark.parametrize("width", [1, 4])
def test_the_scans_gradient_is_right(width: int) -> None:
    torch.manual_seed(0)
    forget = torch.rand(7, 2, width, dtype=torch.float64, requires_grad=True)
    arriving = torch.randn(7, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(scan, (forget, arriving))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("positions", [3, 700])  # less than a chunk, and more
def test_the_chunked_loss_is_the_softmaxs(smoothing: float, positions: int) -> None:
    torch.manual_seed(0)
    interest = torch.randn(positions, 16, requires_grad=True)
    table = torch.randn(30, 16, requires_grad=True)
    biases = torch.randn(30, requires_grad=True)
    targets = torch.randint(0, 30, (positions,))
    weights, correction = torch.rand(positions), torch.randn(30)

    loss = cross_entropy(interest, table, biases, targets, weights, correction, smoothing)
    logits = torch.log_softmax(interest @ table.T + biases + correction, 1)
    of_target = logits.gather(1, targets[:, None])[:, 0]
    each = (1 - smoothing) * of_target + smoothing * logits.mean(1)
    expected = -(weights / weights.sum() * each).sum()

    torch.testing.assert_close(loss, expected, rtol=5e-3, atol=0)
    leaves = (interest, table, biases)
    found, right = torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves)
    for one, other in zip(found, right, strict=True):  # bfloat16 has three digits
        assert float((one - other).abs().max()) < 0.02 * float(other.abs().max())
