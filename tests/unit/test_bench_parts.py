"""What the benchmark says of streamed and offline lists, and what it waits for."""

from __future__ import annotations

import io
from urllib.error import URLError

import pytest

from stream.config import load_settings
from tests.bench import contexts, demo, drawn, gateway, recovery, report, scale_out, state
from tests.bench.interest import Spec
from tests.bench.peers import FULL, FULL_OVERWRITING
from tests.bench.runner import JobError, Measurement
from tests.bench.streamed import StreamedRun
from tests.support.streamed import Lists, Shown, compare, differences

EXPECTED: Lists = {
    ("u1", 1): {"home": Shown(["a", "b"], [0.5, 0.4]), "cart": Shown(["c"], [0.3])},
    ("u2", 1): {"home": Shown(["a"], [0.5])},
}


def published(**changed: Shown) -> Lists:
    lists = {"u1": EXPECTED["u1", 1]["home"], "u2": EXPECTED["u2", 1]["home"], **changed}
    return {
        ("u1", 1): {"home": lists["u1"], "cart": Shown(["c"], [0.3])},
        ("u1", 2): {"home": Shown(["z"], [0.1])},  # nothing was asked there
        ("u2", 1): {"home": lists["u2"]},
    }


def test_equal_lists_differ_nowhere() -> None:
    found = compare(EXPECTED, published().items())
    assert (found.users, found.events, found.lists, found.places) == (2, 3, 3, 4)
    assert (found.places_differing, found.max_score_difference, found.told) == (0, 0, [])


@pytest.mark.parametrize(
    ("shown", "differing", "further"),
    [
        (Shown(["b", "a"], [0.5, 0.4]), 2, 0.0),  # the order counts
        (Shown(["a"], [0.5]), 1, 0.0),
        (Shown(["a", "b", "c"], [0.5, 0.4, 0.3]), 1, 0.0),
        (Shown(["a", "b"], [0.5, 0.3]), 0, 0.1),
        (Shown([], []), 2, 0.0),
    ],
)
def test_every_place_and_score_that_differs_is_counted(
    shown: Shown, differing: int, further: float
) -> None:
    found = compare(EXPECTED, published(u1=shown).items())
    assert found.places_differing == differing
    assert found.max_score_difference == pytest.approx(further)
    assert len(found.told) == 1
    assert differences(EXPECTED, published(u1=shown).items()) == found.told


def test_a_list_that_never_came_is_no_equal_list() -> None:
    lists = published()
    del lists["u2", 1]
    with pytest.raises(AssertionError):
        compare(EXPECTED, lists.items())


def measured(cpu_s: float) -> Measurement:
    return Measurement(100, 100, 1.0, cpu_s, 0.0, 0.0, 0.0, 0.0, {})


def test_overwriting_is_told_by_the_medians_of_cpu_an_event() -> None:
    full = [measured(cpu_s) for cpu_s in (1.0, 2.0, 9.0)]
    assert report.overwriting({"full": full}) is None
    results = {"full": full, "full_overwriting": [measured(2.5)]}
    assert report.overwriting(results) == pytest.approx(0.25)
    found = report.to_json(results, [], "a machine")
    assert found["overwriting_more_cpu"] == 0.25
    assert found["full_overwriting_eps"] == 100.0


def test_the_worker_that_overwrites_differs_from_the_other_in_that_alone() -> None:
    topics = ("clicks", "lists", "changelog")
    spec = Spec("run", "127.0.0.1:9092", *topics, "vectors", "folder", users=1, bundle="bundle")
    plain, other = FULL.environment(spec), FULL_OVERWRITING.environment(spec)
    assert load_settings(environ=other).privacy.overwrite_memory
    assert dict(other.items() - plain.items()) == {"FRESHET_PRIVACY_OVERWRITE_MEMORY": "true"}


def test_the_report_has_a_row_and_the_json_its_figures() -> None:
    one_off = published(u2=Shown(["b"], [0.5 + 5e-7]))
    run = StreamedRun("mf", compare(EXPECTED, one_off.items()), 12.34)
    assert report.streamed_table(run).splitlines()[-1].split() == [
        *("mf", "2", "3", "3", "4", "1", "5.0e-07", "12")
    ]
    found = report.to_json({}, [], "a machine", run)["streamed"]
    assert found.pop("max_score_difference") == pytest.approx(5e-7)
    assert found == {
        "model": "mf",
        "users": 2,
        "events": 3,
        "lists": 3,
        "places": 4,
        "places_differing": 1,
        "seconds": 12.3,
    }
    assert "streamed" not in report.to_json({}, [], "a machine")


def test_scale_out_is_told_beside_one_worker() -> None:
    one = scale_out.Run(1, 200_000, 10.0, 0.9, 0.3, 0.0, 5.0)
    two = scale_out.Run(2, 150_000, 5.0, 1.5, 0.5, 0.0, 5.0)
    *_, first, second = scale_out.table([one, two]).splitlines()
    assert first == "| 1 | 20,000 | 1.00 | 0.90 | 0.30 | 0% | 5% |"
    assert second == "| 2 | 30,000 | 1.50 | 1.50 | 0.50 | 0% | 5% |"


def test_what_a_worker_folded_is_of_all_its_topics() -> None:
    page = (
        "# TYPE freshet_events_total counter\n"
        'freshet_events_total{topic="clicks"} 3.0\nfreshet_events_total{topic="purchases"} 1e3\n'
        'freshet_events_skipped_total{topic="clicks",reason="applied"} 9.0\n'
    )
    assert scale_out.folded(page) == 1003
    assert scale_out.folded("") == 0


def test_what_contexts_cost_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.core.statistics.room.STRANGERS_UP_TO", 3000)
    contexts.main(["--items", "50", "--events", "4096"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4,096 clicks on 50 items in country, campaign, hour"
    assert [line.split(":")[0].split(" adds")[0].strip() for line in lines[1:5]] == [
        "counted without contexts",
        "each context",
        "with a new country in each",
        "the first guest of a second",
    ]
    assert lines[2].endswith("; 300 counts")  # 50 items, and each in 2 countries, 2 campaigns, now
    assert lines[3].endswith("; 3,000 counts")


# The picture


def test_the_picture_is_of_the_readmes_table() -> None:
    page = drawn.README.read_text(encoding="utf-8")
    told = drawn.PICTURE.read_text(encoding="utf-8")
    assert told == drawn.picture(page), "run `python -m tests.bench.drawn`"
    rates, costs, kinds = drawn.figures(page)
    assert (rates["full engine"], costs["full engine"]) == (23_000, 42)
    assert kinds["plain Faust agent with a table"].startswith("peers")
    assert sum(kind == "Freshet" for kind in kinds.values()) == 3
    with pytest.raises(ValueError, match="no table"):
        drawn.figures("# Nothing")
    with pytest.raises(ValueError, match="other cells"):
        drawn.figures(page.replace("| 23,000 | 42 us |", "| 23,000 |"))


# The demo


def test_the_demos_first_click_is_told_where_there_was_one() -> None:
    found = {"fresh_clone": True, "first_list_s": 30.12, "clicks": 2, "lists_changed": 2}
    found |= {"click_to_list_p50_ms": 9.0, "click_to_list_max_ms": 12.0, "clicks_too_late": 0}
    assert "page" not in demo.report(found)
    found |= {"page_s": 31.94, "first_click_s": 32.31, "list_changed_ms": 48.6}
    page, click, *_ = demo.report(found).splitlines()
    assert page == "page           31.9 s to its lists in a browser"
    assert click.startswith("first click    32.3 s ")
    assert click.endswith(" 49 ms after the click")


def test_without_a_browser_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(demo.NotMeasuredError, match="needs a Chromium on the PATH"),
        demo.browsing(),
    ):
        pytest.fail("there is none")


# The gateway


def test_a_gateway_is_measured_once_it_holds_every_user(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([None, 2.0, 3.0])
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        asked.append(url.rpartition("/")[2])
        users = next(held) if asked[-1] == "metrics" else 0
        if users is None:
            raise URLError("not yet")
        return io.BytesIO(f"# HELP x y\nfreshet_gateway_users {users}\n".encode())

    monkeypatch.setattr(gateway.urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(gateway.time, "sleep", lambda seconds: None)
    gateway.await_users(1, 3)
    assert asked == ["metrics", "metrics", "metrics", "readyz"]
    monkeypatch.setattr(gateway, "LOADED_WITHIN_S", 0.0)
    with pytest.raises(JobError, match="holds 0 of 3 users"):
        gateway.await_users(1, 3)


def test_what_cannot_be_measured_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for measure, users, said in (
        (state.main, "5", "at least 6"),
        (recovery.main, "0", "at least 1"),
    ):
        with pytest.raises(SystemExit) as refused:
            measure(["--users", users])
        assert refused.value.code == 2
        assert f"--users: {said}" in capsys.readouterr().err
