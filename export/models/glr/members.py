"""Train the members of a model: one after the other, or at the same time where there are cores.

A member is a network of its own seed. Processes of their own keep what is random apart, so each one
has the bits that it would have alone with as many threads. PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from export.models.base import Float32, Run
from export.models.glr import graphs, require
from export.models.glr.member import Job, Member, terms_of, train_member
from export.models.glr.processes import at_the_same_time

__all__ = ["Job", "Members", "train_members"]

WORTH_IT = 100_000  # events: a process takes seconds to start


@dataclass(slots=True, eq=False)
class Members:
    """Trained networks side by side. `tables`: float32 [n, d] each; `asked`: float32 [cases, d]
    each; `curves`: a line an epoch."""

    served: list[graphs.Member] = field(default_factory=list)
    tables: list[Float32] = field(default_factory=list)
    biases: list[Float32] = field(default_factory=list)
    curves: list[list[dict[str, float]]] = field(default_factory=list)
    asked: list[Float32] = field(default_factory=list)
    kept: dict[str, Float32] = field(default_factory=dict)
    epochs: int = 0

    @classmethod
    def of(cls, found: list[Member]) -> Members:
        """Of trained ones."""
        members = cls()
        for at, one in enumerate(found):
            members.kept |= {f"{at}.{name}": value for name, value in one.numbers.items()}
            served = {k: v for k, v in one.numbers.items() if k not in ("biases", "items")}
            # The engine holds those beside the graphs. The logit is the mean of all members'.
            members.served.append(graphs.Member(served, one.scale / len(found)))
            members.biases.append(one.numbers["biases"])
            members.tables.append(one.table)
            members.curves.append(one.curve)
            if one.asked is not None:
                members.asked.append(one.asked)
            members.epochs = max(members.epochs, one.epochs)
        return members

    @property
    def scales(self) -> list[float]:
        return [member.scale for member in self.served]


def train_members(job: Job, run: Run) -> Members:
    """Train all.

    Raises
    ------
    KeyboardInterrupt
        By Ctrl-C, after every member has written its checkpoint.
    UsageError
        A training cannot go on, or there is no CUDA where it was asked for.
    """
    device = _device(run.device)
    together = (
        device == "cpu"
        and run.watch is None
        and min(job.p.members, cores()) > 1
        and len(job.sequences) >= WORTH_IT
    )
    if together:
        found = at_the_same_time(job, run, cores())
    else:
        found = [
            train_member(
                job, at, terms_of(run, at, device, 1 / job.p.members), run.report, run.watch
            )
            for at in range(job.p.members)
        ]
    if run.keep is not None:
        for one in found:
            run.keep(one.network(job))
    return Members.of(found)


def cores() -> int:
    """Threads that PyTorch uses: OMP_NUM_THREADS, or all cores."""
    return int(torch.get_num_threads())


def _device(asked: str) -> str:
    require(asked)
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked
