"""h[t] = f[t] * h[t-1] + b[t], over time. In: torch tensors [L, B, D]. Out: all states [L, B, D].

On a CPU a loop of fused multiply-adds, which is bound by memory; elsewhere the associative scan of
Hillis and Steele (1986), log2(L) steps over whole tensors. Both are differentiable: the gradient is
the same recurrence backwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

_BY_AUTOGRAD: ContextVar[bool] = ContextVar("by_autograd", default=False)


@contextmanager
def by_autograd() -> Iterator[None]:
    """In here `scan` is made of ordinary operations, which `torch.func` can transform."""
    before = _BY_AUTOGRAD.set(True)
    try:
        yield
    finally:
        _BY_AUTOGRAD.reset(before)


def scan(forget: Tensor, arriving: Tensor) -> Tensor:
    """All states from a state of zeros.

    Parameters
    ----------
    forget : f, float [L, B, D] or [L, B, 1]
    arriving : b, float [L, B, D]
    """
    if _BY_AUTOGRAD.get():
        return doubling(forget, arriving)
    states: Tensor = _Scan.apply(forget, arriving)
    return states


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forget: Tensor, arriving: Tensor) -> Tensor:
        states = _run(forget, arriving)
        ctx.save_for_backward(forget, states)
        return states

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        forget, states = ctx.saved_tensors
        # What a state is worth: its own gradient, and f[t+1] of what the next one is worth.
        later = torch.cat([forget[1:], torch.zeros_like(forget[:1])])
        worth = _run(later.flip(0), gradients[0].flip(0)).flip(0)
        of_forget = torch.zeros_like(worth)
        torch.mul(worth[1:], states[:-1], out=of_forget[1:])
        if forget.shape[-1] == 1:
            of_forget = of_forget.sum(-1, keepdim=True)
        return of_forget, worth


def _run(forget: Tensor, arriving: Tensor) -> Tensor:
    return (
        in_turn(forget, arriving) if arriving.device.type == "cpu" else doubling(forget, arriving)
    )


def in_turn(forget: Tensor, arriving: Tensor) -> Tensor:
    """One time step after the other."""
    states = torch.empty_like(arriving)
    states[0] = arriving[0]
    for t in range(1, len(arriving)):
        factor = forget[t].expand_as(arriving[t])
        torch.addcmul(arriving[t], factor, states[t - 1], out=states[t])
    return states


def doubling(forget: Tensor, arriving: Tensor) -> Tensor:
    """Every time step at once: after the step of reach r, entry t stands for t-2r+1 .. t."""
    factor, states, reach = forget, arriving, 1
    while reach < len(states):
        states = torch.cat([states[:reach], states[reach:] + factor[reach:] * states[:-reach]])
        factor = torch.cat([factor[:reach], factor[reach:] * factor[:-reach]])
        reach *= 2
    return states
