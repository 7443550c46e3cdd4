"""No user moves a private training by more than is said, noise hides it, the manifest tells."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import kstest, norm

from export.bundle import write_bundle
from export.data.dataset import Log
from export.models.base import Trained
from export.models.glr.accounting import Budget, Mechanism, gaussian, secret, spent
from export.models.glr.clipping import Gradients, Windows, clipped_sum, lengths
from export.models.glr.private import KINDS, PrivateTrainer, learn_privately
from export.models.glr.private_parameters import PrivateParameters
from export.models.glr.sequences import Sequences
from export.training.private import PRIVATE, TOLD, UNPROTECTED, USUAL, fit_privately
from export.training.run_card import CARD
from stream.contracts import EventType
from stream.core.bundle import MANIFEST, Bundle, Head
from stream.core.model import Model
from stream.core.recent import Recent
from stream.errors import UsageError
from tests.training.shops import ITEMS, THEMES, walks
from tests.unit.test_export_cli import run

SMALL = {"dim": 8, "state": 8, "hidden": 16, "window": 4, "batch": 40, "steps": 3}
SOFTMAXES = {"all items": {"negatives": 1000}, "some items": {"negatives": 30}}
CLIP = 0.5


def uniforms(seed: int = 0):  # type: ignore[no-untyped-def]
    return np.random.default_rng(seed).random


def trainer_of(log: Log, noise: float | None = 1.0, **given: object) -> PrivateTrainer:
    p = PrivateParameters(**{**SMALL, **given})  # type: ignore[arg-type]
    mechanism = None if noise is None else Mechanism(0.1, p.steps, noise, 1.0)
    rows = np.arange(1, len(log.items) + 1)
    sequences = Sequences.of(log, rows, KINDS)
    return PrivateTrainer(
        sequences, len(log.users), len(rows) + 1, p, mechanism, uniforms=uniforms()
    )


def without(log: Log, user: int) -> Log:
    """The log without anything of a user. Codes keep their meaning."""
    return log.select(log.user != user)


def flat(found: Gradients) -> torch.Tensor:
    return torch.cat(
        [value.flatten() for value in (found.items, found.biases, *found.network.values())]
    )


def first_windows(trainer: PrivateTrainer, users: int) -> Windows:
    """The first window of each of the first users."""
    trainer.uniforms = np.zeros
    return trainer.windows(np.arange(users))


def extreme(log: Log) -> Log:
    """User 0 clicks the same two items of the catalogue over and over, and dislikes a third."""
    n = 400
    item = np.where(np.arange(n) % 7 == 0, 5, np.arange(n) % 2).astype(log.item.dtype)
    kind = np.where(item == 5, EventType.DISLIKE, EventType.CLICK).astype(log.event_type.dtype)
    order = np.argsort(np.concatenate([log.time_ms, log.time_ms[0] + np.arange(n)]), kind="stable")

    def both(column: np.ndarray, more: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.concatenate([column, more.astype(column.dtype)])[order]

    return replace(
        log,
        user=both(log.user, np.zeros(n)),
        item=both(log.item, item),
        event_type=both(log.event_type, kind),
        time_ms=both(log.time_ms, log.time_ms[0] + np.arange(n)),
        session=both(log.session, np.zeros(n)),
        **{
            name: both(getattr(log, name), np.zeros(n))
            for name in ("quantity", "price", "rating", "event_hash")
        },
    )


@pytest.mark.parametrize("softmax", SOFTMAXES)
@pytest.mark.parametrize("user", [0, 1, 59])
def test_one_user_moves_the_sum_by_the_clip_at_most(softmax: str, user: int) -> None:
    log = extreme(walks(60))
    one, other = (trainer_of(which, **SOFTMAXES[softmax]) for which in (log, without(log, user)))
    shared = one.shared()
    assert np.array_equal(shared, other.shared())
    sums = [
        flat(clipped_sum(trainer.network, first_windows(trainer, 60), shared, CLIP))
        for trainer in (one, other)
    ]
    moved = float((sums[0] - sums[1]).norm())
    assert 0.1 * CLIP < moved <= CLIP * (1 + 1e-5)
    unbounded = [
        flat(clipped_sum(trainer.network, first_windows(trainer, 60), shared, math.inf))
        for trainer in (one, other)
    ]
    assert float((unbounded[0] - unbounded[1]).norm()) > 2 * CLIP


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_a_users_gradient_is_that_of_the_loss(softmax: str) -> None:
    trainer = trainer_of(extreme(walks(60)), **SOFTMAXES[softmax])
    network, shared = trainer.network, trainer.shared()
    windows = trainer.windows(np.arange(60))
    items = len(network.items) - 1
    for user in range(60):
        rows, kinds, gaps = (
            torch.from_numpy(column[user][:, None].copy()) for column in windows[:3]
        )
        asked = windows.targets[user] > 0
        table = network.table()
        interest = network(rows, kinds, gaps, table)[:, 0]
        logits = interest @ table.T * network.log_scale.exp() + network.biases
        own = set(windows.rows[user]) | set(windows.targets[user])
        stands = torch.full((items + 1,), -math.inf)  # of every item, in the softmax
        stands[shared] = math.log(items / len(shared))
        stands[list(own)] = 0.0
        stands[0] = -math.inf
        loss = torch.nn.functional.cross_entropy(
            (logits + stands)[asked], torch.from_numpy(windows.targets[user][asked])
        )
        network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        one = Windows(*(column[user : user + 1] for column in windows))
        found = clipped_sum(network, one, shared, math.inf)
        torch.testing.assert_close(found.items, network.items.grad, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.biases, network.biases.grad, atol=1e-5, rtol=1e-4)
        for name, value in network.named_parameters():
            if name in found.network and value.grad is not None:
                torch.testing.assert_close(found.network[name], value.grad, atol=1e-4, rtol=1e-3)
        clipped = clipped_sum(network, one, shared, CLIP)
        for before, after in zip(lengths(_each(found)), lengths(_each(clipped)), strict=True):
            limit = CLIP / math.sqrt(3)
            assert float(after) == pytest.approx(min(float(before), limit), rel=1e-4)


def _each(found: Gradients) -> Gradients:
    inner = {name: value[None] for name, value in found.network.items()}
    return Gradients(found.items[None], found.biases[None], inner)


def test_users_are_looked_at_in_parts_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(walks(60))
    windows, shared = trainer.windows(np.arange(60)), trainer.shared()
    whole = flat(clipped_sum(trainer.network, windows, shared, CLIP))
    monkeypatch.setattr("export.models.glr.clipping.AT_ONCE", 1)
    torch.testing.assert_close(flat(clipped_sum(trainer.network, windows, shared, CLIP)), whole)


def test_a_network_has_nothing_that_is_random_or_comes_from_other_users() -> None:
    p = PrivateParameters().of_network()
    off = ("smoothing", "edge_dropout", "input_dropout", "dropout", "label_smoothing", "recency")
    assert [getattr(p, name) for name in off] == [0] * len(off)
    assert (p.members, p.last) == (1, 1)


def test_what_is_drawn_and_known_of_a_user_depends_on_that_user_alone() -> None:
    log = extreme(walks(60))
    log.event_type = np.where(log.user == 0, int(EventType.PURCHASE), log.event_type)
    one, other = trainer_of(log), trainer_of(without(log, 0))
    for trainer in (one, other):
        trainer.uniforms = lambda size: np.linspace(0.1, 0.9, size)
    windows = [trainer.windows(np.arange(60)) for trainer in (one, other)]
    for column, same in zip(*windows, strict=True):
        assert np.array_equal(column[1:], same[1:])
    assert not windows[1].targets[0].any()
    assert windows[0].targets[0].any()


def test_windows_lie_within_a_users_events_and_reach_all_of_them() -> None:
    log = extreme(walks(60))
    trainer = trainer_of(log)
    s = trainer.sequences
    of_first = s.row[s.user == 0].tolist()
    begins = set()
    trainer.uniforms = secret
    for _ in range(400):
        windows = trainer.windows(np.zeros(1, np.int64))
        rows = [*windows.rows[0].tolist(), int(windows.targets[0, -1])]
        places = [at for at in range(len(of_first) - 4) if of_first[at : at + 5] == rows]
        assert places
        begins |= {places[0], places[-1]}
    last = len(of_first) - 5
    trainer.uniforms = lambda size: np.full(size, 1 - 2.0**-53)
    assert trainer.windows(np.zeros(1, np.int64)).targets[0, -1] == of_first[-1]
    assert max(begins) <= last


def test_noise_has_the_stated_deviation_on_every_number_of_every_parameter() -> None:
    trainer = trainer_of(walks(60), noise=3.0, dim=64)
    nobody = clipped_sum(
        trainer.network, trainer.windows(np.zeros(0, np.int64)), trainer.shared(), 1
    )
    assert not flat(nobody).any()
    found = trainer.noisy(nobody)
    names = {name for name, _ in trainer.network.named_parameters()}
    assert names == {"items", "biases", *found.network}
    values = flat(found).double().numpy()
    assert len(values) == sum(q.numel() for q in trainer.network.parameters())
    assert len(np.unique(values)) > 0.99 * len(values)
    assert kstest(values, norm(scale=3.0 * PrivateParameters().clip).cdf).pvalue > 1e-3
    for part in (found.items[0], found.items[-1], found.biases, *found.network.values()):
        assert float(part.abs().min()) > 0


def test_a_step_moves_every_item_whoever_was_in_it() -> None:
    trainer = trainer_of(walks(60))
    trainer.uniforms = lambda size: uniforms(1)(size) if size != 60 else np.ones(size)  # nobody
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    trainer.step()
    for name, value in trainer.network.named_parameters():
        assert ((value - before[name]).abs() > 0).all(), name


def test_a_step_samples_each_user_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(walks(400), batch=100, negatives=10)
    looked_at: list[int] = []
    windows = trainer.windows

    def counted(users: np.ndarray) -> Windows:  # type: ignore[type-arg]
        looked_at.append(len(users))
        return windows(users)

    monkeypatch.setattr(trainer, "windows", counted)
    for _ in range(30):
        trainer.step()
    assert len(set(looked_at)) > 10  # Poisson sampling: no fixed number
    assert np.mean(looked_at) == pytest.approx(100, abs=5 * (400 * 0.25 * 0.75 / 30) ** 0.5)


def test_noise_is_drawn_by_nobody_else() -> None:
    for seed in (np.random.seed, torch.manual_seed):
        drawn = []
        for _ in range(2):
            seed(1)
            drawn.append(gaussian((5,), 1.0, secret))
        assert not np.array_equal(*drawn)
    values = secret(200_000)
    assert 0 < values.min() < 1e-4 < 1 - 1e-4 < values.max() < 1
    assert kstest(values, "uniform").pvalue > 1e-4


def test_a_training_draws_everything_secret_from_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn, urandom = [0], os.urandom

    def counted(size: int) -> bytes:
        drawn[0] += size
        return urandom(size)

    monkeypatch.setattr("export.models.glr.accounting.os.urandom", counted)
    log, p = walks(150), PrivateParameters(**{**SMALL, "steps": 2})  # type: ignore[arg-type]
    one, other = (learn_privately(log, p, Budget(8.0, 1e-4), lambda line: None) for _ in range(2))
    assert not np.array_equal(one.embeddings, other.embeddings)
    noise = sum(q.numel() for q in trainer_of(log).network.parameters())
    sampled = len(log.users)
    places = drawn[0] // 8 - 4 * (noise + sampled)  # of windows: one number for each user drawn
    assert 0 < places <= 4 * sampled


def exact(deviation: float, delta: float) -> float:
    """Epsilon of one Gaussian mechanism (Balle and Wang 2018, theorem 8)."""
    return float(
        brentq(
            lambda e: (
                norm.cdf(0.5 / deviation - e * deviation)
                - math.exp(e) * norm.cdf(-0.5 / deviation - e * deviation)
                - delta
            ),
            0,
            200,
        )
    )


def test_the_accountant_agrees_with_known_values() -> None:
    assert exact(3.7304, 1e-5) == pytest.approx(1.0, abs=1e-4)  # as published
    for noise, steps in ((3.7304, 1), (1.0, 1), (10.0, 50), (20.0, 100)):
        found, least = spent(noise, 1.0, steps, 1e-5), exact(noise / steps**0.5, 1e-5)
        assert least <= found <= least * 1.12
    # Abadi et al. 2016, section 5.1: at most 1.26; strong composition alone says 9.34.
    assert 0.9 < spent(4.0, 0.01, 10_000, 1e-5) < 1.26
    assert spent(1.0, 1.0, 1, 1e-5) > spent(1.0, 0.1, 1, 1e-5) > spent(2.0, 0.1, 1, 1e-5)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 8.0])
def test_the_least_noise_that_keeps_the_budget_is_taken(epsilon: float) -> None:
    budget = Budget.of(epsilon, None, 6000)
    assert budget.delta == pytest.approx(6000**-1.1)
    found = Mechanism.within(budget, 6000, 1024, 300)
    assert found.sample_rate == 1024 / 6000
    assert epsilon * 0.99 <= found.epsilon <= epsilon
    assert found.epsilon == spent(found.noise_multiplier, found.sample_rate, 300, budget.delta)
    less = spent(found.noise_multiplier * 0.97, found.sample_rate, 300, budget.delta)
    assert less > epsilon


@pytest.mark.parametrize(
    ("epsilon", "delta", "users", "message"),
    [
        (0.0, None, 6000, "must be above 0"),
        (-1.0, None, 6000, "must be above 0"),
        (math.nan, None, 6000, "must be above 0"),
        (51.0, None, 6000, "nothing is protected"),
        (1.0, 0.0, 6000, "below 1 / users"),
        (1.0, 1 / 6000, 6000, "below 1 / users, 0.00017 here"),
        (1.0, None, 99, "the log has 99 users"),
    ],
)
def test_a_promise_that_is_worth_nothing_is_refused(
    epsilon: float, delta: float | None, users: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Budget.of(epsilon, delta, users)


def test_an_epsilon_that_leaves_nothing_to_learn_is_refused() -> None:
    for epsilon in (0.01, 1e-7):
        with pytest.raises(
            UsageError, match=r"too small for this log.*larger epsilon, fewer steps"
        ):
            Mechanism.within(Budget.of(epsilon, None, 300), 300, 100, 300)


@pytest.fixture(scope="module")
def log() -> Log:
    return walks(1500)


@pytest.fixture(scope="module")
def trained(log: Log) -> Trained:
    p = PrivateParameters(
        dim=16, state=16, hidden=16, window=4, batch=300, steps=30, exclude_seen=True
    )
    return learn_privately(log, p, Budget(20.0, 1e-4), lambda line: None, uniforms(3))


def test_a_bundle_says_what_it_promises_and_nothing_else(
    trained: Trained, log: Log, tmp_path: Path
) -> None:
    bundle = write_bundle(trained, tmp_path / "bundle")
    Model(bundle, "cpu")
    privacy = bundle.manifest.training["privacy"]
    assert 19.8 <= privacy["epsilon"] <= 20
    assert privacy["delta"] == 1e-4
    assert privacy["public"] == ["item ids", "number of users"]
    assert privacy["epsilon"] == spent(
        privacy["noise_multiplier"], privacy["sample_rate"], privacy["steps"], privacy["delta"]
    )
    fields = set(PrivateParameters.__dataclass_fields__)
    assert set(bundle.manifest.training) == fields | {"privacy"}
    assert bundle.manifest.metrics == {}
    assert bundle.manifest.head == Head("cosine", "softmax", "sigmoid")
    assert bundle.manifest.exclude_seen
    assert bundle.manifest.created > log.ends  # of the training, not of somebody's event
    assert bundle.item_ids == ["", *sorted(log.items)]
    assert {path.name for path in bundle.path.iterdir()} == {*bundle.manifest.files, MANIFEST}


def test_the_same_draws_give_the_same_network_whatever_order_items_came_in(log: Log) -> None:
    p = PrivateParameters(**SMALL)  # type: ignore[arg-type]
    turned = np.arange(len(log.items))[::-1]
    other = replace(log, items=log.items[::-1], item=turned[log.item])
    one, same = (
        learn_privately(which, p, Budget(8.0, 1e-4), lambda line: None, uniforms(5))
        for which in (log, other)
    )
    assert one.item_ids == same.item_ids
    assert np.array_equal(one.embeddings, same.embeddings)
    assert one.score_onnx == same.score_onnx


def test_which_types_a_log_has_does_not_show() -> None:
    log = walks(150)
    log.event_type = log.event_type.copy()
    log.event_type[log.user == 0] = EventType.PURCHASE
    log.event_type[log.user == 1] = EventType.DISLIKE
    p = PrivateParameters(**SMALL)  # type: ignore[arg-type]
    of = learn_privately(log, p, Budget(8.0, 1e-4), lambda line: None).reference
    types = np.array([EventType.CLICK, EventType.PURCHASE, EventType.LIKE, EventType.DISLIKE])
    state = np.ones((4, 16), np.float32)
    after = of.update(state, np.full(4, 3), types, np.zeros(4, np.float32))
    assert np.array_equal(after[0], after[1])
    assert np.array_equal(after[0], after[2])
    assert not np.array_equal(after[0], state[0])
    assert np.array_equal(after[3], state[3])


def test_it_learns_in_spite_of_the_noise(trained: Trained, log: Log) -> None:
    """After one click, what is said of the next item of the theme."""
    rows = np.array([trained.item_ids.index(item) for item in log.items])
    state = np.zeros((len(rows), trained.state_size), np.float32)
    clicks, gaps = np.full(len(rows), int(EventType.CLICK)), np.zeros(len(rows), np.float32)
    state = trained.reference.update(state, rows, clicks, gaps)
    nothing = np.zeros((len(rows), 1), np.int64)
    logits = trained.reference.logits(state, 1.0, Recent(nothing, nothing))
    following = rows.reshape(THEMES, ITEMS)[:, np.r_[1:ITEMS, 0]].ravel()
    ranks = (logits > logits[np.arange(len(rows)), following][:, None]).sum(1)
    assert (ranks < 12).mean() > 0.4  # by chance 0.1
    probability = 1 / (1 + np.exp(-logits[:, 1:].astype(np.float64)))
    assert 0.5 < probability.sum(axis=1).mean() < 2  # near a softmax


def write(log: Log, path: Path) -> Path:
    lines = [
        {
            "user_id": log.users[user],
            "item_id": log.items[item],
            "type": "click",
            "event_time_ms": int(time_ms),
        }
        for user, item, time_ms in zip(log.user, log.item, log.time_ms, strict=True)
    ]
    lines[0]["event_time_ms"] = 1_000_000_000_000  # far from all others
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_command_writes_a_private_bundle_and_says_what_it_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = write(walks(500), tmp_path / "log.jsonl"), tmp_path / "bundle"
    of = {**SMALL, "batch": 150, "steps": 15}
    settings = [f"--set={name}={value}" for name, value in of.items()]
    code, out, err = run(
        capsys,
        *("train", file, "--out", folder, "--epsilon", "4", "--delta", "1e-4"),
        *("--minutes", "0.005", *settings),
    )
    assert code == 0, err
    assert "left out" not in err
    bundle = Bundle.load(folder)
    training = bundle.manifest.training
    assert 3.9 < training["privacy"]["epsilon"] <= 4
    assert training["batch"] == 150
    assert not {"data", "cleaning", "offsets"} & set(training)
    assert not (folder / CARD).exists()
    card = json.loads((tmp_path / f"bundle.{CARD}").read_text())
    assert card["settings"]["epsilon"] == 4
    assert card["bundle_id"] == bundle.bundle_id
    metrics = card["metrics"]
    assert list(metrics) == sorted([PRIVATE, UNPROTECTED, USUAL, "cooccurrence"])
    assert metrics[UNPROTECTED]["ndcg@20"] > metrics[PRIVATE]["ndcg@20"] > 0
    told = {line.rpartition("  ")[0].split("  ")[0].strip(): line for line in out.splitlines()}
    for name, of_model in metrics.items():
        assert told[name].split()[-3:] == [f"{of_model[k]:.4f}" for k in TOLD]
    assert f"not private: these figures, and {folder}.{CARD}" in out
    assert out.endswith(f"{bundle.bundle_id}\n")


def test_a_log_without_newest_events_is_trained_on_without_a_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("export.training.private.hold_out", lambda log: None)
    found = fit_privately(walks(150), SMALL, 8.0, None)
    assert found.cost.lines() == ["what privacy costs was not measured"]
    assert found.trained.training["privacy"]["epsilon"] <= 8
