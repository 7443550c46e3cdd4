"""Models learn what stands together, bundles repeat byte for byte, metrics are right."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from export.bundle import bundle_files, write_bundle
from export.calibration import Calibration
from export.data.cleaning import RARE_ITEM, Rules, clean
from export.data.dataset import Log, read_log
from export.measuring.evaluate import replay
from export.measuring.exclusions import REPEATS, WITHOUT_SEEN
from export.measuring.metrics.ranking import RANKING, find_hits
from export.measuring.questions import MOMENTS, baskets
from export.models import LEARNED, MODELS, PARAMETERS, train
from export.models.base import Baskets, item_vectors
from export.models.glr.parameters import HISTORIES, Parameters
from export.models.glr.private_parameters import PrivateParameters
from export.training.sides import hold_out
from export.training.train import fit
from export.weights import EVENT_WEIGHTS
from stream.config import Placement
from stream.contracts import EVENT_TYPES, EventType, decode_recommendation
from stream.core.bundle import Bundle, Head, Manifest
from stream.core.catalogue import Catalogue
from stream.core.engine import Engine
from stream.core.model import Model
from stream.errors import UsageError
from stream.kafka.batches import RecordBatch
from tests.support.docs import state_numbers
from tests.support.parts import Part

ROOT = Path(__file__).parents[2]


def line(user: str, item: str, second: int, **fields: object) -> str:
    record = {"user_id": user, "item_id": item, "type": "click", **fields}
    return json.dumps({**record, "event_time_ms": 1_700_000_000_000 + second * 1000})


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(text + "\n" for text in lines))
    return path


def themed_log(path: Path, themes: int = 6, visits: int = 40) -> Log:
    """Visits that stay within a theme of eight items."""
    rng = np.random.default_rng(0)
    lines, second = [], 0
    for visit in range(visits):
        theme = visit % themes
        for step in rng.permutation(8)[:5]:
            second += 60
            lines.append(line(f"u{visit % 12}", f"t{theme}-{step}", second, session_id=f"s{visit}"))
    return titled(read_log(write(path, *lines), "events"))


def titled(log: Log) -> Log:
    """With titles, that models of content want: "theme 3 step 0" of "t3-0"."""
    words = [item_id.replace("t", "theme ").replace("-", " step ") for item_id in log.items]
    log.titles.update(zip(log.items, words, strict=True))
    return log


def small(name: str) -> dict[str, int]:
    """Parameters of a model that trains at once."""
    return {"mf.dim": 8, "cooccurrence.dim": 8} if name == "ensemble" else {"dim": 8}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return themed_log(tmp_path / "log.jsonl")


def test_weights_are_in_the_order_of_intent() -> None:
    w = {t.name.lower(): weight for t, weight in EVENT_WEIGHTS.items()}
    towards = ["purchase", "add_to_cart", "like", "click", "view", "impression"]
    assert sorted(towards, key=w.__getitem__, reverse=True) == towards
    assert w["impression"] == 0
    assert all(w[name] < 0 for name in ("dislike", "remove_from_cart", "cancel"))
    assert set(w) == set(EVENT_TYPES)


def test_cooccurrence_counts_sessions_not_events(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log",
        *(line("u", item, 0, session_id="one") for item in "aab"),
        *(line("u", item, 1, session_id="two") for item in "abc"),
        line("u", "d", 2, session_id="two", type="dislike"),
    )
    baskets = Baskets.of(read_log(path, "events"))
    assert baskets.item_ids == ["", "a", "b", "c"]
    assert baskets.counts().tolist() == [0, 2, 2, 1]
    assert baskets.cooccurrence(0).toarray()[1:, 1:].tolist() == [[0, 2, 1], [2, 0, 1], [1, 1, 0]]
    damped = baskets.cooccurrence(1).toarray()
    np.testing.assert_allclose(damped[1, 2], 1 / 2 + 1 / 3)
    assert Baskets.of(read_log(path, "events"), min_count=2).item_ids == ["", "a", "b"]


def test_vectors_of_items_seen_together_are_near(log: Log) -> None:
    baskets = Baskets.of(log)
    vectors = item_vectors(baskets.cooccurrence(0.5), 8, smoothing=0.75, power=0.0)
    assert not vectors[0].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[1:], axis=1), 1, rtol=1e-5)
    theme = np.array([item_id.split("-")[0] for item_id in baskets.item_ids])
    near = vectors[1:] @ vectors[1:].T
    same = theme[1:, None] == theme[None, 1:]
    assert near[same].mean() > near[~same].mean() + 0.5


@pytest.mark.parametrize("name", sorted(MODELS.keys() - LEARNED))
def test_lists_continue_the_theme(name: str, log: Log, tmp_path: Path) -> None:
    model = Model(write_bundle(train(name, log, **small(name)), tmp_path / "bundle"), "cpu")
    rows = np.array([model.bundle.item_ids.index("t3-0")])
    state = model.update(
        np.zeros((1, model.state_size), np.float32), rows, np.array([2]), np.zeros(1)
    )
    listed, scores = model.score(
        state, model.new_bias(), rows[:, None], model.bundle.manifest.beta, 4
    )
    assert {model.bundle.item_ids[row].split("-")[0] for row in listed[0]} == {"t3"}
    assert ((scores > 0) & (scores < 1)).all()


def test_a_dislike_pushes_away_and_a_purchase_pulls_harder_than_a_click(
    log: Log, tmp_path: Path
) -> None:
    model = Model(write_bundle(train("decay", log, dim=8), tmp_path / "bundle"), "cpu")
    row, bias = model.bundle.item_ids.index("t3-0"), model.new_bias()
    neighbour = model.bundle.item_ids.index("t3-1")

    def score(event: str) -> float:
        zero = np.zeros((1, model.state_size), np.float32)
        types = np.array([int(EVENT_TYPES[event])])
        state = model.update(zero, np.array([row]), types, np.zeros(1))
        rows, scores = model.score(state, bias, np.array([[row]]), 7.0, model.rows)
        return float(scores[0, rows[0].tolist().index(neighbour)])

    order = ["purchase", "add_to_cart", "like", "click", "view", "impression", "dislike"]
    scores = [score(event) for event in order]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


def test_interests_fade_by_event_time_and_late_events_arrive_faded(log: Log) -> None:
    trained = train("decay", log, dim=8)
    assert trained.additive is not None
    taste = slice(0, 8)
    bought = np.array([int(EventType.PURCHASE)])
    zero = np.zeros((1, trained.state_size), np.float32)
    update = trained.reference.update
    early = update(zero, np.array([1]), bought, np.zeros(1, np.float32))
    half_life = np.float32([trained.additive.sums[0].half_life_s])
    in_order = update(early, np.array([2]), bought, half_life)
    np.testing.assert_allclose(
        update(early, np.array([0]), bought, half_life)[0, taste], early[0, taste] / 2, rtol=1e-6
    )
    late = update(zero, np.array([2]), bought, np.zeros(1, np.float32))
    out_of_order = update(late, np.array([1]), bought, -half_life)
    np.testing.assert_allclose(out_of_order[0, taste], in_order[0, taste], atol=1e-6)


def test_too_small_a_log_says_so(tmp_path: Path) -> None:
    log = read_log(write(tmp_path / "log", line("u", "i", 0)), "events")
    with pytest.raises(UsageError, match="training needs at least two"):
        train("decay", log)


def test_newcomers_alone_are_nothing_to_measure_by(tmp_path: Path) -> None:
    older = [line(f"u{at % 5}", f"i{at % 4}", at) for at in range(40)]
    newcomers = [line(f"new{at}", "i1", 1000 + at) for at in range(10)]
    log = read_log(write(tmp_path / "newcomers.jsonl", *older, *newcomers), "events")
    assert hold_out(log) is None
    assert fit(log, "decay", {"dim": 2}, lambda message: None).metrics == {}


def test_cleaning_takes_the_events_of_rare_items_and_a_parameter_their_rows(tmp_path: Path) -> None:
    """`--min-count` and `--set min_count=N`, as export/README.md tells them apart."""
    common = [
        line(f"u{at % 9}", f"i{at % 10}", 60 * at, session_id=f"s{at // 4}") for at in range(200)
    ]
    rare = [line(f"u{at}", "rare", 13_000 + at, session_id="one") for at in range(3)]
    seen = [line("u5", "rare", 13_010, session_id="two", type="dislike")]
    log = read_log(write(tmp_path / "log", *common, *rare, *seen), "events")
    assert len(clean(log, Rules(min_count=4))[0]) == len(log)  # of any type
    cleaned, report = clean(log, Rules(min_count=5))
    assert report.dropped == {RARE_ITEM: 4}
    assert "rare" not in train("decay", cleaned, dim=2).item_ids
    assert "rare" in train("decay", log, dim=2, min_count=3).item_ids  # three users' sessions
    without = train("decay", log, dim=2, min_count=4)
    assert "rare" not in without.item_ids
    assert without.training["events"] == len(log)
    for which, unknown in ((log, 3), (cleaned, 0)):
        held = hold_out(which)
        assert held is not None
        rows = {item_id: row for row, item_id in enumerate(without.item_ids)}
        measured = [code for query in held.asked.queries for code in query.targets]
        both = np.append(measured, which.item[held.held_out.asked])
        asked = [which.items[code] for code in both.astype(np.int64)]
        assert sum(item_id not in rows for item_id in asked) == unknown


def test_a_user_of_many_events_is_held_out_without_a_copy_for_each(tmp_path: Path) -> None:
    many = [line("u", f"i{at % 50}", 100 * at) for at in range(2_000)]
    few = [line(f"v{at % 9}", f"i{at % 50}", 100 * at) for at in range(200)]
    log = read_log(write(tmp_path / "log", *many, *few), "events")
    held = hold_out(log)
    assert held is not None
    assert held.cases > 200
    assert sum(len(history) for history in held.asked.histories) <= len(log)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - LEARNED))
def test_the_same_log_gives_the_same_bundle(name: str, tmp_path: Path) -> None:
    files = [
        bundle_files(train(name, themed_log(tmp_path / "log"), **small(name)), "same")
        for _ in range(2)
    ]
    assert files[0] == files[1]
    other = train(name, themed_log(tmp_path / "log", visits=41), **small(name))
    assert bundle_files(other, "same")["manifest.json"] != files[0]["manifest.json"]


def test_a_bundle_replaces_a_bundle_and_nothing_else(log: Log, tmp_path: Path) -> None:
    trained = train("decay", log, dim=8)
    first = write_bundle(trained, tmp_path / "bundle", "first")
    second = write_bundle(trained, tmp_path / "bundle", "second")
    assert Bundle.load(tmp_path / "bundle").bundle_id == second.bundle_id != first.bundle_id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "log.jsonl"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("x")
    with pytest.raises(UsageError, match="not a bundle"):
        write_bundle(trained, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis").exists()
    (tmp_path / "mine" / "thesis").unlink()
    (tmp_path / "mine" / "manifest.json").write_text('{"name": "my web app"}')
    with pytest.raises(UsageError, match=r"its manifest\.json is not a bundle's"):
        write_bundle(trained, tmp_path / "mine")
    (tmp_path / "bundle" / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match=r"holds notes\.txt, which is no part of a bundle"):
        write_bundle(trained, tmp_path / "bundle")
    (tmp_path / "bundle" / "notes.txt").unlink()
    (tmp_path / "bundle" / "manifest.json").write_text("{")
    assert write_bundle(trained, tmp_path / "bundle", "first").bundle_id == first.bundle_id
    trained.item_ids[1] = "x\0"
    with pytest.raises(UsageError, match="NUL"):
        write_bundle(trained, tmp_path / "nul")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_bundle_that_cannot_be_replaced_stays(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    trained = train("decay", log, dim=8)
    first = write_bundle(trained, tmp_path / "bundle", "first")

    def fails(made: Path, folder: Path) -> None:
        raise error

    monkeypatch.setattr(shutil, "move", fails)
    with pytest.raises((error, UsageError)):
        write_bundle(trained, tmp_path / "bundle", "second")
    assert Bundle.load(tmp_path / "bundle").bundle_id == first.bundle_id


def test_an_item_carted_and_then_bought_is_asked_for_once(tmp_path: Path) -> None:
    def order(number: int) -> list[str]:
        items = [f"t{number % 4}-{i}" for i in range(4)]
        at = number * 86_400
        cart = {"session_id": f"s{number}", "type": "add_to_cart"}
        carts = [line("u", item, at + i, **cart) for i, item in enumerate(items)]
        bought = [
            line("u", item, at + 50, session_id=f"s{number}", type="purchase") for item in items
        ]
        return carts + bought

    text = [line_ for number in range(20) for line_ in order(number)]
    log = read_log(write_lines(tmp_path / "log", text), "events")
    model = Model(write_bundle(train("decay", log, dim=8), tmp_path / "bundle"), "cpu")
    since_ms = int(log.time_ms[8 * 16])  # the last four orders
    asked = baskets(log, since_ms)
    assert Counter(query.moment for query in asked.queries) == dict.fromkeys(MOMENTS, 4)
    of_rest = [query.moment == "rest_of_basket" for query in asked.queries]
    for rules, recall in ((REPEATS, 1), (WITHOUT_SEEN, 0)):  # all sixteen items were seen
        answers = replay(model, asked, rules=msgspec.structs.replace(rules, k=2))
        hits = find_hits(answers.listed, answers.targets())
        assert (RANKING["recall"](hits, 2)[of_rest] == recall).all()


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(text + "\n" for text in lines))
    return path


@pytest.mark.parametrize("name", sorted(MODELS.keys() - LEARNED))
@pytest.mark.parametrize(
    "rules",
    [
        Placement(k=9),
        Placement(k=9, exclude_seen=True, seen_window_s=86_400.0),
        Placement(k=9, exclude_seen=False, exclude_bought=False, theta=0.01, beta=2.0),
    ],
)
def test_what_is_measured_is_what_the_engine_serves(
    name: str, rules: Placement, tmp_path: Path
) -> None:
    """The same lists, event by event: impressions, dislikes, a small ring and all."""
    rng = np.random.default_rng(1)
    types = ["view", "click", "like", "dislike", "impression", "purchase"]
    text = [
        line(
            f"u{rng.integers(5)}",
            f"t{rng.integers(4)}-{rng.integers(8)}",
            int(second),
            type=types[rng.integers(len(types))],
        )
        for second in np.cumsum(rng.choice([60, 7_200], 400))
    ]
    log = titled(read_log(write_lines(tmp_path / "log", text), "events"))
    model = Model(write_bundle(train(name, log, **small(name)), tmp_path / "bundle"), "cpu")
    answers = replay(model, baskets(log, 0), rules=rules, ring=6).of("next_basket")
    assert len(answers.listed) > 50
    engine = Engine(
        model,
        Catalogue(model.bundle.item_ids),
        kinds={"clicks": "clicks", "purchases": "purchases"},
        placements={"home": rules},
        ring=6,
    )
    shard, served = engine.new_shard(0, 1), {}
    folded = dict.fromkeys(log.users, 0)
    for record in sorted(map(json.loads, text), key=lambda record: record["event_time_ms"]):
        topic = "purchases" if record["type"] == "purchase" else "clicks"
        user, value = record["user_id"], json.dumps(record).encode()
        batch = RecordBatch(topic, 0, 0, 1, [user.encode()], [value], [0], [0])
        (part,) = engine.step([Part(shard, batch)], record["event_time_ms"]).parts
        (listed,) = part.list_values
        folded[user] += 1
        items = decode_recommendation(listed).lists["home"].items
        served[user, folded[user]] = [item.item_id for item in items]
    for query, listed in zip(answers.questions.queries, answers.listed, strict=True):
        user = log.users[log.user[answers.questions.histories[query.user][0]]]
        ranked = [model.bundle.item_ids[row] for row in listed if row > 0]
        assert ranked == served[user, query.position]


def test_the_table_of_parameters_is_as_the_code_has_it() -> None:
    page = (ROOT / "export" / "models" / "README.md").read_text()
    text = page.partition("## Parameters")[2].partition("## Measured")[0]
    header, _, *rows = re.findall(r"^\| (?:parameter|`\w+`|---).*$|^\|(?:---\|){4,}$", text, re.M)
    models = [cell.strip() for cell in header.split("|")[2:-2]]
    assert sorted(models) == sorted(PARAMETERS.keys() - LEARNED)
    documented: dict[str, dict[str, str]] = {name: {} for name in models}
    for row in rows:
        parameter, *defaults, meaning = (cell.strip() for cell in row.split("|")[1:-1])
        assert meaning
        for model, default in zip(models, defaults, strict=True):
            if default:
                documented[model][parameter.strip("`")] = default
    for model in models:
        fields = dataclasses.asdict(PARAMETERS[model]())
        assert documented[model] == {name: shown(value) for name, value in fields.items()}


def test_the_table_of_glr_is_as_the_code_has_it() -> None:
    text = (ROOT / "export" / "models" / "glr" / "README.md").read_text()
    defaults = dataclasses.asdict(Parameters())
    told = {
        name: (default, histories.strip())
        for name, default, histories in re.findall(r"^\| `(\w+)` \| (\S+) \| (\S* ?)\|", text, re.M)
    }
    assert told == {name: (shown(v), shown(HISTORIES.get(name))) for name, v in defaults.items()}


def test_the_table_of_a_private_glr_is_as_the_code_has_it() -> None:
    text = (ROOT / "export" / "models" / "glr" / "README.md").read_text()
    _, _, section = text.partition("## Differential privacy")
    told = dict(re.findall(r"^\| `(\w+)` \| (\S+) \| .+ \|$", section, re.M))
    assert told == {name: shown(v) for name, v in dataclasses.asdict(PrivateParameters()).items()}


def shown(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return str(value).lower() if isinstance(value, bool) else f"{value:.10g}"


def test_the_manifests_fields_are_documented() -> None:
    text = (Path(__file__).parents[2] / "export" / "README.md").read_text()
    table = text.partition("## The bundle format")[2].partition("An additive state")[0]
    for field in msgspec.structs.fields(Manifest):
        assert f"`{field.encode_name}`" in table


@pytest.mark.parametrize("name", sorted(MODELS.keys() - LEARNED))
def test_a_bundle_names_its_head_as_the_readme_does(name: str, log: Log, tmp_path: Path) -> None:
    text = (ROOT / "export" / "models" / "README.md").read_text()
    section = text.partition("## Heads")[2].partition("## Parameters")[0]
    (told,) = re.findall(rf"^\| `{name}` \| (.+) \|$", section, re.M)
    trained = train(name, log, **small(name))
    head = write_bundle(trained, tmp_path / "plain").manifest.head
    assert head is not None
    assert told == " | ".join(msgspec.structs.astuple(head))
    calibrated = write_bundle(
        trained.calibrated(Calibration.of([0, 1], [0, 2])), tmp_path / "other"
    )
    assert calibrated.manifest.head == Head(head.affinity, head.loss, "calibrated sigmoid")


@pytest.mark.parametrize("model", sorted(set(MODELS) - LEARNED))
def test_a_state_has_as_many_numbers_as_the_readme_says(model: str, log: Log) -> None:
    assert train(model, log).state_size == state_numbers()[model]
