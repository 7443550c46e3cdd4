"""One network of a model: what it is trained with, and what it becomes. PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from export.models.base import Float32, Run
from export.models.glr.fitting import Plan, Report, Trainer, Watch
from export.models.glr.judging import Cases
from export.models.glr.network import Neighbours, Network, begin, numbers
from export.models.glr.parameters import Parameters
from export.models.glr.sequences import Sequences
from export.models.glr.warm import Start

PATIENCE = 0.25  # of the epochs: the rate falls until the last one, and the best come late


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What the members of a model have in common, and where each of them begins.

    Attributes
    ----------
    items : rows of the item table
    cases : that networks are judged by; None: nothing was held out
    starts : of each member; None: at random
    """

    sequences: Sequences
    items: int
    p: Parameters
    neighbours: Neighbours | None
    cases: Cases | None
    epochs: int
    starts: Sequence[Start | None]


class Member(NamedTuple):
    """A trained network. `asked`: float32 [cases, d]; `epochs`: that the best one had seen."""

    numbers: dict[str, Float32]
    table: Float32
    scale: float
    curve: list[dict[str, float]]
    epochs: int
    asked: Float32 | None

    def network(self, job: Job) -> Network:
        """The network itself, on the CPU."""
        network = Network(job.items, job.p, job.neighbours)
        begin(network, self.numbers)
        network.eval()
        return network


class Terms(NamedTuple):
    """Where and for how long one member trains. `checkpoint`: its file; `quiet`: see `Plan`."""

    device: str
    seconds: float | None
    checkpoint: Path | None
    quiet: bool = False


def terms_of(run: Run, at: int, device: str, share: float) -> Terms:
    file = run.checkpoint
    return Terms(
        device,
        None if run.seconds is None else run.seconds * share,
        None if file is None else file.with_name(f"{file.name}-{at}"),
    )


def train_member(
    job: Job, at: int, terms: Terms, report: Report, watch: Watch | None = None
) -> Member:
    """Train one member."""
    own = replace(job.p, seed=job.p.seed + at)
    trainer = Trainer(job.sequences, job.items, own, job.neighbours, terms.device, job.starts[at])
    plan = Plan(
        epochs=job.epochs,
        seconds=terms.seconds,
        judge=None if job.cases is None else job.cases.judge(terms.device),
        patience=max(2, math.ceil(job.epochs * PATIENCE)),
        checkpoint=terms.checkpoint,
        watch=watch,
        quiet=terms.quiet,
    )
    size = sum(parameter.numel() for parameter in trainer.network.parameters())
    judged = "" if job.cases is None else "; judged by held-out events of items it knows"
    report(f"network {at + 1} of {job.p.members}: {size:,} numbers, on {terms.device}{judged}")
    network = trainer.run(plan, report)
    with torch.no_grad():
        table = network.table().cpu().numpy().astype(np.float32)
    return Member(
        numbers=numbers(network),
        table=table,
        scale=float(network.log_scale.detach().exp()),
        curve=trainer.progress.curve,
        epochs=trainer.progress.best_epoch or trainer.progress.epoch,
        asked=None if job.cases is None else job.cases.ask(network, terms.device),
    )
