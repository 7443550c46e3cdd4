"""Why an item is listed: codes where no interaction speaks for it, and words for all of them."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from msgspec import UNSET

from stream.cli.lists import Titles
from stream.config import Placement, Settings
from stream.contracts import Item, ListedItem, Reason
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.errors import SettingsError
from stream.placements import Items, Pin, Rule, Shoppers
from stream.words.settings import Wording
from stream.words.templates import CODES, MAX_TITLE, NAMELESS, Words, parse
from tests.support.desk import PLACEMENTS, Desk
from tests.support.engine import Shop, lists

LANGUAGES = sorted(
    file.name.removesuffix(".toml")
    for file in resources.files("stream.words").iterdir()
    if file.name.endswith(".toml")
)
ENGLISH = Words.of(Wording())


# -- templates -------------------------------------------------------------------------------


def test_a_language_is_a_file_and_a_choice() -> None:
    assert list(get_args(get_type_hints(Wording)["language"])) == LANGUAGES
    assert Settings().words.language in LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_words_for_every_reason(language: str) -> None:
    templates = Words.of(Wording(language=language)).templates  # type: ignore[arg-type]
    assert set(templates) == CODES
    named = {code for code, template in templates.items() if template.after is not None}
    assert named == CODES - NAMELESS
    assert len(set(templates.values())) == len(CODES)


def test_a_shops_own_file_stands_over_the_language(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text('purchase = "Weil du {item} hast {{ }}"\nnew = "Frisch"\n', encoding="utf-8")
    words = Words.of(Wording(language="de", file=str(file)))
    assert words.why("purchase", "LUNCH BAG") == "Weil du LUNCH BAG hast { }"
    assert words.why("new", None) == "Frisch"
    assert words.why("view", "A") == "Sie haben A angesehen"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("purchas = 'x'", "ours.toml: purchas: is not a reason; did you mean purchase?"),
        ("qqqqqqq = 'x'", "ours.toml: qqqqqqq: is not a reason; there are add_to_cart, bid, "),
        ("view = 5", "ours.toml: view: must be a text of one line that is not empty."),
        ("view = ' '", "ours.toml: view: must be a text of one line that is not empty."),
        ('view = "a\\u0000b"', "ours.toml: view: must be a text of one line"),
        ("view = '{title}'", "view: is '{title}'; may have no placeholder but {item}, once."),
        ("view = '{item} {item}'", "may have no placeholder but {item}, once."),
        ("view = '{item!r}'", "may have no placeholder but {item}, once."),
        ("view = '{item:>9}'", "may have no placeholder but {item}, once."),
        ("new = '{item}'", "new: is '{item}'; may have no placeholder."),
        ("view = '{item'", "ours.toml: view: expected '}' before end of string; a brace of"),
        ("view", "ours.toml: is not TOML: "),
    ],
)
def test_what_is_wrong_in_a_file_is_told(text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(told)):
        parse(text, "ours.toml")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Words.of(Wording(file=str(tmp_path / "none.toml")))
    (tmp_path / "latin").write_bytes(b"new = '\xe9'")
    with pytest.raises(SettingsError, match="not UTF-8"):
        Words.of(Wording(file=str(tmp_path / "latin")))


def test_words_for_what_is_not_known() -> None:
    assert ENGLISH.why("brand_new", "i9") == "brand new i9"
    assert ENGLISH.why("brand_new", None) == "brand new"
    assert ENGLISH.why("click", None) == "You clicked an item that is not sold any more"
    long = ENGLISH.why("click", "x" * 1000)
    assert len(long) == len("You clicked ") + MAX_TITLE
    assert long.endswith("x…")


def test_readers_take_the_words_of_a_record_or_find_them() -> None:
    titles = Titles(ENGLISH)
    titles.learn(b"i1", b'{"item_id": "i1", "title": "LUNCH BAG"}')
    assert titles.why(Reason("purchase", "i1")) == "You bought LUNCH BAG"
    assert titles.why(Reason("purchase", "i1", "Déjà acheté")) == "Déjà acheté"


# -- codes -----------------------------------------------------------------------------------


def shown(shop: Shop, *, item: str = "i7", kind: str = "click") -> dict[str, ListedItem]:
    (record,) = lists(shop.step({"item_id": item, "type": kind}))
    return {listed.item_id: listed for listed in record.lists["home"].items}


def test_a_rule_that_lifts_an_item_is_named_where_nothing_else_speaks(decay_bundle: Bundle) -> None:
    often = Shoppers(events_from=2)
    lifts = Rule("boost", Items(ids=("i3", "i5")), often, add=0.25)
    lowers = Rule("boost", Items(ids=("i8",)), add=-0.01)
    shop = Shop(decay_bundle, home=Placement(k=200, exclude_seen=False, rules=(lifts, lowers)))
    # A dislike is nobody's reason to look at an item, so all are popular.
    assert {item.reason for item in shown(shop, kind="dislike").values()} == {Reason("popular")}
    again = shown(shop, kind="dislike")
    lifted = {item_id for item_id, item in again.items() if item.reason == Reason("boosted")}
    assert lifted == {"i3", "i5"}
    assert again["i8"].reason == Reason("popular")
    clicked = shown(shop, item="i3")
    assert clicked["i3"].reason == Reason("click", "i3")


def test_what_trends_is_named_where_nothing_else_speaks(decay_bundle: Bundle) -> None:
    lifts = Rule("boost", Items(ids=("i3",)), add=0.25)
    shop = Shop(decay_bundle, home=Placement(k=200, exclude_seen=False, rules=(lifts,)))
    shop.catalogue.put(Item("fresh"))  # of a row that nobody looked at yet
    for row in range(1, 201):
        shop.catalogue.put(Item(f"i{row}"))
    shop.engine.answers.lists.trends = np.isin(np.arange(201), [3, 4, 9])
    found = shown(shop, kind="dislike")
    assert len(found) == 200
    assert {i for i, item in found.items() if item.reason == Reason("trending")} == {"i4", "i9"}
    assert found["i3"].reason == Reason("boosted")


def test_a_list_by_bid_says_so_and_what_is_pinned_too(decay_bundle: Bundle) -> None:
    rules = Placement(k=5, kinds=("ad",), by_bid=True, pins=(Pin("i9", 2),))
    shop = Shop(decay_bundle, home=rules)
    for row in range(1, 21):
        shop.catalogue.put(Item(f"i{row}", kind="ad", bid=0.1))
    reasons = {item_id: item.reason for item_id, item in shown(shop).items()}
    assert reasons.pop("i9") == Reason("pinned")
    assert set(reasons.values()) == {Reason("bid")}


# -- words in records ------------------------------------------------------------------------


def test_lists_say_their_reasons_in_words_where_that_is_set(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle)
    assert {item.reason.words for item in shown(shop).values()} == {UNSET}
    shop.catalogue._titles = {}
    for row in range(1, 201):
        shop.catalogue.put(Item(f"i{row}", title=f'Item "{row}" €'))
    shop.engine.answers.lists.put_into_words(Words.of(Wording(language="de")))
    whys = {item.reason for item in shown(shop).values()}
    assert Reason("click", "i7", 'Sie haben Item "7" € angeklickt') in whys
    shop.catalogue.put(Item("i7", title="Other"))
    whys = {item.reason for item in shown(shop).values()}
    assert Reason("click", "i7", "Sie haben Other angeklickt") in whys
    assert whys <= {
        Reason("click", "i7", "Sie haben Other angeklickt"),
        Reason("popular", None, "Gerade beliebt"),
    }


def test_a_catalogue_keeps_titles_only_when_they_are_wanted() -> None:
    for titles, wanted in ((True, "T" * (MAX_TITLE - 1) + "…"), (False, "i1")):
        catalogue = Catalogue(["", "i1", "i2"], titles=titles)
        catalogue.put(Item("i1", title="T" * 1000))
        catalogue.put(Item("i3"))
        assert [catalogue.title(row) for row in (1, 2, 3)] == [wanted, "i2", "i3"]


def test_answers_say_their_reasons_in_words(decay_bundle: Bundle) -> None:
    desk = Desk(decay_bundle, placements={"all": Placement(k=200), **PLACEMENTS})
    desk.engine.answers.put_into_words(ENGLISH)
    desk.did("i7", "nobody knows it")
    desk.did("i9", kind="dislike")
    of_list = {item.reason for item in desk.ask("list").items}
    assert of_list == {
        Reason("click", "i7", "You clicked i7"),
        Reason("popular", None, "Popular now"),
    }
    (explained, unknown) = desk.ask("explain", candidates=["i7", "who"]).items
    assert explained.reason.words == "You clicked i7"
    told = {because.item_id: because.words for because in explained.because}  # type: ignore[union-attr]
    assert told.keys() >= {"i7", "i9"}
    assert told["i7"] == "You clicked i7"
    assert told["i9"] == "You do not like i9"
    assert unknown.reason == Reason("unknown", None, "Not known here")
    (near, *_) = desk.ask("similar", item_id="i3").items
    assert near.reason == Reason("similar", "i3", "Similar to i3")
    (with_it, *_) = desk.ask("together", item_id="i3").items
    assert with_it.reason.words == "Often bought together with i3"


def test_an_answer_has_no_words_where_they_are_not_set(decay_bundle: Bundle) -> None:
    desk = Desk(decay_bundle)
    desk.did("i7")
    result = desk.asked({"type": "explain", "candidates": ["i7"]}, {"type": "list"})
    assert all(b"words" not in value for value in result.answer_values)
