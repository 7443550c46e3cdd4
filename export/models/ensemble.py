"""`ensemble`: two models or more whose logits are added up, with weights from held-out events.

    logit_j = sum over members of  weight * (their own beta * their affinity_j + their bias_j)

Members are trained one by one on the events of the same items. States stand side by side, item
vectors too, of the members that look at them. `composing.py` makes two graphs of all of them,
`pooling.py` the weights.

Must not know: the bundle's files, evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from export.data.dataset import Log
from export.models import composing
from export.models.base import Baskets, Float32, HeldOut, Int64, Run, Trained
from export.models.composing import Part
from export.models.content_map import ContentMap
from export.models.pooling import K, Weighed, weigh
from export.models.registry import LEARNED, SINGLE
from export.weights import EVENT_WEIGHTS
from stream.core.bundle import NEVER_LISTED, Head
from stream.core.recent import Recent
from stream.errors import UsageError


@dataclass(frozen=True, slots=True)
class Parameters:
    """Beside them, each member's own are given as `MEMBER.NAME`.

    Attributes
    ----------
    of : names of the members, with commas between them
    min_count : items in fewer sessions get no row; of all members
    """

    of: str = "mf,cooccurrence"
    min_count: int = 1


@dataclass(frozen=True, slots=True)
class Settled:
    """What held-out events decided. `members`: of each, what it settled itself."""

    weighed: Weighed
    members: Mapping[str, Any]


def by_member(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The members in their order, each with its own parameters.

    Raises
    ------
    UsageError
        There are less than two members, one is no model or named twice, or a parameter is of none.
    """
    of = _shared(given).of
    names = [name.strip() for name in of.split(",")]
    for name in names:
        if name not in SINGLE:
            raise UsageError(
                f"of={of}: {name!r} is no model; name two or more of {', '.join(sorted(SINGLE))}"
            )
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(f"of={of}: an ensemble is of two or more models, each named once")
    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name, value in given.items():
        member, dot, parameter = name.partition(".")
        if not dot:
            continue
        if member not in own:
            raise UsageError(f"{name}: {member} is no member; the ensemble is of {of}")
        if parameter == "min_count":
            raise UsageError(f"{name}: members have the same items; set min_count without a name")
        own[member][parameter] = value
    return own


def train(
    log: Log,
    *,
    held_out: HeldOut | None = None,
    settled: Settled | None = None,
    run: Run | None = None,
    **given: Any,
) -> Trained:
    """Train on a log.

    Parameters
    ----------
    held_out : which events are trained on, and by which of the others members are weighed
    settled : of an earlier training with `held_out`, whose weights are taken; without either of the
        two, all members weigh the same
    run : of members that take long
    given : fields of `Parameters`, and of a member's as `MEMBER.NAME`

    Raises
    ------
    UsageError
        A member is unknown or cannot be trained, or the log has fewer than two items that stand in
        `min_count` sessions.
    """
    run = run or Run()
    p, own = _shared(given), by_member(given)
    names = list(own)
    older = log if held_out is None else log.select(held_out.trained)
    known = np.isin(log.items, Baskets.of(older, p.min_count).item_ids)
    common, held = _of_items(log, held_out, known)
    common_older = common if held is None else common.select(held.trained)
    members = []
    for name in names:
        run.report(f"  {name}")
        if name in LEARNED:
            of = None if settled is None else settled.members[name]
            more = {"held_out": held, "settled": of, "run": run}
            members.append(SINGLE[name](common, **more, **own[name]))
        else:
            members.append(SINGLE[name](common_older, **own[name]))
    if settled is not None:
        weighed = settled.weighed
    elif held_out is not None:
        weighed = weigh(members, log, held_out)
        run.report(told(names, weighed))
    else:
        weighed = Weighed.equal(len(names))
    found = assemble(members, weighed.weights)
    found.created = log.ends
    found.settled = Settled(weighed, {member.model: member.settled for member in members})
    found.training = {
        "events": len(older),
        "of": names,
        "min_count": p.min_count,
        "weights": dict(zip(names, weighed.weights, strict=True)),
        "members": {member.model: member.training for member in members},
    }
    return found


def told(names: Sequence[str], weighed: Weighed) -> str:
    """What was found, in a line."""
    weights = ", ".join(f"{n} {w:.3f}" for n, w in zip(names, weighed.weights, strict=True))
    alone = ", ".join(f"{n} {worth:.4f}" for n, worth in zip(names, weighed.alone, strict=True))
    seen = "without" if weighed.exclude_seen else "with"
    return (
        f"  weights: {weights}; ndcg@{K} of {weighed.cases:,} held-out moments, of items it knows, "
        f"{seen} seen items: {weighed.ndcg:.4f}, alone: {alone}"
    )


def assemble(members: Sequence[Trained], weights: Sequence[float]) -> Trained:
    """One model of several.

    Parameters
    ----------
    members : of equal `item_ids`, without calibration
    weights : of them
    """
    first = members[0]
    if any(member.item_ids != first.item_ids for member in members):
        raise ValueError("members of an ensemble must have the same rows")
    parts = list(_parts(members, weights))
    embeddings = np.concatenate(
        [part.trained.embeddings for part in parts if part.vectors is not None], axis=1
    )
    dim, recent = embeddings.shape[1], max(member.recent for member in members)
    pooled = np.array(weights) @ np.stack([member.biases for member in members]).astype(np.float64)
    biases: Float32 = pooled.astype(np.float32)
    biases[0] = NEVER_LISTED
    half_lives_s = tuple(of for member in members for of in composing.half_lives_s(member))
    return Trained(
        model="ensemble",
        item_ids=first.item_ids,
        embeddings=embeddings,
        biases=biases,
        state_size=parts[-1].state.stop,
        storage="int8" if all(member.storage == "int8" for member in members) else "float32",
        beta=1.0,
        additive=None,
        live_weights=bool(half_lives_s),
        half_lives_s=half_lives_s,
        head=_head(members),
        event_weights=EVENT_WEIGHTS,
        update_onnx=composing.update(parts, dim),
        score_onnx=composing.score(parts, dim, recent),
        reference=EnsembleReference(parts, weights),
        created=first.created,
        training={},
        recent=recent,
        content=_content(parts, dim),
    )


def _head(members: Sequence[Trained]) -> Head:
    heads = [member.head for member in members if member.head is not None]
    affinities = " and ".join(head.affinity for head in heads)
    return Head(f"weighted sum of {affinities}", " and ".join(head.loss for head in heads))


class EnsembleReference:
    """The members' references, side by side."""

    def __init__(self, parts: Sequence[Part], weights: Sequence[float]) -> None:
        self._parts, self._weights = parts, weights

    def update(
        self, state: Float32, item_rows: Int64, event_types: Int64, gaps_s: Float32
    ) -> Float32:
        following: Float32 = np.concatenate(
            [
                part.trained.reference.update(state[:, part.state], item_rows, event_types, gaps_s)
                for part in self._parts
            ],
            axis=1,
        )
        return following

    def logits(self, state: Float32, beta: float, recent: Recent | None = None) -> Float32:
        pooled = np.zeros((), np.float64)
        for part, weight in zip(self._parts, self._weights, strict=True):
            member = part.trained
            seen = [] if recent is None else [Recent(*(x[:, : member.recent] for x in recent))]
            logits = member.reference.logits(
                state[:, part.state], beta * member.beta, *(seen if member.recent else [])
            )
            pooled = pooled + weight * logits.astype(np.float64)
        return pooled.astype(np.float32)


def _shared(given: Mapping[str, Any]) -> Parameters:
    return Parameters(**{name: value for name, value in given.items() if "." not in name})


def _of_items(
    log: Log, held_out: HeldOut | None, known: np.ndarray[Any, np.dtype[np.bool_]]
) -> tuple[Log, HeldOut | None]:
    """The events of some items, `known` by code, so that all members have the same rows."""
    kept = known[log.item]
    if kept.all():
        return log, held_out
    common = log.select(kept)
    if held_out is None:
        return common, None
    asked = np.zeros(len(log), np.bool_)
    asked[held_out.asked] = True
    return common, HeldOut(held_out.trained[kept], np.flatnonzero(asked[kept]))


def _parts(members: Sequence[Trained], weights: Sequence[float]) -> Iterator[Part]:
    widths = [m.embeddings.shape[1] if composing.looks_at_vectors(m) else 0 for m in members]
    states = pairwise(accumulate((m.state_size for m in members), initial=0))
    vectors = pairwise(accumulate(widths, initial=0))
    for member, weight, state, columns in zip(members, weights, states, vectors, strict=True):
        there = slice(*columns) if columns[0] < columns[1] else None
        yield Part(member, weight * member.beta, slice(*state), there)


def _content(parts: Sequence[Part], dim: int) -> ContentMap | None:
    """The map of the member that has one; it gives zeros in the columns of the others."""
    for part in parts:
        content = part.trained.content
        if content is not None and part.vectors is not None:
            matrix = np.zeros((len(content.matrix), dim), np.float32)
            matrix[:, part.vectors] = content.matrix
            return replace(content, matrix=matrix)
    return None
