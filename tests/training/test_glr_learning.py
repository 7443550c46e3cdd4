"""A network learns, repeats bit for bit, stops and goes on."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from export.models.base import HeldOut, Run, Trained
from export.models.glr import fitting
from export.models.glr.fitting import Plan, Trainer
from export.models.glr.judging import Cases
from export.models.glr.learning import learn
from export.models.glr.member import Member
from export.models.glr.network import Network
from export.models.glr.network import numbers as numbers_of
from export.models.glr.parameters import LONG, Parameters, length
from export.models.glr.sequences import Batch, Sequences, trained_kinds
from export.models.glr.settled import Settled
from export.models.glr.warm import Grown
from export.models.warm import WarmStart
from export.training.train import fit
from stream.core.bundle import Head
from stream.errors import TrainingError, UsageError
from tests.training.shops import SMALL, newest, walks


@pytest.fixture(scope="module")
def trained() -> Trained:
    log = walks(repeats=0.2)
    return learn(log, held_out=newest(log), epochs=8, **SMALL)


def test_it_learns_what_comes_next(trained: Trained) -> None:
    curve = trained.training["curves"][0]
    assert curve[-1]["loss"] < curve[0]["loss"] / 2
    assert curve[-1]["ndcg@20"] > 0.6  # by chance: 0.07
    assert trained.settled.ndcg > curve[-1]["ndcg@20"] + 0.05  # the last interactions say more


def test_what_it_was_measured_with_is_kept_for_the_whole_log(trained: Trained) -> None:
    assert trained.settled.parameters == Parameters.of({**SMALL, "epochs": 8, "batch": 256})


def test_it_names_its_head(trained: Trained) -> None:
    assert trained.head == Head("cosine", "softmax", "sigmoid")
    few = learn(walks(60), epochs=1, negatives=50, cosine=False, **SMALL)
    assert few.head == Head("dot product", "sampled softmax", "sigmoid")


def test_no_network_is_built_again_that_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Member] = []
    monkeypatch.setattr(Member, "network", lambda member, job: built.append(member))
    learn(walks(60), epochs=1, **SMALL)
    assert not built
    kept: list[object] = []
    learn(walks(60), run=Run(keep=kept.append), epochs=1, **SMALL)
    assert len(built) == len(kept) == 1


def test_whether_users_go_back_is_learned(trained: Trained) -> None:
    assert trained.settled.exclude_seen is False
    log = walks(ordered=False)
    onward = learn(log, held_out=newest(log), epochs=4, **SMALL)
    assert onward.settled.exclude_seen


def sequences_of(p: Parameters) -> tuple[Sequences, int]:
    log = walks(300)
    rows = np.arange(1, len(log.items) + 1)
    return Sequences.of(log, rows, trained_kinds(log), p.recency), len(log.items) + 1


def parameters_of(trainer: Trainer) -> list[torch.Tensor]:
    return [value.clone() for value in trainer.network.state_dict().values()]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_training_that_was_interrupted_goes_on_to_the_same_bits(
    device: str, tmp_path: Path
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA")
    p = Parameters(**SMALL, epochs=3, smoothing=0.0)
    sequences, items = sequences_of(p)
    straight = Trainer(sequences, items, p, None, device)
    straight.run(Plan(epochs=3), lambda line: None)

    checkpoint = tmp_path / "network"
    broken = Trainer(sequences, items, p, None, device)
    steps = 0

    def step_and_press(batch: object) -> float:
        nonlocal steps
        steps += 1
        if steps == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return Trainer._step(broken, batch)  # type: ignore[arg-type]

    broken._step = step_and_press  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.run(Plan(epochs=3, checkpoint=checkpoint), lambda line: None)
    torch.manual_seed(99)  # another process would not have the same either
    resumed = Trainer(sequences, items, p, None, device)
    said: list[str] = []
    resumed.run(Plan(epochs=3, checkpoint=checkpoint), said.append)
    assert said[0].endswith("epoch 1, step 5")
    # A GPU adds in any order: there, two runs need not have the same bits.
    slack = {"rtol": 0.0, "atol": 0.0} if device == "cpu" else {"rtol": 0.01, "atol": 0.01}
    for one, other in zip(parameters_of(straight), parameters_of(resumed), strict=True):
        torch.testing.assert_close(one, other, **slack)
    for one, other in zip(straight.progress.curve, resumed.progress.curve, strict=True):
        assert one == pytest.approx(other, abs=0 if device == "cpu" else 0.01)


def test_the_network_of_the_whole_log_is_the_one_that_was_measured() -> None:
    log = walks(200)
    log.user[:] = log.user // 20
    older = log.select(np.arange(len(log)) % 20 < 2)
    assert length(older) < LONG < length(log)  # by itself it would get another network
    p = Parameters.of({**SMALL, "layers": 2, "epochs": 1})
    settled = Settled(1, again=(0.0,) * p.last, together=(0.0,) * p.last, parameters=p)
    found = learn(log, settled=settled, **SMALL)
    assert {name: found.training[name] for name in asdict(p)} == asdict(p)
    assert "parameters" not in found.training["settled"]


def test_the_whole_log_is_learned_from_where_the_older_events_ended() -> None:
    log = walks(200)
    given = {**SMALL, "epochs": 8, "refit": 0.25, "smoothing": 0.0}
    given["learning_rate"] = 1e-8  # so it stays there
    older = learn(log, held_out=newest(log), **given)
    settled = replace(older.settled, epochs=8)
    whole = learn(log, settled=settled, **given)
    assert [line["epoch"] for line in whole.training["curves"][0]] == [1, 2]
    rows = [whole.item_ids.index(item_id) for item_id in older.item_ids]
    np.testing.assert_allclose(whole.embeddings[rows], older.embeddings, atol=1e-4)
    anew = learn(log, settled=replace(settled, grown=None), **given)
    assert len(anew.training["curves"][0]) == 8


class Begun(NamedTuple):
    """What a training was about to be: with what, for how long, from which networks."""

    p: Parameters
    plan: Plan
    start: str


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Begun]:
    """Trainings are noted, and end before their first step."""
    found: list[Begun] = []

    def note(trainer: Trainer, plan: Plan, report: object) -> None:
        found.append(Begun(trainer.p, plan, trainer._start))
        raise EOFError

    monkeypatch.setattr(Trainer, "run", note)
    return found


def test_a_better_network_is_waited_for_a_quarter_of_the_epochs(begun: list[Begun]) -> None:
    log = walks(60)
    for epochs in (1, 6, 16):
        with pytest.raises(EOFError):
            learn(log, held_out=newest(log), epochs=epochs, **SMALL)
    assert [training.plan.patience for training in begun] == [2, 2, 4]


def test_a_few_epochs_at_a_lower_rate_go_on_from_the_older_events(begun: list[Begun]) -> None:
    log = walks(60)
    p = Parameters.of({**SMALL, "refit": 0.2, "learning_rate": 0.01})
    items = len(log.items)
    numbers = {
        "0.items": np.zeros((items + 1, p.dim), np.float32),
        "0.biases": np.zeros(items + 1, np.float32),
    }
    older = {**numbers, "0.biases": np.ones(items + 1, np.float32)}
    grown = Grown.of(["", *log.items], older)
    assert grown.digest != Grown.of(["", *log.items], numbers).digest
    network = numbers_of(Network(items + 1, p, None))
    grown = grown._replace(numbers={f"0.{name}": value for name, value in network.items()})
    warm = WarmStart("bundle", "id", asdict(p), ["", *log.items], grown.numbers, "of a bundle", 0)
    for epochs, refit, run in (
        (16, 0.2, Run()),
        (1, 0.2, Run(warm=warm)),
        (16, 1.0, Run(warm=warm)),
    ):
        settled = Settled(epochs, parameters=replace(p, refit=refit), grown=grown)
        with pytest.raises(EOFError):
            learn(log, settled=settled, run=run)
    assert [training.plan.epochs for training in begun] == [3, 1, 16]
    assert [training.p.learning_rate for training in begun] == [0.003, 0.003, 0.01]
    assert [training.start for training in begun] == [grown.digest, grown.digest, "of a bundle"]


@pytest.mark.parametrize(("refit", "seconds"), [(1.0, [400, 500]), (0.25, [640, 200])])
def test_the_older_events_have_the_time_that_the_whole_log_does_not_take(
    refit: float, seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = walks(120)
    log.user[:] = log.user // 4
    run, had = Trainer.run, list[float]()

    def note(trainer: Trainer, plan: Plan, report: Callable[[str], None]) -> Network:
        had.append(plan.seconds or 0)
        return run(trainer, plan, report)

    monkeypatch.setattr(Trainer, "run", note)
    given = {**SMALL, "epochs": 1, "refit": refit}
    fit(log, "glr", given, lambda line: None, Run(seconds=1000))
    assert had == pytest.approx(seconds)  # a fifth of the first is for what it settles


def test_an_interrupted_training_on_the_whole_log_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = walks(120, repeats=0.2)
    log.user[:] = log.user // 4
    given = {**SMALL, "epochs": 2, "refit": 0.5}
    straight = fit(log, "glr", given, lambda line: None)
    step, steps = Trainer._step, 0

    def step_and_press(trainer: Trainer, batch: Batch) -> float:
        nonlocal steps
        steps += trainer._start != ""  # on the whole log
        if steps == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step(trainer, batch)

    run = Run(checkpoint=tmp_path / "network")
    monkeypatch.setattr(Trainer, "_step", step_and_press)
    with pytest.raises(KeyboardInterrupt):
        fit(log, "glr", given, lambda line: None, run)
    monkeypatch.setattr(Trainer, "_step", step)
    said: list[str] = []
    resumed = fit(log, "glr", given, said.append, replace(run, report=said.append))
    assert [line.split(": ")[-1] for line in said if line.startswith("going on from")] == [
        "epoch 3, step 0",  # of the older events: they are done
        "epoch 1, step 2",
    ]
    assert resumed.network.keys() == straight.network.keys()
    for name, value in straight.network.items():
        np.testing.assert_array_equal(resumed.network[name], value)


def test_it_begins_from_nothing_where_many_events_are_of_new_items() -> None:
    log = walks(200)
    given = {**SMALL, "epochs": 8, "refit": 0.25}
    settled = replace(learn(log, held_out=newest(log), **given).settled, epochs=8)
    log.items[int(log.item[-1])] = "only lately"
    said: list[str] = []
    whole = learn(log, settled=settled, run=Run(report=said.append), **given)
    assert len(whole.training["curves"][0]) == 8
    assert "of items that the older ones lack: from nothing" in said[0]


def test_a_long_epoch_tells_loss_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    p = Parameters(**SMALL, smoothing=0.0)
    sequences, items = sequences_of(p)
    monkeypatch.setattr(fitting, "TELLS_EVERY_S", 0.0)
    said: list[str] = []
    Trainer(sequences, items, p, None, "cpu").run(Plan(epochs=2), said.append)
    within = r"  epoch 1 of 2, \d+%: loss \S+  \(\d+ s, \d+ s left at most\)"
    assert re.fullmatch(within, said[0])
    ends = [
        line for line in said if line.startswith("  epoch 1  ") or line.startswith("  epoch 2  ")
    ]
    assert re.fullmatch(r"  epoch 1  loss \S+  \(\d+ s, \d+ s left at most\)", ends[0])
    assert re.fullmatch(r"  epoch 2  loss \S+  \(\d+ s\)", ends[1])
    monkeypatch.setattr(fitting, "TELLS_EVERY_S", 60.0)
    said.clear()
    Trainer(sequences, items, p, None, "cpu").run(Plan(epochs=2), said.append)
    assert len(said) == 2  # an epoch each


def test_a_network_of_no_numbers_ranks_nothing() -> None:
    log = walks(40)
    rows = np.arange(1, len(log.items) + 1)
    cases = Cases.of(log, newest(log), rows, trained_kinds(log), Parameters(**SMALL))
    network = Network(len(log.items) + 1, Parameters(**SMALL, smoothing=0.0), None)
    with torch.no_grad():
        network.items.fill_(torch.nan)
    assert cases.judge("cpu")(network) == {"ndcg@20": 0, "recall@20": 0, "mrr@20": 0}


def test_a_checkpoint_of_other_parameters_is_refused(tmp_path: Path) -> None:
    p = Parameters(**SMALL, smoothing=0.0)
    sequences, items = sequences_of(p)
    plan = Plan(epochs=1, checkpoint=tmp_path / "network")
    Trainer(sequences, items, p, None, "cpu").run(plan, lambda line: None)
    other = Parameters(**{**SMALL, "state": 16}, smoothing=0.0)
    with pytest.raises(UsageError, match="other parameters; delete it"):
        Trainer(sequences, items, other, None, "cpu").run(plan, lambda line: None)


def test_a_checkpoint_of_another_log_is_refused(tmp_path: Path) -> None:
    p = Parameters(**SMALL, smoothing=0.0)
    sequences, items = sequences_of(p)
    plan = Plan(epochs=1, checkpoint=tmp_path / "network")
    Trainer(sequences, items, p, None, "cpu").run(plan, lambda line: None)
    sequences.row[-1] = 1 + sequences.row[-1] % (items - 1)
    with pytest.raises(UsageError, match="another log; delete it"):
        Trainer(sequences, items, p, None, "cpu").run(plan, lambda line: None)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0random" * 100, 0.1, 0.25, 0.5, 0.75, 0.999],
    ids=["empty", "random", "10%", "25%", "50%", "75%", "99.9%"],
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes | float) -> None:
    p = Parameters(**SMALL, smoothing=0.0)
    sequences, items = sequences_of(p)
    plan = Plan(epochs=1, checkpoint=tmp_path / "network")
    Trainer(sequences, items, p, None, "cpu").run(plan, lambda line: None)
    whole = (tmp_path / "network").read_bytes()
    if isinstance(content, float):  # only so much of it is left
        content = whole[: int(len(whole) * content)]
    (tmp_path / "network").write_bytes(content)
    with pytest.raises(TrainingError, match="is damaged; delete it"):
        Trainer(sequences, items, p, None, "cpu").run(plan, lambda line: None)


def test_an_interrupt_while_the_last_epoch_is_judged_counts(tmp_path: Path) -> None:
    p = Parameters(**SMALL, smoothing=0.0)
    sequences, items = sequences_of(p)

    def press(network: Network) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        return {"mark": 0.5}

    plan = Plan(1, judge=press, checkpoint=tmp_path / "network")
    with pytest.raises(KeyboardInterrupt):
        Trainer(sequences, items, p, None, "cpu").run(plan, lambda line: None)
    again = Trainer(sequences, items, p, None, "cpu")
    again.run(plan, lambda line: None)  # nothing is left to do
    assert again.progress.epoch == 1


def test_the_best_network_so_far_outlives_an_interruption(tmp_path: Path) -> None:
    p = Parameters(**SMALL, smoothing=0.0)
    sequences, items = sequences_of(p)
    marks = iter([0.9, 0.1])
    plan = Plan(2, judge=lambda network: {"mark": next(marks)}, checkpoint=tmp_path / "network")

    def end(line: object) -> None:
        raise EOFError

    first = Trainer(sequences, items, p, None, "cpu")
    with pytest.raises(EOFError):
        first.run(replace(plan, watch=end), lambda line: None)
    later = Trainer(sequences, items, p, None, "cpu")
    found = later.run(plan, lambda line: None)
    assert later.progress.epoch == 2
    assert torch.equal(found.items, first.network.items)


def test_it_stops_when_nothing_gets_better_and_keeps_the_best() -> None:
    p = Parameters(**SMALL, smoothing=0.0)
    sequences, items = sequences_of(p)
    trainer = Trainer(sequences, items, p, None, "cpu")
    marks = iter([0.1, 0.5, 0.4, 0.4, 0.4, 0.4])
    seen: list[torch.Tensor] = []

    def judge(network: torch.nn.Module) -> dict[str, float]:
        seen.append(network.items.detach().clone())  # type: ignore[operator]
        return {"mark": next(marks)}

    best = trainer.run(Plan(epochs=6, judge=judge, patience=2), lambda line: None)
    assert len(seen) == 4
    assert torch.equal(best.items, seen[1])


def test_the_time_limit_sets_the_number_of_epochs() -> None:
    p = Parameters(**{**SMALL, "batch": 64}, smoothing=0.0)
    sequences, items = sequences_of(p)
    trainer = Trainer(sequences, items, p, None, "cpu")
    trainer.run(Plan(epochs=1000, seconds=1.0), lambda line: None)
    assert 1 <= trainer.progress.epoch < 1000
    assert trainer.progress.spent_s < 60  # on a machine that does much else


def test_one_event_of_a_moment_is_asked_for_from_what_was_before_it() -> None:
    log = walks(40)
    some = log.user < 10
    log = log.select(some)
    log.user[:] = 0
    log.time_ms[:] = np.arange(len(log)) * 1000
    log.time_ms[-4:-1] = log.time_ms[-4]  # an order of three lines, and a click
    rows = np.arange(1, len(log.items) + 1)
    asked = HeldOut(log.time_ms < log.time_ms[-4], np.arange(len(log) - 4, len(log)))
    cases = Cases.of(log, asked, rows, trained_kinds(log), Parameters(**SMALL))
    order, click = sorted(zip(cases.windows[:, 1].tolist(), cases.targets.tolist(), strict=True))
    known = rows[log.item]
    assert order[0] == len(log) - 3
    assert order[1] in known[-4:-1]
    assert click == (len(log), known[-1])
    of_order = int(np.argmin(cases.windows[:, 1]))
    assert cases.recent[of_order, 0] == known[-5]
