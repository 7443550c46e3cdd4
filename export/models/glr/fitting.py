"""Train one network. In: sequences, parameters. Out: its parameters as arrays. PyTorch.

The same seed, log, machine and number of threads give the same bits, also when a run was stopped
and goes on from its checkpoint: the order of batches comes from the seed and the epoch, everything
else that is random from a generator whose state is in the checkpoint.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from export.models.glr.checkpoint import keep, kept
from export.models.glr.interrupt import interruptible
from export.models.glr.loss import cross_entropy
from export.models.glr.network import Neighbours, Network, begin
from export.models.glr.parameters import Parameters
from export.models.glr.progress import Progress
from export.models.glr.sequences import Batch, Sequences
from export.models.glr.warm import Start
from stream.errors import TrainingError, UsageError

WARM_UP = 150  # steps, or a tenth of them
LAST_RATE = 0.01  # of the learning rate, at the end
CLIP = 5.0
TRIED_STEPS = 20  # before their time says how many epochs there is time for
NO_ITEM_LOGIT = -30.0
TELLS_EVERY_S = 60.0  # within an epoch, where no bar shows how far it is
ITEMS_OF = 512  # the number of a step's items is a multiple of this

Report = Callable[[str], None]
Judge = Callable[[Network], dict[str, float]]
Watch = Callable[[Mapping[str, float]], None]


@dataclass(slots=True)
class Plan:
    """How long one network trains.

    Attributes
    ----------
    epochs : at most
    seconds : at most; None for no limit
    judge : measures a network on held-out events after an epoch; the larger the first number, the
        better
    patience : epochs without a better one before the end
    checkpoint : file to go on from, and to write to after each epoch and on Ctrl-C
    watch : gets each line of the curve; what it raises ends the training; None: nobody does
    quiet : without a progress bar, where another training draws its own
    """

    epochs: int
    seconds: float | None = None
    judge: Judge | None = None
    patience: int = 2
    checkpoint: Path | None = None
    watch: Watch | None = None
    quiet: bool = False


class Trainer:
    """One network and its optimiser.

    Parameters
    ----------
    items : rows of the item table
    device : "cpu" or "cuda"
    start : where the network begins; None: at random
    """

    def __init__(
        self,
        sequences: Sequences,
        items: int,
        p: Parameters,
        neighbours: Neighbours | None,
        device: str,
        start: Start | None = None,
    ) -> None:
        torch.manual_seed(p.seed)
        self.p, self.sequences, self.device, self.items = p, sequences, device, items
        self.network = Network(items, p, neighbours)
        if start is not None:
            begin(self.network, start.numbers)
        self.network.to(device)
        self._start = "" if start is None else start.digest
        self.windows, self.progress = sequences.windows(p.window), Progress()
        self._best: dict[str, Tensor] = {}
        own = [self.network.items, self.network.biases]
        others = [q for q in self.network.parameters() if all(q is not o for o in own)]
        groups: list[dict[str, Any]] = [
            {"params": own, "factor": 1.0, "weight_decay": p.weight_decay},
            {"params": others, "factor": 0.5, "weight_decay": 0.01},
        ]
        self.optimiser = torch.optim.AdamW(
            groups, lr=p.learning_rate, betas=(0.9, 0.99), fused=True
        )

    def run(self, plan: Plan, report: Report) -> Network:
        """Train until the plan's end; answers the best network that its judge saw, else the last.

        Raises
        ------
        KeyboardInterrupt
            By Ctrl-C, after the checkpoint was written.
        UsageError
            The loss is not finite any more.
        TrainingError
            The checkpoint is of another training, or cannot be written.
        """
        self.progress.epochs = plan.epochs
        if plan.checkpoint is not None and plan.checkpoint.exists():
            self._load(plan.checkpoint)
        if (at := self.progress).steps:
            report(f"going on from {plan.checkpoint}: epoch {at.epoch + 1}, step {at.step}")
        with interruptible() as stopped:
            while at.epoch < at.epochs and not at.done:
                if not self._epoch(plan, stopped, report):
                    if plan.checkpoint is not None:
                        self._save(plan.checkpoint)
                    raise KeyboardInterrupt
                judged = self._judge(plan)
                told = "  ".join(f"{name} {value:.4g}" for name, value in at.curve[-1].items())
                best = f"  best {at.best_epoch}" if judged else ""
                left = f", {at.left(at.epochs - at.epoch)}" if at.epoch < at.epochs else ""
                report(f"  {told}{best}  ({at.spent_s:.0f} s{left})")
                at.done = judged and at.epoch - at.best_epoch >= plan.patience
                if plan.checkpoint is not None:
                    self._save(plan.checkpoint)
                if plan.watch is not None:
                    plan.watch(at.curve[-1])
            if stopped():  # while the last epoch was judged or saved
                raise KeyboardInterrupt
        if self._best:
            self.network.load_state_dict(self._best)
        self.network.eval()
        network: Network = self.network
        return network

    def _epoch(self, plan: Plan, stopped: Callable[[], bool], report: Report) -> bool:
        """Go on with the epoch at hand; False when it was interrupted."""
        at, told_s = self.progress, self.progress.spent_s
        order = np.random.default_rng([self.p.seed, at.epoch])
        batches = list(self.sequences.batches(self.windows, self.p.batch, order))
        at.batches = len(batches)
        began = time.monotonic() - at.spent_s
        self.network.train()
        with tqdm(
            total=len(batches),
            initial=at.step,
            leave=False,
            disable=True if plan.quiet else None,  # None: unless this is a terminal
            desc=f"epoch {at.epoch + 1} of {at.epochs}",
            unit="batch",
        ) as bar:
            while at.step < len(batches):
                if stopped():
                    return False
                self._rate(at.steps, len(batches) * at.epochs)
                draw = np.random.default_rng([self.p.seed, at.epoch, at.step])
                batch = self.sequences.pack(self.windows[batches[at.step]], draw)
                at.loss += self._step(batch)
                at.step += 1
                at.steps += 1
                at.spent_s = time.monotonic() - began
                if at.steps == TRIED_STEPS and plan.seconds is not None:
                    epoch_s = at.spent_s / TRIED_STEPS * len(batches)
                    at.epochs = max(1, min(at.epochs, int(plan.seconds / epoch_s)))
                loss = at.loss / at.step
                left = at.left(at.epochs - at.epoch - at.step / len(batches))
                bar.set_postfix_str(f"loss {loss:.4f}, {left}", refresh=False)
                bar.update()
                if not sys.stderr.isatty() and at.spent_s - told_s >= TELLS_EVERY_S:
                    told_s, done = at.spent_s, at.step / len(batches)
                    of = f"epoch {at.epoch + 1} of {at.epochs}, {done:.0%}"
                    report(f"  {of}: loss {loss:.4g}  ({at.spent_s:.0f} s, {left})")
        mean, at.loss = at.loss / at.step, 0.0
        at.epoch, at.step = at.epoch + 1, 0
        if not math.isfinite(mean):
            raise UsageError("the training ran away: its loss is no number; lower learning_rate")
        at.curve.append({"epoch": at.epoch, "loss": round(mean, 4)})
        return True

    def _rate(self, step: int, steps: int) -> None:
        warm = min(1.0, (step + 1) / max(1, min(WARM_UP, steps // 10)))
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        rate = LAST_RATE + (1 - LAST_RATE) * cosine
        for group in self.optimiser.param_groups:
            group["lr"] = self.p.learning_rate * group["factor"] * warm * rate

    def _step(self, batch: Batch) -> float:
        p, network = self.p, self.network
        rows, types, gaps, targets, weights = (
            torch.from_numpy(column).to(self.device) for column in batch[:5]
        )
        asked = targets > 0
        wanted = targets[asked]
        chosen, correction = self._choose(wanted, rows)
        table = network.table(chosen)
        if chosen is not None:
            rows, wanted = torch.searchsorted(chosen, rows), torch.searchsorted(chosen, wanted)
        interest = network(rows, types, gaps, table)[asked] * network.log_scale.exp()
        biases = network.biases if chosen is None else network.biases[chosen]
        if correction is None:  # row 0 is no item
            correction = torch.zeros_like(biases)
            correction[0] = NO_ITEM_LOGIT
        loss = cross_entropy(
            interest, table, biases, wanted, weights[asked], correction, p.label_smoothing
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        self.optimiser.step()
        return float(loss.detach())

    def _choose(self, wanted: Tensor, rows: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The items of a step's softmax in ascending order, and what each one stands for."""
        n, negatives = self.items, self.p.negatives
        if n <= 2 * negatives:
            return None, None
        there = torch.zeros(n, dtype=torch.bool, device=self.device)
        there[wanted] = True
        there[rows.flatten()] = True
        there[0] = True
        others = torch.nonzero(~there)[:, 0]
        count = negatives - (n - len(others) + negatives) % ITEMS_OF  # few shapes, see `loss`
        sampled = others[torch.randperm(len(others), device=self.device)[: max(count, 1)]]
        stands = torch.zeros(n, device=self.device)
        stands[sampled] = math.log(max(len(others), 1) / max(len(sampled), 1))
        stands[0] = NO_ITEM_LOGIT
        there[sampled] = True
        chosen = torch.nonzero(there)[:, 0]
        return chosen, stands[chosen]

    def _judge(self, plan: Plan) -> bool:
        if plan.judge is None:
            return False
        at = self.progress
        self.network.eval()
        measured = plan.judge(self.network)
        at.curve[-1].update(measured)
        value = next(iter(measured.values()))
        if value > at.best:
            at.best, at.best_epoch = value, at.epoch
            state = self.network.state_dict()
            self._best = {name: tensor.clone() for name, tensor in state.items()}
        return True

    def _save(self, file: Path) -> None:
        keep(
            file,
            {
                "parameters": asdict(self.p),
                "log": self.sequences.digest(),
                "start": self._start,
                "progress": asdict(self.progress),
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "best": self._best,
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state_all() if self.device == "cuda" else [],
            },
        )

    def _load(self, file: Path) -> None:
        content = kept(file, self.device)
        if content["parameters"] != asdict(self.p):
            raise TrainingError(
                f"{file}: was trained with other parameters; delete it to begin anew, or give those"
            )
        if content["log"] != self.sequences.digest():
            raise TrainingError(f"{file}: was trained on another log; delete it to begin anew")
        if content["start"] != self._start:
            raise TrainingError(f"{file}: began from another bundle; delete it to begin anew")
        self.progress = Progress(**content["progress"])
        self.network.load_state_dict(content["network"])
        self.optimiser.load_state_dict(content["optimiser"])
        self._best = content["best"]
        torch.set_rng_state(content["random"].cpu())
        torch.cuda.set_rng_state_all([state.cpu() for state in content.get("random_cuda", [])])
