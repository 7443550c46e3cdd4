"""`freshet-export describe`, and the options that every command on a log has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export import cli
from export.data.cleaning import clean
from export.data.describe import describe
from stream.core.bundle import Bundle
from tests.support.logs import log_of

BEGIN_MS = 1_700_000_000_000


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def write(path: Path, *events: tuple[str, str, int, str]) -> Path:
    """A log of user, item, minute, type."""
    names = ("user_id", "item_id", "event_time_ms", "type")
    lines = [
        json.dumps(dict(zip(names, (u, i, BEGIN_MS + at * 60_000, kind), strict=True)))
        for u, i, at, kind in events
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_figures_of_a_log() -> None:
    log = log_of(
        [("u", "a", 0), ("u", "a", 43_200), ("u", "b", 86_400), ("v", "a", 86_400, "purchase")]
    )
    log.attributes["a"] = {"brand": "acme"}
    log.titles["never seen"] = "X"
    found = describe(*clean(log))
    assert found.types == {"click": 3, "purchase": 1}
    assert (found.begins, found.days) == ("2023-11-14T22:13:20+00:00", 1.0)
    assert (found.users.number, found.users.median, found.users.most) == (2, 2, 3)
    assert (found.repeats, found.top_tenth, found.titles) == (0.25, 0.75, 0)
    assert found.attributes == {"brand": 0.5}
    assert found.event_bytes == 37  # as the README says
    assert "memory    37 bytes an event, 0.0 MB" in found.lines()
    assert "users     2, of 2 events in the median, 3 at most" in found.lines()


def test_describe_tells_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path / "log", *[("u", "a", 0, "click")] * 2, ("u", "b", 1, "cancel"), ("u", "c", 2, "x")
    )
    code, out, err = run(capsys, "describe", path)
    assert code == 0
    assert err.splitlines()[-1].endswith(" MiB")
    assert "peak memory " in err
    assert out.splitlines()[:5] == [
        " 4  read",
        "-1  cancellation of nothing in the log",
        "-1  repeated event",
        "-1  unknown_type (type)",
        " 1  kept",
    ]
    assert "events    1: 1 click" in out
    assert "left out: 1 repeated event" in err
    code, out, _ = run(capsys, "describe", path, "--no-cleaning", "--json")
    assert code == 0
    assert json.loads(out)["events"] == 3
    code, out, _ = run(capsys, "describe", path, "--no-cleaning", "--min-count", "2", "--json")
    assert json.loads(out)["dropped"] == {"item with too few events": 1, "unknown_type (type)": 1}


def test_a_catalogue_and_a_scratch_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "log", ("u", "a", 0, "click"), ("u", "b", 1, "click"))
    items = tmp_path / "items"
    items.write_text('{"item_id": "a", "title": "A", "brand": "acme"}\n')
    options = ("--items", items, "--scratch", tmp_path / "scratch", "--json")
    code, out, _ = run(capsys, "describe", path, *options)
    assert code == 0
    found = json.loads(out)
    assert (found["titles"], found["attributes"]) == (0.5, {"brand": 0.5})


def test_a_bundle_says_what_was_left_out_of_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [(f"u{n % 5}", f"i{n % 4}", n, "click") for n in range(60)]
    path = write(tmp_path / "log", *events, events[-1])
    code, _, err = run(capsys, "train", path, "--out", tmp_path / "bundle", "--model", "decay")
    assert code == 0, err
    training = Bundle.load(tmp_path / "bundle").manifest.training
    assert training["cleaning"] == {"read": 61, "kept": 60, "dropped": {"repeated event": 1}}
    assert "offsets" not in training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--min-count", "-1"), "--min-count -1: must be 0 or more"),
        (("--cancel-within-h", "nan"), "must be 0 or more"),
        (("--until", "clicks=3"), "write TOPIC:PARTITION=OFFSET"),
        (("--until", "clicks:0=3"), "add --format kafka"),
        (("--min-count", "9"), "item with too few events"),
        (("--items", "none"), "none: no such file"),
        (("--format", "sessions"), "is JSON"),
    ],
)
def test_mistakes_in_the_options_get_a_message(
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write(tmp_path / "log", ("u", "a", 0, "click"))
    code, _, err = run(capsys, "describe", path, *options)
    assert code == 2
    assert message in err
