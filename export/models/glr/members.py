"""Train the members of a model: one after the other, or at the same time where there are cores.

A member is a network of its own seed. Processes of their own keep what is random apart, so each one
has the bits that it would have alone with as many threads. PyTorch.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from export.models.base import Float32, Run
from export.models.glr import graphs
from export.models.glr.fitting import Plan, Report, Trainer, Watch
from export.models.glr.interrupt import interruptible
from export.models.glr.judging import Cases
from export.models.glr.network import Neighbours, Network, begin, numbers
from export.models.glr.parameters import Parameters
from export.models.glr.sequences import Sequences
from export.models.glr.warm import Start
from stream.errors import TrainingError, UsageError

WORTH_IT = 100_000  # events: a process takes seconds to start
LOOKS_S = 0.2  # how often Ctrl-C is looked for


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
    starts: list[Start | None]


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
        found = _at_the_same_time(job, run)
    else:
        found = [
            _train(job, at, _terms(run, at, device, 1 / job.p.members), run.report, run.watch)
            for at in range(job.p.members)
        ]
    for one in found:
        run.keep(one.network(job))
    return Members.of(found)


def _train(job: Job, at: int, terms: Terms, report: Report, watch: Watch | None = None) -> Member:
    """Train one member."""
    own = replace(job.p, seed=job.p.seed + at)
    trainer = Trainer(job.sequences, job.items, own, job.neighbours, terms.device, job.starts[at])
    plan = Plan(
        epochs=job.epochs,
        seconds=terms.seconds,
        judge=None if job.cases is None else job.cases.judge(terms.device),
        checkpoint=terms.checkpoint,
        watch=watch,
    )
    size = sum(parameter.numel() for parameter in trainer.network.parameters())
    report(f"network {at + 1} of {job.p.members}: {size:,} numbers, on {terms.device}")
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


class Terms(NamedTuple):
    """Where and for how long one member trains. `checkpoint`: its file."""

    device: str
    seconds: float | None
    checkpoint: Path | None


def _terms(run: Run, at: int, device: str, share: float) -> Terms:
    file = run.checkpoint
    return Terms(
        device,
        None if run.seconds is None else run.seconds * share,
        None if file is None else file.with_name(f"{file.name}-{at}"),
    )


def _device(asked: str) -> str:
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise UsageError("CUDA is not available here; take --device cpu, or auto")
    return ("cuda" if there else "cpu") if asked == "auto" else asked


# -- processes ---------------------------------------------------------------------------------


class _Child(NamedTuple):
    process: BaseProcess
    said: Connection


def cores() -> int:
    """Threads that PyTorch uses: OMP_NUM_THREADS, or all cores."""
    return int(torch.get_num_threads())


def _at_the_same_time(job: Job, run: Run) -> list[Member]:
    """Train every member in a process of its own."""
    count = job.p.members
    threads = max(1, cores() // count)
    share = min(1.0, cores() / count)
    spawn = multiprocessing.get_context("spawn")
    children: list[_Child] = []
    with interruptible() as stopped:
        try:
            with _held_back():
                for at in range(count):
                    said, say = spawn.Pipe(duplex=False)
                    terms = _terms(run, at, "cpu", share)
                    process = spawn.Process(
                        target=_child, args=(say, job, at, terms, threads), daemon=True
                    )
                    process.start()
                    say.close()  # so that the end of the process is the end of the pipe
                    children.append(_Child(process, said))
            return _results(children, run.report, stopped)
        finally:
            for child in children:
                child.process.kill()
                child.process.join()


@contextmanager
def _held_back() -> Iterator[None]:
    """Ctrl-C comes after this. A process that starts in here has it held back, too."""
    resource_tracker.ensure_running()  # its start would let Ctrl-C through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _results(children: list[_Child], report: Report, stopped: Callable[[], bool]) -> list[Member]:
    """What they say last, in their order; what they say before goes to `report`."""
    results: dict[int, Member | BaseException] = {}
    number = {child.said: at for at, child in enumerate(children)}
    passed_on = False
    while len(results) < len(children):
        if stopped() and not passed_on:
            passed_on = True
            for child in children:
                if child.process.pid is not None and child.process.is_alive():
                    os.kill(child.process.pid, signal.SIGINT)
        for said in wait([said for said, at in number.items() if at not in results], LOOKS_S):
            assert isinstance(said, Connection)
            at = number[said]
            try:
                heard = said.recv()
            except EOFError:
                heard = _death(children[at].process)
            if isinstance(heard, str):
                report(f"[{at + 1}]{heard}" if heard.startswith(" ") else heard)
            else:
                results[at] = heard
    errors = [result for result in results.values() if isinstance(result, BaseException)]
    for error in errors:
        raise error
    return [result for _, result in sorted(results.items()) if isinstance(result, Member)]


def _death(process: BaseProcess) -> BaseException:
    process.join()
    return TrainingError(
        f"a training process ended with {process.exitcode}; if memory is short, train one "
        "network alone: --set members=1"
    )


def _child(say: Connection, job: Job, at: int, terms: Terms, threads: int) -> None:
    os.setpgid(0, 0)  # Ctrl-C goes to the parent, which passes it on
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    found: Member | BaseException
    try:
        # Held back since the process began: the modules that it imports know nothing of Ctrl-C.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        found = _train(job, at, terms, say.send)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    except (KeyboardInterrupt, UsageError) as error:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        found = error
    say.send(found)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
