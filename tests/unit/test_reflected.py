"""The list and the answer that a command waits for."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from stream.cli import ask
from stream.cli.reflected import Lists
from stream.config import Settings
from stream.contracts import (
    Answer,
    AnsweredItem,
    Because,
    Cause,
    Interaction,
    Reason,
    Recommendation,
    UserState,
    encode_record,
)
from stream.errors import FreshetError
from stream.words.settings import Wording
from stream.words.templates import Words

WORDS = Words.of(Wording())


# The list that answers an event


class _Arriving:
    """A consumer of one topic: what `poll` answers, record by record."""

    def __init__(self, *records: tuple[bytes | None, bytes | None]) -> None:
        self._records = [SimpleNamespace(key=key, value=value) for key, value in records]

    def poll(self, timeout_ms: int) -> dict[str, list[SimpleNamespace]]:
        return {"recommendations": [self._records.pop(0)]} if self._records else {}


def _because_of(topic: str, partition: int, offset: int) -> bytes:
    cause = Cause(topic, partition, offset, 1_700_000_000_000)
    return encode_record(Recommendation("u1", {}, "m", "default", cause, 0))


@pytest.mark.parametrize("offset", [7, 9])
def test_the_first_list_that_reflects_the_event_is_the_answer(offset: int) -> None:
    wanted = _because_of("clicks", 2, offset)
    consumer = _Arriving(
        (b"u2", wanted),
        (None, wanted),
        (b"u1", None),
        (b"u1", b"no list"),
        (b"u1", _because_of("clicks", 2, 6)),
        (b"u1", _because_of("clicks", 3, 8)),
        (b"u1", _because_of("purchases", 2, 8)),
        (b"u1", wanted),
        (b"u1", _because_of("clicks", 2, offset + 1)),
    )
    event = SimpleNamespace(topic="clicks", partition=2, offset=7)
    answer = Lists(consumer, Settings()).await_list(b"u1", event, timeout_s=5)
    assert answer.value == wanted
    assert answer.recommendation.cause.offset == offset


def test_no_list_in_time_says_what_to_look_at() -> None:
    event = SimpleNamespace(topic="clicks", partition=2, offset=7)
    lists = Lists(_Arriving((b"u1", _because_of("clicks", 2, 6))), Settings())
    with pytest.raises(FreshetError, match="is a worker running"):
        lists.await_list(b"u1", event, timeout_s=0.01)


# The answer to a request


def _answer(request_id: str, **more: Any) -> Answer:
    told = {"placement": "home", "known_user": True, "model": "m", "variant": "default"}
    return Answer(
        **{
            **told,
            **{"request_id": request_id, "user_id": "u1", "type": "list"},
            **{"status": "answered", "generated_ms": 0},
            **more,
        }
    )


def test_the_answer_with_the_requests_id_is_the_one() -> None:
    wanted = encode_record(_answer("mine"))
    other = encode_record(_answer("other"))
    consumer = _Arriving((b"u1", other), (b"u1", None), (b"u1", b"{"), (b"u1", wanted))
    assert ask._await_answer(consumer, "mine", time.monotonic() + 5) == wanted
    assert ask._await_answer(_Arriving((b"u1", other)), "mine", time.monotonic() + 0.01) is None


def test_an_answer_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    because = (Because("click", "i2", 5, 0.25), Because("view", None, 5, -0.125))
    explained = AnsweredItem("i1\x1b[2J", 0.5, 1, Reason("click", "i2"), because=because)
    marked = AnsweredItem("i9", 0.0, 2, Reason("unknown"), mark="unknown")
    ask._show(_answer("r", items=(explained, marked), known_user=False), 12.34, WORDS)
    assert capsys.readouterr().out.splitlines() == [
        "list for u1, a guest: answered in 12.3 ms",
        "   1. i1\\x1b[2J  0.5000  (You clicked i2)",
        "      +0.2500  You clicked i2",
        "      -0.1250  You viewed an item that is not sold any more",
        "   2. i9  0.0000  (Not known here, unknown)",
    ]
    state = UserState(3, 5, (Interaction("like", "i4", 7),), 99, 2, 7.5, 5)
    ask._show(_answer("r", type="state", state=state), 1.0, WORDS)
    shown = capsys.readouterr().out
    assert "3 events, 99 bytes kept of them; bought 2 times for 7.5" in shown
    assert "like i4 at 7" in shown
