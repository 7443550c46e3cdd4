"""What is asked, of whom, and what becomes of the answers."""

from __future__ import annotations

import gzip
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from export.comparing.plots import bars, chart
from export.data.dataset import Cases, Log, read_cases
from export.data.splits import folds, moments, rolling
from export.measuring import evaluate
from export.measuring.asked import asked_of
from export.measuring.measure import measure
from export.measuring.questions import baskets, cases_asked, last_items, moments_asked
from stream.contracts import EventType
from stream.core.bundle import Bundle
from stream.errors import UsageError
from tests.support.bundles import random_decay_bundle
from tests.unit.test_export_cli import run

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


def test_bars_are_xml_and_as_long_as_their_values() -> None:
    panels = {"rate": {"<ours>": 200_000.0, "other": 50_000.0}, "cost": {"<ours>": 5, "other": 20}}
    root = ET.fromstring(bars("A < B", panels, {"<ours>": "we", "other": "they"}))
    _, *rects = root.findall("{*}rect")
    widths = [float(rect.get("width", "nan")) for rect in rects]
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.01)
    assert widths[3] / widths[2] == pytest.approx(4, rel=0.01)
    fills = [rect.get("fill") for rect in rects]
    assert fills[:2] == fills[2:]
    assert fills[0] != fills[1]
    assert {text.text for text in root.findall("{*}text")} >= {"<ours>", "200,000", "20", "they"}
    for rect in rects:
        assert float(rect.get("x", "nan")) + float(rect.get("width", "nan")) < 640
        assert float(rect.get("y", "nan")) < float(root.get("height", "nan"))
    assert ET.fromstring(bars("empty", {"x": {"a": 0.0}}, {"a": "b"})).tag.endswith("svg")


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
