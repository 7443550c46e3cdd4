"""What is asked, of whom, and what becomes of the answers."""

from __future__ import annotations

import gzip
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import models
from export.comparing.plots import chart
from export.data.dataset import Cases, Log, read_cases
from export.data.splits import folds, moments, rolling
from export.measuring import evaluate
from export.measuring.asked import asked_of
from export.measuring.measure import measure
from export.measuring.questions import baskets, cases_asked, last_items, moments_asked
from export.training import train as training
from stream.contracts import EventType
from stream.core.bundle import Bundle
from stream.errors import UsageError
from tests.support.bundles import random_decay_bundle
from tests.unit.test_export_cli import run, visits

ITEMS = 40


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_decay_bundle(tmp_path_factory.mktemp("made") / "bundle", ITEMS, dim=8)


def log_of(*histories: str, items: list[str] | None = None) -> Log:
    """A user a string of item ids, an event a second; a `-` before an id makes it a dislike."""
    known = items or sorted({item.lstrip("-") for h in histories for item in h.split()})
    user, item, kind = [], [], []
    for number, history in enumerate(histories):
        for name in history.split():
            user.append(number)
            item.append(known.index(name.lstrip("-")))
            kind.append(int(EventType.DISLIKE if name[0] == "-" else EventType.CLICK))
    n = len(user)
    start_ms = 1_700_000_000_000
    return Log(
        users=[f"u{number}" for number in range(len(histories))],
        items=known,
        user=np.array(user, np.int64),
        item=np.array(item, np.int64),
        event_type=np.array(kind, np.int64),
        time_ms=start_ms + np.arange(n) * 1_000,
        session=np.array(user, np.int64),
        quantity=np.ones(n),
        price=np.zeros(n),
        titles={},
    )


def cases_of(*cases: tuple[str, str], items: list[str] | None = None) -> Cases:
    """Cases of known items and targets."""
    known = items or sorted({item for case in cases for text in case for item in text.split()})
    log = log_of(*(history for history, _ in cases), items=known)
    return Cases(log, [np.array([known.index(t) for t in of.split()]) for _, of in cases])


def test_prefixes_of_one_visit_are_replayed_once_and_answered_as_if_alone(bundle: Bundle) -> None:
    rng = np.random.default_rng(5)
    texts = []
    for _ in range(12):
        visit = [f"i{item}" for item in rng.integers(1, 5, rng.integers(2, 7))]
        texts += [(" ".join(visit[:end]), visit[end]) for end in range(1, len(visit))]
    texts = [texts[at] for at in rng.permutation(len(texts))] + [("", "i3")]
    items = [f"i{item}" for item in range(1, 5)]
    asked = cases_asked(cases_of(*texts, items=items))
    assert len(asked.histories) <= 12
    known = [" ".join(asked.log.items[code] for code in asked.known(q)) for q in asked.queries]
    assert known == [history for history, _ in texts]
    together = evaluate.replay(evaluate.Model(bundle, "cpu"), asked)
    for number, text in enumerate(texts):
        alone = evaluate.replay(
            evaluate.Model(bundle, "cpu"), cases_asked(cases_of(text, items=items))
        )
        np.testing.assert_array_equal(alone.listed[0], together.listed[number])
        np.testing.assert_allclose(alone.scores[0], together.scores[number], rtol=1e-5)


def test_moments_are_asked_as_their_cases_are(bundle: Bundle) -> None:
    rng = np.random.default_rng(7)
    histories = [[f"i{i}" for i in rng.integers(1, ITEMS, rng.integers(1, 12))] for _ in range(20)]
    log = log_of(*(" ".join(history) for history in histories))
    log.user = rng.permutation(log.user)  # all of them come at any time
    log.event_type[rng.random(len(log)) < 0.2] = EventType.DISLIKE
    log.time_ms[:] -= log.time_ms % 2_000  # some events share a moment
    since_ms = int(log.time_ms[len(log) // 2])
    asked, cases = moments_asked(log, since_ms), moments(log, since_ms, which="all")
    assert len(asked.queries) == len(cases) > 30
    assert sum(len(history) for history in asked.histories) <= len(log)  # no copy of what is known
    by_cases = cases_asked(cases)
    for one, other in zip(asked.queries, by_cases.queries, strict=True):
        np.testing.assert_array_equal(asked.known(one), by_cases.known(other))
        np.testing.assert_array_equal(one.targets, other.targets)
    model = evaluate.Model(bundle, "cpu")
    found, wanted = evaluate.replay(model, asked), evaluate.replay(model, by_cases)
    np.testing.assert_array_equal(found.listed, wanted.listed)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5)


def test_visits_that_differ_in_type_or_gap_are_not_one() -> None:
    assert len(cases_asked(cases_of(("a", "b"), ("a c", "b"))).histories) == 1
    assert len(cases_asked(Cases(log_of("-a", "a c"), [np.array([1])] * 2)).histories) == 2
    later = cases_of(("a b", "c"), ("a b c", "a"))
    later.log.time_ms[1:] += 5_000  # the first user's second event
    assert len(cases_asked(later).histories) == 2


def test_lists_depend_neither_on_blocks_nor_on_batches(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    log = log_of(*(" ".join(f"i{i}" for i in rng.integers(1, ITEMS, 9)) for _ in range(11)))
    model = evaluate.Model(bundle, "cpu")
    whole = evaluate.replay(model, moments_asked(log))
    assert len(whole.listed) == 88
    assert (whole.listed > 0).all()
    monkeypatch.setattr(evaluate, "BLOCK", 3)
    monkeypatch.setattr(evaluate, "BATCH", 2)
    parts = evaluate.replay(model, moments_asked(log))
    np.testing.assert_array_equal(parts.listed, whole.listed)
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-5)


def test_a_question_knows_nothing_of_its_answer() -> None:
    log = log_of("a b -c d", "e", "b a")
    asked = moments_asked(log)
    told = [
        ("".join(log.items[c] for c in asked.known(q)), log.items[q.targets[0]])
        for q in asked.queries
    ]
    assert told == [("a", "b"), ("abc", "d"), ("b", "a")]
    asked = moments_asked(log, since_ms=int(log.time_ms[3]))
    assert [q.position for q in asked.queries] == [3, 1]
    asked = last_items(log)
    assert [(q.position, log.items[q.targets[0]]) for q in asked.queries] == [(3, "d"), (1, "a")]
    for query in baskets(log, int(log.time_ms[0])).queries:
        assert not set(query.targets) & {int(code) for code in query.taken}


def test_lines_of_one_moment_do_not_know_each_other(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders = [(0, ["i1", "i2"]), (60, ["i3", "i4", "i5"]), (120, ["i6"])]
    lines = [
        {
            "user_id": "u",
            "item_id": item,
            "type": "purchase",
            "event_time_ms": 1_700_000_000_000 + at,
        }
        for at, items in orders
        for item in items
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(map(json.dumps, lines)))
    asked = asked_of(log, "events", None, lambda message: None)
    told = [
        ([asked.log.items[c] for c in asked.known(q)], [asked.log.items[c] for c in q.targets])
        for q in asked.queries
    ]
    assert told == [
        (["i1", "i2"], ["i3", "i4", "i5"]),
        (["i1", "i2", "i3", "i4", "i5"], ["i6"]),
    ]
    code, out, err = run(
        capsys, "evaluate", "--bundle", bundle.path, "--test", log, "--json", "--k", "10"
    )
    assert code == 0, err
    assert (json.loads(out)["cases"], json.loads(out)["targets"]) == (2, 4)


def test_figures_of_a_bundle(bundle: Bundle) -> None:
    best = bundle.biases[1:].argsort()[::-1] + 1  # what a guest is shown, best first
    guest = bundle.item_ids[best[1]]
    cases = cases_of(("", guest), ("", "gone"), ("", f"{bundle.item_ids[best[0]]} gone"))
    found = measure(bundle, cases, [2, 1, 2])
    assert (found.cases, found.targets, found.unknown_targets) == (3, 4, 2)
    assert found.metrics["recall@2"] == pytest.approx((1 + 0 + 1 / 2) / 3, abs=1e-6)
    assert found.metrics["recall@1"] == pytest.approx((0 + 0 + 1 / 2) / 3, abs=1e-6)
    assert found.metrics["mrr@2"] == pytest.approx((1 / 2 + 0 + 1) / 3, abs=1e-6)
    assert found.metrics["coverage@2"] == 2 / ITEMS
    assert found.metrics["listed@2"] == 2
    told = json.loads(json.dumps(found.to_json()))
    assert told["k"] == [1, 2]
    assert told["bundle_id"] == bundle.bundle_id
    assert told["recall@2"] == found.metrics["recall@2"]
    low, high = told["confidence"]["recall@2"]
    assert low <= told["recall@2"] <= high
    assert told["slices"]["history 0"]["cases"] == told["slices"]["cold users"]["cases"] == 3
    assert "warm users" not in told["slices"]
    assert sum(told["calibration"]["bins"]["items"]) == 6
    assert {test["p"] for test in found.against(found).values()} == {1.0}


def test_cold_items_are_those_the_training_log_hardly_had(bundle: Bundle) -> None:
    cases = cases_of(("i1", "i2"), ("i1", "i3"), ("i1", "i2 i3"))
    trained_on = log_of("i2 i2 i2 i2 i2 i3 i3 i3 i3 other")
    found = measure(bundle, cases, [ITEMS], trained_on=trained_on)
    slices = found.slices
    assert (slices["cold items"]["cases"], slices["warm items"]["cases"]) == (2, 2)
    assert slices["cold items"][f"recall@{ITEMS}"] == 1  # of the cold targets alone
    assert found.popularity_of == "training log"
    counts = np.zeros(ITEMS)
    counts[1], counts[2] = 5, 4
    assert found.metrics[f"popularity@{ITEMS}"] == pytest.approx(counts.mean(), abs=1e-6)
    own = measure(bundle, cases, [ITEMS])
    assert own.popularity_of == "test histories"
    assert found.metrics[f"popularity_lift@{ITEMS}"] == 0  # no interaction with i1
    assert own.metrics[f"popularity_lift@{ITEMS}"] == pytest.approx(1 / ITEMS - 1, abs=1e-6)
    # The three cases are one visitor with one event.
    assert own.metrics[f"popularity@{ITEMS}"] == pytest.approx(1 / ITEMS, abs=1e-6)


def test_the_whole_history_is_left_out_where_asked_for(tmp_path: Path) -> None:
    bundle = random_decay_bundle(tmp_path / "bundle", 200, dim=8, exclude_seen=True)
    seen = [f"i{item}" for item in range(1, 121)]
    cases = cases_of((" ".join(seen), "i150"), items=[*seen, "i150"])
    as_served = measure(bundle, cases, [200])
    published = measure(bundle, cases, [200], whole_history=True)
    assert as_served.metrics["listed@200"] == 200 - evaluate.RING
    assert published.metrics["listed@200"] == 200 - 120
    assert (as_served.seen_in, published.seen_in) == ("ring", "history")


@pytest.mark.parametrize("ks", [[], [0], [1_001]])
def test_impossible_lengths_of_lists_are_refused(bundle: Bundle, ks: list[int]) -> None:
    with pytest.raises(UsageError, match="between 1 and 1,000"):
        measure(bundle, cases_of(("i1", "i2")), ks)


def test_nothing_to_measure_says_so(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="nothing to measure on"):
        measure(bundle, last_items(log_of("i1", "i2")))
    with pytest.raises(UsageError, match="asks for nothing"):
        measure(bundle, moments_asked(log_of("i1", "i2")))


def test_prefixes_are_read_as_cases(tmp_path: Path) -> None:
    path = tmp_path / "prefixes.gz"
    path.write_bytes(gzip.compress(b"1 2\t3\nno tab\n1\t9\n"))
    told: list[str] = []
    cases = read_cases(path, told.append)
    asked = cases_asked(cases)
    items = cases.log.items
    assert [[items[c] for c in asked.known(q)] for q in asked.queries] == [["1", "2"], ["1"]]
    assert [[items[c] for c in targets] for targets in cases.targets] == [["3"], ["9"]]
    assert len(told) == 1
    with pytest.raises(UsageError, match="no such file"):
        read_cases(tmp_path / "none")


def test_folds_hold_every_user_out_once() -> None:
    log = log_of("a b", "c", "d -e", "a b c d", "b d")
    asked: list[str] = []
    for train, cases in folds(log, 2):
        held_out = set(cases.log.users)
        assert not held_out & {log.users[code] for code in train.user}
        for user, targets in zip(cases.log.users, cases.targets, strict=True):
            code = log.users.index(user)
            history = log.item[log.user == code]
            known = cases.log.item[cases.log.user == cases.log.users.index(user)]
            assert known.tolist() == history[: len(known)].tolist()
            assert targets.tolist() == [history[len(known)]]
        asked += cases.log.users
    assert sorted(asked) == ["u0", "u3", "u4"]  # the others have nothing to be asked after


def test_rolling_origin_trains_on_nothing_of_the_future() -> None:
    rng = np.random.default_rng(2)
    log = log_of(*(" ".join(f"i{i}" for i in rng.integers(0, 9, 30)) for _ in range(8)))
    log.time_ms[:] = log.time_ms[0] + np.arange(len(log)) * 1_000
    log.user[:] = rng.integers(0, 8, len(log))
    rounds = list(rolling(log, 3))
    assert len(rounds) == 3
    ends = [train.time_ms.max() for train, _ in rounds]
    assert ends == sorted(set(ends))
    for (train, cases), until in zip(rounds, [*ends[1:], log.time_ms.max()], strict=True):
        assert cases.log.time_ms.max() <= train.time_ms.max()
        for user, targets in zip(cases.log.users, cases.targets, strict=True):
            window = (log.time_ms > train.time_ms.max()) & (log.time_ms <= until)
            turned_to = log.item[window & (log.user == log.users.index(user))]
            assert len(targets)
            assert set(targets.tolist()) <= set(turned_to.tolist())


def test_a_chart_is_xml_with_its_points_inside() -> None:
    curves = {"<model & co>": [(0.0, 0.1), (5.0, 0.9)], "other": [(1.0, 0.0)]}
    text = chart("A < B", curves, "events", "recall")
    root = ET.fromstring(text)
    circles = root.findall("{*}circle")
    assert len(circles) == 3
    for circle in circles:
        assert 0 < float(circle.get("cx", "nan")) < 640
        assert 0 < float(circle.get("cy", "nan")) < 400
    heights = [float(circle.get("cy", "nan")) for circle in circles]
    assert heights[1] < heights[0] < heights[2]  # up is more
    assert "href" not in text
    assert ET.fromstring(chart("empty", {}, "x", "y", diagonal=True)).tag.endswith("svg")


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
    assert found["baseline"]["of"] == "the newest events of its training log"
    code, out, err = run(capsys, *asked)
    assert code == 0, err
    assert "baseline  on the newest events of its training log" in out
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


def test_a_bundle_that_tells_no_baseline_has_an_unknown_one(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = random_decay_bundle(tmp_path / "bundle", ITEMS, dim=8)
    code, out, err = run(capsys, "evaluate", "--bundle", bundle.path, "--test", shop)
    assert code == 0, err
    assert "baseline  unknown" in out


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


def test_a_bundle_is_measured_on_a_log(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundle"
    assert run(capsys, "train", shop, "--out", folder, "--model", "decay")[0] == 0
    code, out, err = run(capsys, "evaluate", "--bundle", folder, "--test", shop, "--json")
    assert code == 0, err
    assert json.loads(out)["cases"] == 200 - 10  # every event but each user's first
    since = ("--since", "2023-11-15")
    code, out, err = run(capsys, "evaluate", "--bundle", folder, "--test", shop, "--json", *since)
    assert code == 0, err
    assert 0 < json.loads(out)["cases"] < 190


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


@pytest.mark.parametrize("splits", [(), ("--rolling", 1)])
def test_what_is_trained_on_is_clean_without_a_look_ahead(
    splits: tuple[object, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last purchase before the split is cancelled after it."""
    begin_ms, undone = 1_700_000_000_000, 49 if splits else 84
    lines = []
    for number in range(101):
        one = undone if number == 100 else number
        event = {
            "user_id": f"u{one % 5}",
            "item_id": "undone" if one == undone else f"i{one % 7}",
            "type": "cancel" if number == 100 else "purchase",
            "event_time_ms": begin_ms + number * 3_600_000,
            "quantity": 1,
        }
        lines.append(json.dumps(event))
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(lines))
    trained_on: list[Log] = []

    def note(model: str, log: Log, **given: Any) -> models.Trained:
        trained_on.append(log)
        return models.train(model, log, **given)

    monkeypatch.setattr("export.comparing.compare.train", note)
    of = ("--model", "decay", "--set", "dim=8", "--cancel-within-h", 100)
    code, _, err = run(capsys, "evaluate", log, *of, *splits)
    assert code == 0, err
    assert trained_on[0].time_ms[-1] == begin_ms + undone * 3_600_000
    assert len(trained_on[0]) == undone + 1


def clicks(path: Path, text: str) -> Path:
    """A log of clicks, one an hour, of the users that a text names."""
    path.write_text(
        "".join(
            json.dumps(
                {
                    "user_id": user,
                    "item_id": f"i{number % 5}",
                    "type": "click",
                    "event_time_ms": 1_700_000_000_000 + number * 3_600_000,
                }
            )
            + "\n"
            for number, user in enumerate(text.split())
        )
    )
    return path


@pytest.mark.parametrize(("model", "calibrated"), [("decay", False), ("auto", True)])
def test_a_model_that_is_named_serves_raw_scores(
    model: str,
    calibrated: bool,
    shop: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: list[models.Trained] = []

    def note(trained: models.Trained) -> Any:
        served.append(trained)
        return training.loaded(trained)

    monkeypatch.setattr("export.comparing.compare.loaded", note)
    monkeypatch.setattr(training, "CANDIDATES", ("decay",))
    code, _, err = run(capsys, "evaluate", shop, "--model", model)
    assert code == 0, err
    first, *others = [one.calibration is not None for one in served]
    assert first == calibrated
    assert not any(others)


@pytest.mark.parametrize(
    ("users", "options", "message"),
    [
        ("a a a b b b c c d e", (), "no visit begins there that comes after something, or turns"),
        ("a a a b b b c c d e", ("--since", "2023-11-15T06"), "give another --since"),
        # Users are dealt out to folds as a, b and c, d.
        ("a b a b c d", ("--folds", 2), "split 2 asks for nothing"),
        ("a b a a b c d e", ("--rolling", 2), "split 2 asks for nothing"),
        ("a b c d e f g h", ("--rolling", 1), "give fewer splits, or more of a log"),
    ],
)
def test_what_asks_for_nothing_is_told_before_anything_is_trained(
    users: str,
    options: tuple[object, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained: list[str] = []
    monkeypatch.setattr(
        "export.comparing.compare.train", lambda model, *_, **__: trained.append(model)
    )
    log = clicks(tmp_path / "log.jsonl", users)
    code, _, err = run(capsys, "evaluate", log, "--model", "decay", *options)
    assert (code, trained) == (2, [])
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err


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


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        (("--min-user-events", 3), 17),
        (("--no-cleaning",), 20),
        (("--folds", 2, "--min-user-events", 3), None),
        (("--rolling", 1, "--min-user-events", 3), 10),
    ],
)
def test_evaluate_cleans_by_the_rules_of_its_options(
    options: tuple[object, ...],
    trained: int | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three strangers come once, and are left out of what is trained on and asked, or are not."""
    trained_on: list[Log] = []

    def note(model: str, log: Log, **given: Any) -> models.Trained:
        trained_on.append(log)
        return models.train(model, log, **given)

    monkeypatch.setattr("export.comparing.compare.train", note)
    log = clicks(tmp_path / "log.jsonl", "a b x c a y b c a z b c" + " a b c" * 4)
    of = ("evaluate", log, "--model", "decay", "--set", "dim=4", *options)
    code, _, err = run(capsys, *of)
    assert code == 0, err
    strangers = {"x", "y", "z"} & {log.users[code] for log in trained_on for code in log.user}
    assert strangers == ({"x", "y", "z"} if "--no-cleaning" in options else set())
    assert trained in (None, len(trained_on[0]))
    assert ("left out: 3 user with too few events" in err) == (not strangers)


@pytest.mark.parametrize("splits", [("--folds", 3), ("--rolling", 2)])
def test_splits_give_a_mean_and_a_spread(
    splits: tuple[str, int], shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("evaluate", shop, *splits, "--model", "decay", "--set", "dim=8", "--k", "5")
    code, out, err = run(capsys, *options, "--json")
    assert code == 0, err
    figures = json.loads(out)["decay, repeats allowed"]["recall@5"]
    assert len(figures["splits"]) == splits[1]
    assert figures["mean"] == pytest.approx(np.mean(figures["splits"]), abs=1e-6)
    assert figures["deviation"] == pytest.approx(np.std(figures["splits"], ddof=1), abs=1e-6)
    code, out, err = run(capsys, *options)
    assert code == 0, err
    assert f"{splits[1]} splits" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a log"),
        (("log", "--test", "x"), "--test: goes with --bundle"),
        (("log", "--format", "prefixes"), "measure a bundle on them"),
        (("log", "--folds", "1", "--model", "decay"), "give 2 folds or more"),
        (("log", "--folds", "2"), "--folds: say with --model"),
        (("log", "--rolling", "2", "--model", "mf", "--plots", "p"), "leave --rolling out"),
        (("log", "--whole-history"), "--whole-history: goes with --bundle"),
        (("log", "--folds", "2", "--rolling", "2"), "not allowed with"),
        (("log", "--folds", "2", "--since", "2023-11-15"), "choose their own moments"),
        (("log", "--k", "0"), "between 1 and"),
        (("log", "--k", "ten"), "ten: give lengths of lists"),
        (("--bundle", "none", "--test", "x"), "no such bundle folder"),
        (("--bundle", "b"), "--test FILE"),
        (("log", "--bundle", "b", "--test", "x"), "trained first"),
        (("--bundle", "b", "--test", "x", "--since", "soon"), "not an ISO date"),
        (("--bundle", "b", "--test", "none"), "no such file"),
        (("--bundle", "b", "--test", "x", "--model", "mf"), "--model: of a model that is trained"),
        (("--bundle", "b", "--test", "x", "--set", "dim=8"), "--set: of a model that is trained"),
        (("--bundle", "b", "--test", "x", "--items", "x"), "--items: of a model that is trained"),
        (("--bundle", "b", "--test", "x", "--minutes", "1"), "--minutes: of a model that is"),
        (("--bundle", "b", "--test", "x", "--min-count", "2"), "--min-count: cleans the log of"),
        (("--bundle", "b", "--test", "x", "--max-per-day", "0"), "--max-per-day: cleans the log"),
        (("--bundle", "b", "--test", "x", "--no-cleaning"), "--no-cleaning: cleans the log of"),
        (("--bundle", "b", "--test", "x", "--baseline-format", "events"), "goes with --baseline"),
        (("--bundle", "b", "--test", "x", "--until", "clicks:0=1"), "add --format kafka"),
        (
            ("--bundle", "b", "--test", "x", "--format", "prefixes", "--until", "clicks:0=1"),
            "add --format kafka",
        ),
        (
            ("--bundle", "b", "--test", "x", "--format", "prefixes", "--scratch", "x"),
            "--scratch: prefixes are kept in memory",
        ),
        (
            ("--bundle", "b", "--test", "x", "--format", "histories", "--since", "2023-11-15"),
            "--since: histories carry no times",
        ),
    ],
)
def test_mistakes_in_measuring_get_a_message(
    arguments: tuple[str, ...],
    message: str,
    shop: Path,
    bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = {"log": shop, "x": shop, "b": bundle.path}
    code, _, err = run(capsys, "evaluate", *(named.get(a, a) for a in arguments))
    assert code in (1, 2)
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("option", ["--bundle", "--against"])
def test_a_file_is_no_bundle(
    option: str, shop: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {"--bundle": bundle.path, option: shop}
    of = [part for pair in folders.items() for part in pair]
    code, _, err = run(capsys, "evaluate", "--test", shop, *of)
    assert code == 2
    assert err == f"error: {option} {shop}: is a file; give the folder of a bundle\n"


def test_charts_that_cannot_be_written_are_told_before_anything_is_read(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = ("evaluate", shop, "--model", "decay", "--plots", shop / "plots")
    code, _, err = run(capsys, *of)
    assert code == 2
    assert err == (
        f"error: {shop / 'plots'}: cannot be written, since {shop} is a file; give another folder\n"
    )


def test_ratings_are_predicted_and_their_error_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    of_user, of_item = rng.normal(0, 0.8, 30), rng.normal(0, 0.8, 20)
    lines, at = [], 1_000_000_000
    for number in rng.permutation(30 * 20).tolist():
        user, item = divmod(number, 20)
        at += 60
        rating = round(float(np.clip(3 + of_user[user] + of_item[item], 1, 5)), 1)
        lines.append(f"{user}::{item}::{rating}::{at}\n")
    log = tmp_path / "ratings.dat"
    log.write_text("".join(lines))
    of = ("evaluate", log, "--format", "ratings", "--model", "mf", "--set", "dim=8")
    code, out, err = run(capsys, *of, "--json")
    assert code == 0, err
    rated = json.loads(out)["ratings"]
    assert rated["ratings"] == 90  # the newest 15%
    assert rated["rmse"] < 0.35 < rated["rmse_of_mean"]
    assert rated["mae"] <= rated["rmse"]
    for name in ("rmse", "mae"):
        low, high = rated["confidence"][name]
        assert low < rated[name] < high
    code, out, _ = run(capsys, *of)
    assert f"ratings predicted: 90  rmse {rated['rmse']:.4f} [" in out
    decay = ("--model", "decay", "--set", "dim=8", "--json")
    code, out, _ = run(capsys, "evaluate", log, "--format", "ratings", *decay)
    assert code == 0
    assert "ratings" not in json.loads(out)


def test_a_log_without_ratings_has_no_error_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = ("--model", "mf", "--set", "dim=8", "--json")
    code, out, _ = run(capsys, "evaluate", visits(tmp_path / "log.jsonl"), *of)
    assert code == 0
    assert "ratings" not in json.loads(out)
