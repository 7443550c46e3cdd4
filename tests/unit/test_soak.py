"""The soak's arithmetic: which slopes count as growth, how sure they are, what is in a table."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.soak import __main__ as command
from tests.soak import report
from tests.soak.samples import Sample, oldest_collections, sums
from tests.soak.traffic import Watched
from tests.soak.trend import fit

EVERY_S = 10.0
WARM_UP_S = 300.0
EVENTS_S = 8_000.0
HOUR = int(3600 / EVERY_S)


def soak(
    count: int = HOUR, growth_mib: float = 0.0, slower_ms: float = 0.0, lag: float = 0.0, **of: Any
) -> list[Sample]:
    """An hour's samples with noise in them and a growth an hour; a warm-up that grows steeply."""
    chance = random.Random(count)
    samples = []
    wave = 0.0
    for number in range(count):
        at_s = number * EVERY_S
        hours = at_s / 3600
        wave = 0.8 * wave + chance.gauss(0, 0.5)  # a slow minute is slow throughout
        warming = max(0.0, WARM_UP_S - at_s)
        fields = dict.fromkeys(Sample.__struct_fields__, 1) | {
            "at_s": at_s,
            "events_s": EVENTS_S,
            "rss_mib": 400 - warming / 3 + growth_mib * hours + wave,
            "p50_ms": 8.0 + slower_ms * hours + 0.1 * wave,
            "lag": int(max(0.0, 50 + 20 * wave + lag * hours)),
        }
        samples.append(msgspec.convert(fields | of, Sample))
    return samples


def verdicts(samples: list[Sample]) -> tuple[dict[str, str], str]:
    trends, verdict = report.judge(samples, WARM_UP_S)
    return {trend.what: trend.verdict for trend in trends}, verdict


def test_noise_and_a_warm_up_are_no_growth() -> None:
    found, verdict = verdicts(soak())
    assert found == {"memory": "steady", "p50": "steady", "lag": "steady"}
    assert verdict.startswith("steady")


@pytest.mark.parametrize(
    ("growth", "what"),
    [
        # one object of 16 bytes for every 32 events, over an hour
        ({"growth_mib": EVENTS_S * 3600 * 16 / 32 / (1 << 20)}, "memory"),
        ({"slower_ms": 2.0}, "p50"),
        ({"lag": EVENTS_S * 3600 / 100}, "lag"),
    ],
)
def test_what_grows_is_seen_and_named(growth: dict[str, float], what: str) -> None:
    found, verdict = verdicts(soak(**growth))  # type: ignore[arg-type]
    assert found.pop(what) == "grows"
    assert set(found.values()) == {"steady"}
    assert verdict == f"grows: {what}"


def test_too_little_to_tell_is_said() -> None:
    assert verdicts(soak(count=33))[1] == "undecided: fewer than five samples after the warm-up"
    found, verdict = verdicts(soak(count=45))
    assert "undecided" in found.values()
    assert verdict.startswith("undecided")


CHANGED = "undecided: memory, since the users were 1 to 2 after the warm-up"


def test_users_that_change_after_the_warm_up_leave_memory_undecided() -> None:
    samples = soak(growth_mib=EVENTS_S * 3600 / (1 << 20))
    samples[-1].users += 1
    found, verdict = verdicts(samples)
    assert found["memory"] == "grows", "the slope is printed as it is"
    assert verdict == CHANGED


@pytest.mark.parametrize(
    ("growth", "what"), [({"slower_ms": 2.0}, "p50"), ({"lag": EVENTS_S * 3600 / 100}, "lag")]
)
def test_users_that_change_excuse_neither_latency_nor_lag(
    growth: dict[str, float], what: str
) -> None:
    """A second worker that comes and goes holds some users for a while."""
    samples = soak(**growth)  # type: ignore[arg-type]
    for sample in samples[::7]:
        sample.users = 0
    assert verdicts(samples)[1] == f"grows: {what}"


def test_all_that_is_undecided_is_named() -> None:
    samples = soak(count=45)
    assert verdicts(samples)[1].endswith("; a longer run tells")
    samples[-1].users += 1
    assert verdicts(samples)[1].startswith(f"{CHANGED}; p50")


def test_what_is_undecided_is_no_success() -> None:
    codes = [
        report.exit_code(verdicts(samples)[1])
        for samples in (soak(), soak(slower_ms=2.0), soak(count=33), soak(count=45))
    ]
    assert codes == [0, 1, 3, 3]


def test_a_soak_of_no_samples_ends_as_undecided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its own
    monkeypatch.setattr(command.Run, "run", lambda self: None)
    assert command.main(["--out", str(tmp_path / "soak.json")]) == report.EXIT_UNDECIDED


@pytest.mark.parametrize(
    "option", ["--minutes=nan", "--rate=-5", "--every=0", "--users=0", "--warm-up=-1", "--share=2"]
)
def test_a_soak_that_would_show_nothing_is_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command._arguments([option])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"error: {option.partition('=')[0]}" in said
    assert "above 0" in said


def test_a_slope_is_as_unsure_as_its_noise() -> None:
    times = [float(second) for second in range(0, 3600, 10)]
    exact = fit(times, [5 + second / 3600 for second in times])
    assert exact is not None
    assert exact.per_hour == pytest.approx(1)
    assert exact.high - exact.low < 1e-6
    chance = random.Random(3)
    noisy = fit(times, [5 + second / 3600 + chance.gauss(0, 2) for second in times])
    assert noisy is not None
    assert noisy.low < 1 < noisy.high
    assert noisy.high - noisy.low > 0.5
    assert fit(times[:4], times[:4]) is None


def test_a_long_soak_is_a_short_table_with_its_last_line(tmp_path: Path) -> None:
    samples = soak(growth_mib=1.0)
    lines = report.table(samples).splitlines()
    assert 20 < len(lines) <= 25
    assert lines[0] == report.head()
    assert lines[-1] == report.line(samples[-1])
    assert len({len(line) for line in lines}) == 1
    trends, verdict = report.judge(samples, WARM_UP_S)
    written = report.Soak("here", 1.0, 0.7, 0.7, WARM_UP_S, False, samples, trends, verdict)
    report.write_json(tmp_path / "build" / "soak.json", written)
    read = (tmp_path / "build" / "soak.json").read_bytes()
    assert msgspec.json.decode(read, type=report.Soak) == written


def test_a_click_waits_for_the_first_list_at_or_after_it() -> None:
    watched = Watched([b"s0", b"s8"])
    for offset, now_s in ((3, 1.0), (7, 2.0), (9, 3.0)):
        watched.send(b"s0", offset, now_s)
    watched.send(b"s8", 8, 3.0)
    watched.receive(b"s0", 2, 3.5)
    assert watched.take() == []
    watched.receive(b"s0", 7, 4.0)
    assert watched.take() == [3.0, 2.0]
    assert watched.waiting == 2
    assert b"s1" not in watched


def test_a_page_of_metrics_is_summed_over_its_labels() -> None:
    page = 'a{p="0"} 1.0\na{p="1"} 2.5\n# HELP a 7\nb 3.0\n'
    page += 'python_gc_collections_total{generation="2"} 4.0\n'
    assert sums(page) == {"a": 3.5, "b": 3.0, "python_gc_collections_total": 4.0}
    assert oldest_collections(page) == 4
