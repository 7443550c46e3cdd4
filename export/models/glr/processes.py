"""Train the members of a model at the same time, each in a process of its own. PyTorch.

Ctrl-C goes to the parent, which passes it on; every child then writes its checkpoint. While a
process starts, Ctrl-C waits: the modules that it imports know nothing of it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import torch

from export.models.base import Run
from export.models.glr.fitting import Report
from export.models.glr.interrupt import interruptible
from export.models.glr.member import Job, Member, Terms, terms_of, train_member
from stream.errors import TrainingError, UsageError

LOOKS_S = 0.2  # how often Ctrl-C is looked for
ENDS_S = 2.0  # within which a process that has said its last is gone


class _Child(NamedTuple):
    process: BaseProcess
    said: Connection


def at_the_same_time(job: Job, run: Run, cores: int) -> list[Member]:
    """Train every member in a process of its own, as many at a time as there are cores."""
    count = job.p.members
    together = min(count, cores)
    share = 1 / -(-count // together)  # of the time: one round after another
    spawn = multiprocessing.get_context("spawn")
    children: list[_Child] = []

    def start() -> None:
        at = len(children)
        with _held_back():
            said, say = spawn.Pipe(duplex=False)
            terms = terms_of(run, at, "cpu", share)._replace(quiet=at > 0)
            arguments = (say, job, at, terms, cores // together)
            process = spawn.Process(target=_child, args=arguments, daemon=True)
            process.start()
            say.close()  # so that the end of the process is the end of the pipe
            children.append(_Child(process, said))

    with interruptible() as stopped:
        try:
            for _ in range(together):
                start()
            return _results(children, count, start, run.report, stopped)
        finally:
            for child in children:
                child.process.join(ENDS_S)
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


def _results(
    children: list[_Child],
    count: int,
    start: Callable[[], None],
    report: Report,
    stopped: Callable[[], bool],
) -> list[Member]:
    """What `count` of them say last, in their order; what they say before goes to `report`.

    `start` adds one to `children`: when another has ended.
    """
    results: dict[int, Member | BaseException] = {}
    ending = False
    while len(results) < (len(children) if ending else count):
        failed = any(isinstance(result, BaseException) for result in results.values())
        if (failed or stopped()) and not ending:
            ending = True  # each one writes its checkpoint
            for child in children:
                if child.process.pid is not None and child.process.is_alive():
                    os.kill(child.process.pid, signal.SIGINT)
            continue
        number = {child.said: at for at, child in enumerate(children) if at not in results}
        for said in wait([*number], LOOKS_S):
            assert isinstance(said, Connection)
            at = number[said]
            try:
                heard = said.recv()
            except EOFError:
                heard = _death(children[at].process)
            if isinstance(heard, str):
                report(f"[{at + 1}]{heard}" if heard.startswith(" ") else heard)
                continue
            results[at] = heard
            if isinstance(heard, Member) and len(children) < count and not ending:
                children[at].process.join(ENDS_S)  # its memory is free again
                start()
    ending = ending or stopped()
    errors = [result for result in results.values() if isinstance(result, BaseException)]
    if ending and not errors:  # between two rounds, or after the last step
        raise KeyboardInterrupt
    for error in sorted(errors, key=lambda error: isinstance(error, KeyboardInterrupt)):
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
        found = train_member(job, at, terms, say.send)
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
