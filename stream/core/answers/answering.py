"""The answers to the requests of a micro-batch. In: requests and states. Out: answers, in order.

Changes nothing. Reads no clock but the one that tells how long answering took, which deadlines are
held against; the time that goes into records is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Protocol

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from stream.contracts import (
    Answer,
    AnsweredItem,
    Cause,
    Rejection,
    Request,
    decode_requests,
    encode_record,
)
from stream.core.answers.asking import Crowd, Room, with_share
from stream.core.answers.auditing import audit
from stream.core.answers.beside import similar_to, together
from stream.core.answers.judging import explain, rank
from stream.core.catalogue import Catalogue
from stream.core.micro_batch import Asked, Part, PartResult
from stream.core.model import USERS_AT_ONCE, Model
from stream.core.policy.lists import Lists
from stream.core.policy.variants import placement_and_variant
from stream.core.pseudonyms import Pseudonyms
from stream.core.wire import Layout
from stream.words.templates import Words


class Trending(Protocol):
    """What is asked for more than it usually is."""

    def top(
        self, request: Request, allowed: NDArray[np.bool_], k: int, now_ms: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows and scores in (0, 1], best first, of the request's kind and category.

        `allowed`: bool, shape (rows,); the items that may be listed.
        """


class Contexts(Protocol):
    """What is wanted where a request comes from."""

    def lift(
        self, request: Request, placement: str, bias: NDArray[np.float32], now_ms: int
    ) -> NDArray[np.float32] | None:
        """What counts add to the logits of items, by row; the same array for the same contexts.

        `bias`: float32, shape (rows,); the model's. None: there is nothing to go by.
        """


class Answers:
    """Answers requests for one model and one catalogue.

    Parameters
    ----------
    lists : of the placements
    layout : of users' states
    pseudonyms : user ids to the keys of their states
    trending : None: nobody counts here
    """

    def __init__(
        self,
        model: Model,
        catalogue: Catalogue,
        lists: Lists,
        layout: Layout,
        pseudonyms: Pseudonyms,
        trending: Trending | None = None,
    ) -> None:
        self.lists = lists
        self._room = Room(model, catalogue, lists, layout)
        self._pseudonyms = pseudonyms
        self.trending = trending
        self.contexts: Contexts | None = None
        self._ways: dict[str, Callable[[Room, Crowd], list[Answer]]] = {
            "list": self._list,
            "rank": rank,
            "similar": similar_to,
            "together": together,
            "trending": self._trend,
            "explain": explain,
            "state": audit,
        }

    def put_into_words(self, words: Words) -> None:
        """Have answers say their reasons in words, too."""
        self._room.words = words

    def take_in(self, part: Part, now_ms: int, changes: PartResult) -> list[Rejection]:
        """Decode a part's requests into `changes`; all, also those from before a crash."""
        batch, shard = part.batch, part.shard
        requests, rejections = decode_requests(
            batch.keys, batch.values, self._room.lists.placements
        )
        ids = [request.user.encode() for _, request in requests]
        changes.asked = [
            Asked(
                shard, request, key, Cause(batch.topic, batch.partition, batch.offsets[at], now_ms)
            )
            for (at, request), key in zip(requests, self._pseudonyms.keys_of(ids), strict=True)
        ]
        changes.misrouted = int(np.count_nonzero(shard.astray(ids))) if ids else 0
        return rejections

    def fill(self, parts: Sequence[PartResult], now_ms: int) -> None:
        """Answer what the parts were asked, from the states as they are now.

        Parameters
        ----------
        now_ms : wall-clock time, for deadlines
        """
        answers = iter(self.make([one for changes in parts for one in changes.asked], now_ms))
        for changes in parts:
            made = [next(answers) for _ in changes.asked]
            changes.answer_keys = [one.request.user.encode() for one in changes.asked]
            changes.answer_values = list(map(encode_record, made))
            changes.answered = [(answer.type, answer.status) for answer in made]

    def make(self, asked: Sequence[Asked], now_ms: int) -> list[Answer]:
        """An answer to each request, in their order.

        Parameters
        ----------
        now_ms : wall-clock time, for deadlines
        """
        started = perf_counter()
        groups: dict[tuple[str, str, int | None], list[int]] = {}
        for number, one in enumerate(asked):
            request = one.request
            k = request.k if request.type == "list" else None
            groups.setdefault((request.type, self._arm(one), k), []).append(number)
        made: dict[int, Answer] = {}
        for (kind, placement, _), numbers in groups.items():
            for first in range(0, len(numbers), USERS_AT_ONCE):
                clock_ms = now_ms + int((perf_counter() - started) * 1000)
                some = numbers[first : first + USERS_AT_ONCE]
                in_time = [number for number in some if not _late(asked[number], clock_ms)]
                for number in some:
                    made[number] = self._room.answer(asked[number], placement, "late")
                if in_time:
                    crowd = self._room.crowd([asked[number] for number in in_time], placement)
                    made.update(zip(in_time, self._ways[kind](self._room, crowd), strict=True))
        return [made[number] for number in range(len(asked))]

    def _arm(self, one: Asked) -> str:
        lists = self._room.lists
        return lists.arm(one.request.placement or lists.placements[0], one.key)

    def _trend(self, room: Room, crowd: Crowd) -> list[Answer]:
        answers = room.answers(crowd)
        if self.trending is None:
            return [replace(answer, status="unavailable") for answer in answers]
        bits = room.ruling(crowd.audience, crowd.arm).bits.tolist()
        for user, one in enumerate(crowd.asked):
            allowed = room.allowed(crowd.arm, bits[user])
            k, now_ms = room.k(one, crowd.arm), one.cause.event_time_ms
            rows, scores = self.trending.top(one.request, allowed, k, now_ms)
            answers[user] = room.listing(answers[user], rows, scores, room.named("trending"))
        return answers

    def _list(self, room: Room, crowd: Crowd) -> list[Answer]:
        """The lists of a placement, as an event now would make them; a guest's by context."""
        lifts: list[NDArray[np.float32] | None] = [None] * len(crowd.asked)
        if self.contexts is not None:
            placement, _ = placement_and_variant(crowd.arm)  # events name no variant
            for user in np.flatnonzero(crowd.audience.headers["events"] == 0).tolist():
                one = crowd.asked[user]
                told = (one.request, placement, self.lists.item_bias, one.cause.event_time_ms)
                lifts[user] = self.contexts.lift(*told)
        answers = room.answers(crowd)
        number = np.array([id(lift) for lift in lifts])
        for first in np.unique(number, return_index=True)[1].tolist():
            who = np.flatnonzero(number == number[first])
            filled = _fill(room, crowd, who, lifts[first])
            for user, items, name in zip(who.tolist(), *filled, strict=True):
                answers[user] = replace(answers[user], items=items, name=name)
        return answers


def _late(one: Asked, clock_ms: int) -> bool:
    deadline_ms = one.request.deadline_ms
    return deadline_ms is not None and clock_ms > deadline_ms


def _fill(
    room: Room, crowd: Crowd, who: NDArray[np.int64], lift: NDArray[np.float32] | None
) -> tuple[list[tuple[AnsweredItem, ...]], list[str]]:
    """The lists of some of the users, in the placement's order, and their names."""
    k, some = crowd.asked[0].request.k, crowd.audience
    if len(who) < len(crowd.asked):
        some = some.take(who)
    shown, why, shares = room.lists.of_placement(crowd.arm, some, k, lift)
    lists = []
    for user in range(len(who)):
        items = []
        for at in range(int((shown.scores[user] > 0).cumprod().sum())):
            reason = room.reason(int(why.rows[user, at]), int(why.types[user, at]))
            item = room.item(shown.rows[user, at], shown.scores[user, at], at + 1, reason)
            if shares is not None:
                item = with_share(item, shares[user, at])
            if shown.explored is not None and shown.propensities is not None:
                item = replace(
                    item,
                    explored=bool(shown.explored[user, at]),
                    propensity=float(shown.propensities[user, at]),
                )
            items.append(item)
        lists.append(tuple(items))
    names, _ = room.lists.naming.name(room.lists.arms.index(crowd.arm), shown)
    return lists, [bytes(name).decode() for name in names]
