"""Lists as text: what fits a terminal's lines, and moves nothing on it."""

from __future__ import annotations

import unicodedata

import pytest
import wcwidth
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.cli.common import fit, printable
from stream.cli.lists import Titles
from stream.cli.screen import Happened, Screen
from stream.contracts import Cause, ListedItem, RankedList, Reason, Recommendation
from stream.words.settings import Wording
from stream.words.templates import Words

WORDS = Words.of(Wording())


# Text for a terminal


@settings(deadline=None)
@given(st.text())
def test_printable_leaves_nothing_that_moves_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    shown.encode()


def test_printable_escapes_and_keeps() -> None:
    assert printable("\x1b[31mred\u202e") == "\\x1b[31mred\\u202e"
    assert printable("Grüße 雨 🙂") == "Grüße 雨 🙂"
    assert printable("a\nb", keep="\n") == "a\nb"


@settings(deadline=None)
@given(st.text(), st.integers(1, 60))
def test_fit_fills_exactly(text: str, width: int) -> None:
    shown = fit(text, width)
    assert wcwidth.width(shown) == width
    assert wcwidth.wcswidth(shown) in (-1, width)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("LANTERN", "LANT…"),
        ("雨傘雨傘", "雨傘…"),
        ("é\N{COMBINING CEDILLA}tagère", "é\N{COMBINING CEDILLA}tag…"),
        ("e\N{COMBINING ACUTE ACCENT}t", "e\N{COMBINING ACUTE ACCENT}t   "),
        ("👍🏽👍🏽👍🏽", "👍🏽👍🏽…"),
    ],
)
def test_fit_cuts_between_what_a_reader_sees_as_characters(text: str, shown: str) -> None:
    assert fit(text, 5) == shown


# The demo's screen


def _recommendation(*items: ListedItem) -> Recommendation:
    cause = Cause("clicks", 0, 1, 1_700_000_000_000)
    return Recommendation("u1", {"home": RankedList(list(items))}, "m", "main", cause, 0)


def test_screen_fits_80_columns_and_marks_what_is_new() -> None:
    titles = Titles(WORDS)
    titles.learn(b"i1", b'{"item_id": "i1", "title": "%s"}' % (b"LONG " * 30))
    titles.learn(
        b"i2", '{"item_id": "i2", "title": "雨傘\\u001b[2J雨傘雨傘雨傘雨傘雨傘雨傘雨傘"}'.encode()
    )
    screen = Screen(titles)
    one = ListedItem("i1", 0.5, 1, Reason("click", "i2"), price=12345.678)
    two = ListedItem("i2", 0.25, 2, Reason("popular"))
    first = screen.render(_recommendation(one), Happened("click", "i1"), 4.25, by_hand=False)
    second = screen.render(_recommendation(one, two), None, 12345.6, by_hand=False)
    assert [line[:1] for line in first[2:]] == [" "]
    assert [line[:1] for line in second[2:]] == [" ", "+"]
    assert "4.2 ms" in first[1]
    assert "12345.68" in first[2]
    for line in first + second:
        plain = line.replace("\x1b[1m", "").replace("\x1b[0m", "")
        assert "\x1b" not in plain
        assert sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in plain) <= 80


def test_reasons_in_words() -> None:
    titles = Titles(WORDS)
    titles.learn(b"i1", b'{"item_id": "i1", "title": "LUNCH BAG"}')
    assert titles.why(Reason("purchase", "i1")) == "You bought LUNCH BAG"
    assert titles.why(Reason("popular")) == "Popular now"
    assert titles.why(Reason("brand_new", "i9")) == "brand new i9"
    titles.learn(b"i1", None)
    assert titles.title("i1") == "i1"
    titles.learn(b"i1", b"not json")
    titles.learn(None, None)
