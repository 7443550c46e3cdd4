"""Members that train at the same time: the same bits, Ctrl-C, a process that dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch

from export.models.base import Run, Trained
from export.models.glr import members
from export.models.glr.learning import learn
from stream.errors import TrainingError
from tests.training.shops import SMALL, newest, walks

P = {**SMALL, "members": 2}


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each of two members has one thread, as one alone has in here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(members, "WORTH_IT", 0)
    monkeypatch.setattr(members, "cores", lambda: 2)
    yield
    torch.set_num_threads(before)


def same(one: Trained, other: Trained) -> bool:
    return one.settled == other.settled and all(
        np.array_equal(value, other.network[name]) for name, value in one.network.items()
    )


def test_at_the_same_time_they_become_what_they_become_in_turn(
    two_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = walks(300)
    said: list[str] = []
    together = learn(log, held_out=newest(log), run=Run(report=said.append), epochs=2, **P)
    assert {line[:3] for line in said} >= {"[1]", "[2]"}
    monkeypatch.setattr(members, "cores", lambda: 1)
    in_turn = learn(log, held_out=newest(log), epochs=2, **P)
    assert same(together, in_turn)
    assert not np.array_equal(together.network["0.items"], together.network["1.items"])


def test_more_members_than_cores_train_in_rounds(
    two_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, p = walks(200), {**SMALL, "members": 3, "epochs": 2}
    said: list[str] = []
    together = learn(log, run=Run(report=said.append), **p)
    third = next(at for at, line in enumerate(said) if line.startswith("network 3"))
    ended = [at for at, line in enumerate(said) if line.startswith("[") and "epoch 2" in line]
    assert min(ended) < third < max(ended)
    monkeypatch.setattr(members, "cores", lambda: 1)
    assert same(together, learn(log, **p))


def test_ctrl_c_keeps_what_all_have_learned(two_cores: None, tmp_path: Path) -> None:
    log = walks(200)
    p = {**P, "batch": 32, "epochs": 6}
    straight = learn(log, **p)

    def press() -> None:  # once both are past their first epoch
        while {line[:3] for line in said if line.startswith("[")} < {"[1]", "[2]"}:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    said: list[str] = []
    run = Run(checkpoint=tmp_path / "network", report=said.append)
    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        learn(log, run=run, **p)
    presser.join()
    assert not active_children()
    assert {file.name for file in tmp_path.iterdir()} == {"network-0", "network-1"}
    said.clear()
    resumed = learn(log, run=run, **p)
    assert sum("going on from" in line for line in said) == 2
    assert same(straight, resumed)


def test_a_process_that_dies_is_told(two_cores: None) -> None:
    def kill(line: str) -> None:
        if line.startswith("["):
            os.kill(next(iter(active_children())).pid or 0, signal.SIGKILL)

    with pytest.raises(TrainingError, match="ended with -9; if memory is short"):
        learn(walks(200), run=Run(report=kill), **{**P, "epochs": 200})
    assert not active_children()


def test_ctrl_c_before_they_have_begun_is_heeded(
    two_cores: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def press() -> None:
        while len(active_children()) < 2:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        learn(walks(200), run=Run(checkpoint=tmp_path / "network"), **P, epochs=3)
    presser.join()
    assert not active_children()
    assert "Traceback" not in capfd.readouterr().err


def test_ctrl_c_while_processes_start_is_no_death(
    two_cores: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def press() -> None:  # to the whole group, as a terminal does
        while not (children := active_children()):
            time.sleep(0.01)
        time.sleep(0.3)
        for child in children:
            os.kill(child.pid or 0, signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    log, run = walks(200), Run(checkpoint=tmp_path / "network")
    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        learn(log, run=run, **{**P, "epochs": 200})
    presser.join()
    assert not active_children()
    assert "Traceback" not in capfd.readouterr().err
