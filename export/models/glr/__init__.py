"""`glr`: a gated linear recurrence over what a user did; constant work and memory per event.

    sequences.py   a log -> windows of events
    network.py     PyTorch: item vectors and layers; scan.py, loss.py
    fitting.py     the training loop; checkpoints; interrupt.py: Ctrl-C between steps
    progress.py    how far it is
    members.py     several networks: member.py one of them, processes.py at the same time
    companions.py  co-occurrence; blend.py: what the last interactions add to a logit
    popularity.py  the newest popularity against that of all times
    judging.py     networks on held-out events: metrics
    settling.py    what held-out events settle; settled.py: what came of it; logits.py: of cases
    counts.py      what a log's counts say of items and pairs; candidates.py, correcting.py: fitted
                   on held-out events; correction.py: what is served of that
    graphs.py      the update and score graphs; reference.py: the same in NumPy
    exported.py    both and the tables, as the bundle writer wants them
    warm.py        going on from an earlier bundle
    private.py     training that hides each user: clipping.py, accounting.py
    parameters.py  what --set sets; private_parameters.py: the same of private.py
    learning.py    all of it in order

This module needs no PyTorch; training does.
"""

from __future__ import annotations

from typing import Any

from export.data.dataset import Log
from export.models.base import Trained
from export.models.glr.parameters import SPACE, Parameters, length
from stream.errors import UsageError

__all__ = ["SPACE", "Parameters", "length", "require", "train"]


def require(device: str) -> None:
    """See whether a network can be trained on a device: "cpu", "cuda" or "auto".

    Raises
    ------
    UsageError
        PyTorch is missing, or CUDA is asked for and cannot be used.
    """
    try:
        import torch
    except ImportError:
        raise UsageError(
            "the model glr is trained by PyTorch, which is not installed: pip install "
            "'freshet[export]' (5 GB), or take --model decay"
        ) from None
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--device cuda: PyTorch finds no CUDA device that it can use (a driver, or a build of "
            "PyTorch with CUDA, is missing); take --device cpu, or auto"
        )


def train(log: Log, **given: Any) -> Trained:
    """Train on a log; see `learning.learn`.

    Raises
    ------
    UsageError
        PyTorch is missing, or the log is too small.
    """
    require("auto")
    from export.models.glr.learning import learn

    return learn(log, **given)
