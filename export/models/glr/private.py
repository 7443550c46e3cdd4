"""Train a network that hides each single user. In: a `Log`, a budget. Out: `Trained`. PyTorch.

DP-SGD (Abadi et al. 2016) with users as the unit (McMahan et al. 2018). A step draws each user with
the same chance, takes one window of each one's events, and sums clipped gradients: no user moves
the sum by more than `clip`. Noise goes to every parameter, also to the items that nobody of the
step turned to: which they are is as private as the rest. What is then done with the noisy sums
(Adam, averaging, export) costs no privacy any more.

A user's gradient depends on that user's events alone: negatives, the beginning of the network and
the trained event types come from no data, and nothing weighs an event by those of others. What
`learning.py` counts or fits on the log is left out: neighbours, companions, weights of the last
interactions, held-out choices. Item ids and the number of users are taken as public.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from export.data.dataset import Log
from export.models.base import Float32, Int64, Trained
from export.models.glr import graphs
from export.models.glr.accounting import Budget, Mechanism, Uniforms, gaussian, secret
from export.models.glr.clipping import Gradients, Windows, clipped_sum
from export.models.glr.companions import Companions
from export.models.glr.exported import exported
from export.models.glr.network import Network, numbers
from export.models.glr.private_parameters import PrivateParameters
from export.models.glr.sequences import Sequences
from export.weights import TOWARDS
from stream.contracts import EventType
from stream.errors import UsageError

AVERAGED: Final = 0.25  # the last steps, whose parameters are averaged
LAST_RATE: Final = 0.05  # of the learning rate, at the end
LEVELLED: Final = 512  # items whose lists say at which level the scores are
PUBLIC: Final = ("item ids", "number of users")

Report = Callable[[str], None]

# All that turns towards an item is one kind, and what turns away changes no state: which types a
# log has may be one user's secret.
KINDS: Final[Int64] = np.where(TOWARDS, int(EventType.CLICK), 0)


class PrivateTrainer:
    """One network, and the noisy steps that train it.

    Parameters
    ----------
    users, items : of the log; rows of the item table
    mechanism : None: neither clips nor adds noise, to see what privacy costs
    uniforms : where sampling and noise come from; anything but `secret` protects nobody
    """

    def __init__(
        self,
        sequences: Sequences,
        users: int,
        items: int,
        p: PrivateParameters,
        mechanism: Mechanism | None,
        uniforms: Uniforms = secret,
    ) -> None:
        self.p, self.sequences, self.users, self.items = p, sequences, users, items
        self.mechanism, self.uniforms = mechanism, uniforms
        self.rate = min(1.0, p.batch / users)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(p.seed)
            self.network = Network(items, p.of_network(), None)
        self._public = np.random.default_rng([p.seed, 1])
        self._begin, self._count = np.zeros((2, users), np.int64)
        starts = sequences.starts
        of = sequences.user[starts[:-1]]
        self._begin[of], self._count[of] = starts[:-1], np.diff(starts)
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=p.learning_rate, betas=(0.9, 0.99)
        )

    def run(self, report: Report) -> Network:
        """Take all steps; answers the average of the last ones."""
        steps = self.p.steps
        first = steps - max(1, int(steps * AVERAGED))
        total: dict[str, Tensor] = {}
        began = time.monotonic()
        for step in tqdm(range(steps), leave=False, disable=None, desc="private", unit="step"):
            if step % max(1, steps // 10) == 0:
                left_s = (time.monotonic() - began) * (steps / max(step, 1) - 1)
                left = f"  ({left_s:.0f} s left)" if step else ""
                report(f"  step {step} of {steps}{left}")  # without the loss, which tells of users
            cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in self.optimiser.param_groups:
                group["lr"] = self.p.learning_rate * (LAST_RATE + (1 - LAST_RATE) * cosine)
            self.step()
            if step >= first:
                for name, value in self.network.state_dict().items():
                    total[name] = total.get(name, 0) + value / (steps - first)
        self.network.load_state_dict(total)
        self.network.eval()
        network: Network = self.network
        return network

    def step(self) -> None:
        """Sample users, sum what they ask for, add noise, move."""
        drawn = np.flatnonzero(self.uniforms(self.users) < self.rate)
        clip = math.inf if self.mechanism is None else self.p.clip
        found = self.noisy(clipped_sum(self.network, self.windows(drawn), self.shared(), clip))
        named = {"items": found.items, "biases": found.biases, **found.network}
        for name, parameter in self.network.named_parameters():
            parameter.grad = named[name] / (self.rate * self.users)
        self.optimiser.step()

    def noisy(self, total: Gradients) -> Gradients:
        """With noise on every number of every parameter."""
        if self.mechanism is None:
            return total
        deviation = self.mechanism.noise_multiplier * self.p.clip

        def add(value: Tensor) -> Tensor:
            return value + torch.from_numpy(gaussian(tuple(value.shape), deviation, self.uniforms))

        network = {name: add(value) for name, value in total.network.items()}
        return Gradients(add(total.items), add(total.biases), network)

    def windows(self, users: Int64) -> Windows:
        """A window of each of some users; an empty one of those without two events."""
        s, longest = self.sequences, self.p.window
        places = np.maximum(self._count[users] - longest, 1)
        begin = self._begin[users] + (self.uniforms(len(users)) * places).astype(np.int64)
        events = np.minimum(self._count[users], longest + 1)
        step = np.arange(max(1, int(events.max(initial=0)) - 1))
        there = step < events[:, None] - 1
        at = np.where(there, begin[:, None] + step, 0)
        rows, types, gaps = (np.where(there, column[at], 0) for column in (s.row, s.kind, s.gap))
        return Windows(rows, types, gaps, np.where(there, s.row[np.where(there, at + 1, 0)], 0))

    def shared(self) -> Int64:
        """The rows of a step's softmax that are everybody's: all, or some drawn from no data."""
        if self.items - 1 <= 2 * self.p.negatives:
            return np.arange(1, self.items)
        return np.sort(self._public.choice(self.items - 1, self.p.negatives, replace=False) + 1)


def learn_privately(
    log: Log,
    p: PrivateParameters,
    budget: Budget | None,
    report: Report,
    uniforms: Uniforms = secret,
) -> Trained:
    """Train on all users of a log.

    Parameters
    ----------
    budget : None: without clipping and noise, to see what they cost

    Raises
    ------
    UsageError
        The log is too small, or the budget is for such a log.
    """
    item_ids = ["", *sorted(log.items)]  # in the log they stand in the order of their first events
    if len(item_ids) < 3:
        raise UsageError(f"the log has {len(log.items)} items; training needs at least two")
    row_by_id = {item_id: row for row, item_id in enumerate(item_ids)}
    row_by_code = np.array([row_by_id[item_id] for item_id in log.items])
    users = len(np.unique(log.user))
    log = log.only_users(np.unique(log.user).astype(np.int64))
    mechanism = None
    if budget is not None:
        mechanism = Mechanism.within(budget, users, p.batch, p.steps)
        report(
            f"  {mechanism.steps} steps, each of {mechanism.sample_rate * users:,.0f} of {users:,} "
            f"users; noise {mechanism.noise_multiplier:.2f} times the most that a user can change"
        )
    sequences = Sequences.of(log, row_by_code, KINDS)
    trainer = PrivateTrainer(sequences, users, len(item_ids), p, mechanism, uniforms)
    network = trainer.run(report)
    found = numbers(network)
    bias, scale = found.pop("biases"), float(network.log_scale.detach().exp())
    del found["items"]  # the engine holds both, beside the graphs
    with torch.no_grad():
        table: Float32 = network.table().numpy().astype(np.float32)
        bias = bias - np.float32(_level(network))
    nothing = np.zeros((len(item_ids), 1))
    recurrence = graphs.Recurrence(
        p=p.of_network(),
        members=[graphs.Member(found, scale)],
        kinds=KINDS,
        turned=TOWARDS.astype(np.float32),
        again=np.zeros(1, np.float32),
        together=np.zeros(1, np.float32),
        companions=Companions(nothing.astype(np.int64), nothing.astype(np.float32)),
    )
    return exported(
        recurrence,
        item_ids,
        table,
        bias,
        sampled=len(item_ids) - 1 > 2 * p.negatives,
        storage="float32",
        created=datetime.now(UTC).isoformat(timespec="seconds"),  # the newest event is somebody's
        training={**asdict(p), "privacy": _told(budget, mechanism, users, p)},
        exclude_seen=p.exclude_seen,
        exclude_bought=p.exclude_bought,
    )


@torch.no_grad()
def _level(network: Network) -> float:
    """What to subtract from logits so that their sigmoid is near a probability, without data.

    The mean log of the softmax's denominator, after one click on each of some items.
    """
    table = network.table()
    rows = torch.arange(1, len(table))[:LEVELLED][None]
    click = torch.full_like(rows, int(EventType.CLICK))
    interest = network(rows, click, torch.zeros_like(rows), table)[0]
    logits = interest @ table[1:].T * network.log_scale.exp() + network.biases[1:]
    return float(torch.logsumexp(logits, 1).mean())


def _told(
    budget: Budget | None, mechanism: Mechanism | None, users: int, p: PrivateParameters
) -> dict[str, object] | None:
    """What the manifest says of privacy."""
    if budget is None or mechanism is None:
        return None
    return {
        "epsilon": mechanism.epsilon,
        "delta": budget.delta,
        "protects": "one user's whole history: whether it was in the log, and what was in it",
        "public": list(PUBLIC),
        "users": users,
        "sample_rate": mechanism.sample_rate,
        "steps": mechanism.steps,
        "noise_multiplier": mechanism.noise_multiplier,
        "clip": p.clip,
        "accountant": "Renyi divergences of the Poisson-sampled Gaussian mechanism",
    }
