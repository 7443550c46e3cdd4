"""`freshet-export evaluate` of two models: a bundle, the baseline, another bundle."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from export.data.dataset import Log
from stream.core.bundle import Bundle
from tests.support.bundles import random_decay_bundle
from tests.unit.test_evaluation import ITEMS, log_of
from tests.unit.test_export_cli import run, visits


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_decay_bundle(tmp_path_factory.mktemp("made") / "bundle", ITEMS, dim=8)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return visits(tmp_path / "log.jsonl")


def test_a_bundle_is_measured_beside_the_baseline(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, test = tmp_path / "bundle", tmp_path / "prefixes"
    assert run(capsys, "train", shop, "--out", folder, "--model", "decay")[0] == 0
    test.write_text("t1-1 t1-2\tt1-3\nt2-4\tt2-5\nt3-1 t3-2\tgone\n")
    asked = ("evaluate", "--bundle", folder, "--test", test, "--format", "prefixes", "--k", "2,8")
    code, out, err = run(capsys, *asked, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {"recall@8", "mrr@8", "cases", "k", "bundle_id", "confidence"} <= set(found)
    assert found["cases"] == 3
    assert found["recall@8"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["baseline"]["model"] == "cooccurrence"
    assert found["baseline"]["recall@8"] > 0
    assert found["baseline"]["cases"] == 3
    assert set(found["against_baseline"]["recall@8"]) == {"difference", "low", "high", "p"}
    assert found["popularity_of"] == "training log"
    code, out, err = run(capsys, *asked)
    assert code == 0, err
    assert "baseline  cooccurrence, trained anew" in out
    assert re.search(
        r"^recall@8 +0\.6667  0\.\d+ to 1\.0000 +[01]\.\d+  [+-]0\.\d+  [01]\.", out, re.M
    )
    assert "1 of 3 targets are items that the bundle does not know" in out
    plots = tmp_path / "plots"
    more = ("--baseline", shop, "--baseline-format", "events", "--against", folder)
    code, out, err = run(capsys, *asked, *more, "--json", "--plots", plots)
    assert code == 0, err
    found = json.loads(out)
    assert found["baseline"]["model"] == "cooccurrence"
    assert found["baseline"]["recall@8"] > 0
    assert found["against_other"]["recall@8"] == {"difference": 0, "low": 0, "high": 0, "p": 1}
    assert found["popularity_of"] == "training log"
    assert ET.parse(plots / "reliability.svg").getroot().tag.endswith("svg")
    assert {path.name for path in plots.iterdir()} == {"reliability.svg", "report.html"}
    assert (plots / "reliability.svg").read_text() in (plots / "report.html").read_text()
    code, out, err = run(capsys, *asked, *more)
    assert code == 0, err
    assert re.search(r"^recall@8 .* 0\.6667  \+0\.0000  1\.000$", out, re.M)  # against itself
    assert re.search(r"^recall@8 +0\.6667  0\.\d+ to 1\.0000 ", out, re.M)


def test_a_bundle_without_its_log_says_why_it_stands_alone_and_what_to_give(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundle"
    assert run(capsys, "train", shop, "--out", folder, "--model", "decay")[0] == 0
    asked = ("evaluate", "--bundle", folder, "--test", shop)

    def told() -> tuple[str, dict[str, Any]]:
        code, out, err = run(capsys, *asked)
        assert code == 0, err
        code, found, err = run(capsys, *asked, "--json")
        assert code == 0, err
        return out, json.loads(found)["baseline"]

    test = shop.rename(tmp_path / "test.jsonl")
    asked = ("evaluate", "--bundle", folder, "--test", test)
    out, found = told()
    assert re.search(
        r"^baseline  not measured on these lists: .* is not there any more; ", out, re.M
    )
    assert "give that log with --baseline LOG" in out
    assert re.search(r"newest events of that log, which are other lists: recall@20 0\.\d{4}", out)
    assert (found["measured"], found["give"]) == (False, "--baseline LOG")
    assert found["held_out"]["recall@20"] > 0
    shop.write_text("".join(test.read_text().splitlines(keepends=True)[:-1]))
    out, _ = told()
    assert "holds other events now than the bundle was trained on" in out
    (folder / "run.json").unlink()
    out, found = told()
    assert "no run.json beside the bundle names its training log" in found["why"]


def test_what_a_strangers_card_names_is_a_file_or_nothing(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundle"
    assert run(capsys, "train", shop, "--out", folder, "--model", "decay")[0] == 0
    pipe, card = tmp_path / "pipe", json.loads((folder / "run.json").read_text())
    os.mkfifo(pipe)
    empty = tmp_path / "system" / "log"  # as files of the system look that wait for ever
    empty.parent.mkdir()
    empty.touch()
    for settings, why in (
        ({"log": str(pipe)}, "is not there any more"),
        ({"log": str(empty)}, "is not there any more"),
        ({"log": str(empty.parent)}, "is not there any more"),
        ({"format": "kafka"}, "trained on the topics"),
        ({"log": 7}, "trained on the topics"),
        ({"format": ["events"]}, "trained on the topics"),
        ({"log": "x" * 5000}, "is not there any more"),
        ({"items": ["x" * 5000]}, "is not there any more"),
        ({"max_per_day": 2.5, "min_count": 1000}, "cleaning left no event"),
        ({"format": "rees46"}, "its training log cannot be read"),
        ({"min_count": "7", "items": [8]}, "8, is not there any more"),
    ):
        changed = {**card, "settings": {**card["settings"], **settings}}
        (folder / "run.json").write_text(json.dumps(changed))
        code, out, err = run(capsys, "evaluate", "--bundle", folder, "--test", shop, "--json")
        assert code == 0, err
        assert why in json.loads(out)["baseline"]["why"]


def test_a_bundle_that_is_the_baseline_says_so(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = tmp_path / "bundle", tmp_path / "other"
    assert run(capsys, "train", shop, "--out", folder, "--model", "cooccurrence")[0] == 0
    code, out, err = run(capsys, "evaluate", "--bundle", folder, "--test", shop)
    assert code == 0, err
    assert "baseline  the bundle itself" in out
    random_decay_bundle(other, ITEMS, dim=8)
    asked = ("--bundle", other, "--against", folder, "--test", shop)
    code, out, err = run(capsys, "evaluate", *asked, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["baseline"] == found["other"]
    assert found["against_baseline"] == found["against_other"]
    code, out, err = run(capsys, "evaluate", *asked)
    assert code == 0, err
    assert "baseline  the other bundle" in out
    assert "other, difference, p" in out


def test_the_baseline_leaves_out_what_the_bundle_leaves_out(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = random_decay_bundle(tmp_path / "bundle", ITEMS, dim=8, exclude_seen=True)
    asked = ("evaluate", "--bundle", bundle.path, "--test", shop, "--baseline", shop, "--json")
    code, out, err = run(capsys, *asked)
    assert code == 0, err
    found = json.loads(out)
    assert found["exclude_seen"] is found["baseline"]["exclude_seen"] is True


def test_the_log_of_the_baseline_is_cleaned_as_training_cleans_it(
    shop: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = shop.read_text().splitlines()[0]
    twice = tmp_path / "twice.jsonl"
    twice.write_text(shop.read_text() + (first + "\n") * 30)
    asked = ("evaluate", "--bundle", bundle.path, "--test", shop, "--json")
    told = []
    for log, *cleaning in ((shop,), (twice,), (twice, "--no-cleaning"), (shop, "--min-count", 5)):
        code, out, err = run(capsys, *asked, "--baseline", log, *cleaning)
        assert code == 0, err
        told.append((json.loads(out)["baseline"], "left out: 30 repeated event" in err))
    (plain, _), (cleaned, left_out), (whole, nothing), (frequent, _) = told
    assert (left_out, nothing) == (True, False)
    assert cleaned == plain != whole
    assert frequent["items"] < plain["items"]
    assert {one["cases"] for one, _ in told} == {190}


def test_what_reads_a_log_reads_both_of_a_bundle(
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def note(path: Path, form: str, *_: object, **how: object) -> Log:
        asked.append((path.name, form, how["scratch"], how["until"]))
        return log_of("i1 i2 i3 i1 i2", "i2 i3 i1", items=["i1", "i2", "i3"])

    monkeypatch.setattr("export.measuring.asked.read_log", note)
    monkeypatch.setattr("export.data.options.read_log", note)
    logs = ("--test", "a.toml", "--baseline", "b.toml", "--format", "kafka")
    how = ("--scratch", tmp_path, "--until", "clicks:0=7")
    code, _, err = run(capsys, "evaluate", "--bundle", bundle.path, *logs, *how)
    assert code == 0, err
    read = ("kafka", tmp_path, {("clicks", 0): 7})
    assert asked == [("a.toml", *read), ("b.toml", *read)]


def test_a_comparison_has_intervals_and_a_test(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plots = tmp_path / "plots"
    of = ("--model", "decay", "--set", "dim=8")
    options = (*of, "--k", "3,20", "--plots", plots)
    code, out, err = run(capsys, "evaluate", shop, *options, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert len(found) == 6
    moment = found["decay, repeats allowed"]["rest_of_basket"]
    assert 0 <= moment["against_baseline"]["recall@3"]["p"] <= 1
    assert moment["recall@3"] > 0
    assert "against_baseline" not in found["cooccurrence, repeats allowed"]["rest_of_basket"]
    drawn = [(plots / name).read_text() for name in ("reliability.svg", "learning.svg")]
    report = (plots / "report.html").read_text()
    assert all(text in report for text in drawn)
    assert len(ET.fromstring(report.removeprefix("<!doctype html>")).findall("body/{*}svg")) == 2
    curve = re.findall(r"<title>decay: (\d+), ", drawn[1])
    assert [int(events) for events in curve] == [21, 42, 85, 170]  # the whole is last
    code, out, err = run(capsys, "evaluate", shop, *of)
    assert code == 0, err
    assert re.search(r"^decay, seen items excluded +rest_of_basket .* p [01]\.", out, re.M)


def test_histories_that_ask_for_nothing_are_told_before_the_baselines_log_is_read(
    shop: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = tmp_path / "histories"
    test.write_text("i1\ni2\n")
    of = ("--bundle", bundle.path, "--test", test, "--format", "histories")
    more = ("--baseline", shop, "--baseline-format", "events")
    code, _, err = run(capsys, "evaluate", *of, *more)
    assert code == 2
    assert "no history is longer than one item" in err
    assert str(shop) not in err


@pytest.mark.parametrize("option", ["--bundle", "--against"])
def test_a_file_is_no_bundle(
    option: str, shop: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {"--bundle": bundle.path, option: shop}
    of = [part for pair in folders.items() for part in pair]
    code, _, err = run(capsys, "evaluate", "--test", shop, *of)
    assert code == 2
    assert err == f"error: {option} {shop}: is a file; give the folder of a bundle\n"
