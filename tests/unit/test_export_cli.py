"""`freshet-export`: results, exit codes and messages."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from export import cli
from export.comparing import compare
from export.compression import measure
from export.training import command as training
from export.training import train
from stream.core.bundle import Bundle
from tests.support.bundles import random_decay_bundle


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as exit_:  # argparse's own
        code = int(str(exit_.code))
    out, err = capsys.readouterr()
    return code, out, err


def visits(path: Path) -> Path:
    """A log of visits that stay within a theme of eight items."""
    lines = []
    for visit in range(40):
        for step in range(5):
            record = {
                "user_id": f"u{visit % 10}",
                "item_id": f"t{visit % 6}-{(visit + step) % 8}",
                "type": "click",
                "event_time_ms": 1_700_000_000_000 + (visit * 5 + step) * 60_000,
                "session_id": f"s{visit}",
            }
            lines.append(json.dumps(record) + "\n")
    path.write_text("".join(lines))
    return path


def test_train_evaluate_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, folder = visits(tmp_path / "log.jsonl"), tmp_path / "bundle"
    of = ("--model", "decay", "--set", "dim=8")
    code, out, err = run(capsys, "train", log, "--out", folder, *of)
    assert code == 0, err
    bundle = Bundle.load(folder)
    assert bundle.bundle_id in out
    assert "training decay" in err
    metrics = bundle.manifest.metrics
    assert metrics["held_out"]["recall@20"] > 0
    assert set(metrics["compared"]) == {"decay", "cooccurrence"}
    assert metrics["baseline"]["recall@20"] > 0
    code, out, _ = run(capsys, "bundle", folder)
    assert code == 0
    assert bundle.bundle_id in out
    assert "  head          cosine, calibrated sigmoid; trained by none\n" in out


def test_train_takes_the_best_model_on_the_newest_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, folder = visits(tmp_path / "log.jsonl"), tmp_path / "bundle"
    code, _, err = run(capsys, "train", log, "--out", folder)
    assert code == 0, err
    manifest = Bundle.load(folder).manifest
    compared = {name: found["ndcg@20"] for name, found in manifest.metrics["compared"].items()}
    assert {"decay", "mf", "cooccurrence"} <= set(compared)
    assert manifest.model == max(compared, key=compared.__getitem__)
    assert f"chosen: {manifest.model}" in err


def test_evaluate_takes_the_model_that_train_would_take_on_the_older_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "CANDIDATES", ("cooccurrence", "decay", "mf"))
    log = visits(tmp_path / "log.jsonl")
    code, out, err = run(capsys, "evaluate", log, "--json")
    assert code == 0, err
    (chosen,) = re.findall(r"chosen: (\w+)", err)
    models = [label.partition(",")[0] for label in json.loads(out)]
    assert list(dict.fromkeys(models)) == list(dict.fromkeys((chosen, "cooccurrence")))
    assert re.search(r"held out: the newest \d+ of 170 events", err)  # 30 of 200 are asked for
    monkeypatch.setattr(train, "CANDIDATES", ("cooccurrence",))
    code, out, err = run(capsys, "evaluate", log, "--json")
    assert code == 0, err
    assert {label.partition(",")[0] for label in json.loads(out)} == {"cooccurrence"}


def test_evaluate_trains_no_longer_than_it_may(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, runs = train.fit, []

    def noted(*given: Any) -> Any:
        runs.append(given[-1])
        return fit(*given)

    monkeypatch.setattr(train, "CANDIDATES", ("cooccurrence", "decay"))
    monkeypatch.setattr(compare, "fit", noted)
    log = visits(tmp_path / "log.jsonl")
    code, _, err = run(capsys, "evaluate", log, "--minutes", "2")
    assert code == 0, err
    assert [one.seconds for one in runs] == [120]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("train", "--minutes", 1), "--minutes: has no effect on decay"),
        (("train", "--device", "cuda"), "--device cuda: decay is trained on the CPU"),
        (("evaluate", "--minutes", 1), "--minutes: has no effect on decay"),
        (("train",), None),
    ],
)
def test_an_option_that_a_model_does_not_look_at_is_told(
    command: tuple[object, ...],
    told: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, *options = command
    out = ("--out", tmp_path / "bundle") if name == "train" else ()
    log = visits(tmp_path / "log.jsonl")
    code, _, err = run(capsys, name, log, *out, *options, "--model", "decay", "--set", "dim=8")
    assert code == 0, err
    assert ("has no effect" in err or "--device" in err) == (told is not None)
    assert told is None or told in err


@pytest.mark.parametrize("model", ["auto", "glr", "ensemble"])
def test_a_device_that_was_asked_for_is_never_replaced(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", torch)
    log, of = visits(tmp_path / "log.jsonl"), ("--model", model, "--device", "cuda")
    members = ("--set", "of=decay,glr") if model == "ensemble" else ()
    code, _, err = run(capsys, "train", log, "--out", tmp_path / "b", *of, *members)
    assert code == 2
    assert err.startswith("error: --device cuda: PyTorch finds no CUDA device that it can use")
    assert "take --device cpu, or auto" in err
    assert not (tmp_path / "b").exists()


def test_a_parameter_needs_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = visits(tmp_path / "log.jsonl")
    for command in (("train", log, "--out", tmp_path / "b"), ("evaluate", log)):
        code, _, err = run(capsys, *command, "--set", "dim=8")
        assert code == 2
        assert "--model" in err


def test_ctrl_c_ends_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", interrupted)
    log = visits(tmp_path / "log.jsonl")
    code, _, err = run(capsys, "train", log, "--out", tmp_path / "bundle")
    assert code == 130
    assert err.endswith("interrupted\n")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "COMMAND"),
        (("train", "none.jsonl", "--out", "x"), 2, "no such file"),
        (("train", "none.jsonl", "--out", "x", "--model", "magic"), 2, "invalid choice"),
        (
            ("train", "none.jsonl", "--out", "x", "--model", "decay", "--set", "dim"),
            2,
            "NAME=VALUE",
        ),
        (
            ("train", "none.jsonl", "--out", "x", "--model", "decay", "--set", "dim=wide"),
            2,
            "not a number",
        ),
        (
            ("train", "none.jsonl", "--out", "x", "--model", "decay", "--set", "dim=0"),
            2,
            "must be positive",
        ),
        *(
            (("train", "none.jsonl", "--out", "x", "--model", model, "--set", value), 2, told)
            for model, value, told in (
                ("mf", "dim=99999", "dim=99999: must be from 1 to 4096"),
                ("mf", "half_life_s=0", "must be from 1e-06"),
                ("cooccurrence", "last=65", "must be from 1 to 64"),
                ("glr", "last=65", "must be from 1 to 64"),
                ("glr", "input_dropout=1", "must be from 0 to 0.99"),
                ("ensemble", "mf.dim=99999", "must be from 1 to 4096"),
            )
        ),
        (
            ("train", "none.jsonl", "--out", "x", "--model", "decay", "--set", "depth=3"),
            2,
            "no parameter 'depth'",
        ),
        (
            ("tune", "none.jsonl", "--model", "mf", "--set", "dim=8", "--set", " dim =16"),
            2,
            "--set dim: is given twice",
        ),
        (("train", "none.jsonl", "--out", "x", "--delta", "1e-5"), 2, "goes with --epsilon"),
        (
            ("train", "none.jsonl", "--out", "x", "--epsilon", "1", "--model", "decay"),
            2,
            "decay cannot be trained privately",
        ),
        (
            ("train", "none.jsonl", "--out", "x", "--epsilon", "1", "--warm", "y"),
            2,
            "knows its users",
        ),
        (
            ("train", "none.jsonl", "--out", "x", "--epsilon", "1", "--min-count", "2"),
            2,
            "leave --min-count out",
        ),
        (
            ("train", "none.jsonl", "--out", "x", "--epsilon", "1", "--set", "layers=2"),
            2,
            "private glr has no parameter 'layers'",
        ),
        (("evaluate", "none.jsonl", "--since", "soon"), 2, "not an ISO date"),
        (("bundle", "none"), 1, "no such bundle folder"),
        (("bundle", __file__), 1, ".py: is a file; give the folder of a bundle"),
    ],
)
def test_mistakes_get_a_message(
    arguments: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _, err = run(capsys, *arguments)
    assert found == code
    assert message in err


def test_a_folder_that_was_only_looked_at_is_not_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "sample", tmp_path / "none", "--out", tmp_path / "some" / "new")
    assert code == 2
    assert "none: no such file" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "tune", "compress", "sample"])
@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("file/bundle", "file is a file; give another folder"),
        ("file/some/bundle", "file is a file; give another folder"),
        ("link", "link is a link to nothing; give another folder"),
        ("/proc/bundle", "nothing can be made in /proc (No such file or directory); give another"),
    ],
)
def test_a_folder_that_cannot_be_written_is_told_first(
    command: str, out: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if out.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nothing")
    given = random_decay_bundle(tmp_path / "b", 8, dim=4).path if command == "compress" else "none"
    model = ("--model", "decay") if command in ("train", "tune") else ()
    packed = ("--states", "int8") if command == "compress" else ()
    code, said, err = run(capsys, command, given, "--out", tmp_path / out, *model, *packed)
    assert (code, said) == (2, "")
    (line,) = err.splitlines()  # neither read nor measured
    assert line.startswith(f"error: {tmp_path / out}: cannot be written, since ")
    assert why in line


def test_train_packs_and_says_what_it_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, folder = visits(tmp_path / "log.jsonl"), tmp_path / "bundle"
    of = ("--model", "decay", "--set", "dim=8", "--item-vectors", "int8", "--states", "float32")
    code, _, err = run(capsys, "train", log, "--out", folder, *of)
    assert code == 0, err
    manifest = Bundle.load(folder).manifest
    assert (manifest.item_storage, manifest.state.storage) == ("int8", "float32")
    packed = manifest.metrics["packed_items"]
    assert packed["storage"] == "int8"
    assert set(packed["losses"]) == {"recall@20", "ndcg@20"}
    assert "int8_recall_loss" not in manifest.metrics
    of = ("--model", "cooccurrence", "--item-vectors", "int8")
    code, _, err = run(capsys, "train", log, "--out", tmp_path / "other", *of)
    assert code == 0, err
    assert "items stay float32" in err
    assert Bundle.load(tmp_path / "other").manifest.item_storage == "float32"


def test_a_log_too_small_to_hold_anything_out_is_packed_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"type": "click", "event_time_ms": 1_700_000_000_000}
    events = [{"user_id": f"u{n % 3}", "item_id": f"i{n % 4}", **record} for n in range(8)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    of = ("--item-vectors", "float16", "--states", "float32")
    code, _, err = run(capsys, "train", tmp_path / "log.jsonl", "--out", tmp_path / "b", *of)
    assert code == 0, err
    assert "too little of a log" in err
    manifest = Bundle.load(tmp_path / "b").manifest
    assert (manifest.item_storage, manifest.state.storage) == ("float16", "float32")


def test_compress_measures_every_way_and_writes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.01)
    log, plain = visits(tmp_path / "log.jsonl"), tmp_path / "bundle"
    of = ("--model", "decay", "--set", "dim=8")
    assert run(capsys, "train", log, "--out", plain, *of)[0] == 0
    code, out, err = run(capsys, "compress", plain, "--test", log)
    assert code == 0, err
    head, *lines = out.splitlines()
    assert "loss of ndcg@20" in head
    assert [tuple(line.split()[:2]) for line in lines] == list(measure.WAYS)
    small = tmp_path / "small"
    to_small = ("--out", small, "--item-vectors", "int8", "--states", "int8", "--json")
    code, out, err = run(capsys, "compress", plain, *to_small)
    assert code == 0, err
    first, second = json.loads(out)["ways"]
    assert (first["overlap"], first["found"], first["losses"]) == (1, 1, {})
    assert second["state_bytes"] * 4 == first["state_bytes"]
    assert second["stored_bytes"] < first["stored_bytes"]
    assert second["overlap"] > 0.9
    assert all(taken > 0 for taken in second["us_by_batch"].values())
    manifest = Bundle.load(small).manifest
    assert (manifest.item_storage, manifest.state.storage) == ("int8", "int8")
    for wrong, message in (
        ((small,), "compress the float32 bundle"),
        ((plain, "--out", tmp_path / "x"), "how to pack"),
        ((plain, "--states", "int8"), "go with --out"),
        ((plain, "--cpu-only"), "--cpu-only: goes with --out"),
        ((plain, "--since", "2023-11-15"), "give it with --test FILE"),
        ((plain, "--format", "rees46"), "give it with --test FILE"),
        ((plain, "--test", log, "--format", "histories", "--since", "2023-11-15"), "no times"),
    ):
        code, _, err = run(capsys, "compress", *wrong)
        assert (code, message in err) == (2, True), err


def test_what_rounding_loses_is_float32s_figure_minus_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.01)
    log, plain = visits(tmp_path / "log.jsonl"), tmp_path / "bundle"
    assert run(capsys, "train", log, "--out", plain, "--model", "decay", "--set", "dim=8")[0] == 0
    code, out, _ = run(capsys, "compress", plain, "--test", log, "--json")
    assert code == 0
    float32, *others = json.loads(out)["ways"]
    assert float32["metrics"]["recall@20"] > 0
    assert any(any(other["losses"].values()) for other in others)
    for other in others:
        for name, loss in other["losses"].items():
            assert loss == pytest.approx(
                float32["metrics"][name] - other["metrics"][name], abs=1e-5
            )


@pytest.mark.parametrize(
    ("command", "option", "value", "allowed"),
    [
        ("tune", "--trials", "0", "a whole number from 1 on"),
        ("tune", "--trials", "1.5", "a whole number from 1 on"),
        ("tune", "--seed", "-1", "a whole number from 0 to 4294967295"),
        ("tune", "--seed", "one", "a whole number from 0 to 4294967295"),
        ("tune", "--minutes", "0", "minutes above 0"),
        ("train", "--minutes", "inf", "minutes above 0"),
        ("train", "--minutes", "nan", "minutes above 0"),
        ("train", "--minutes", "soon", "minutes above 0"),
    ],
)
def test_a_number_that_is_not_allowed_is_answered_by_those_that_are(
    command: str, option: str, value: str, allowed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, command, "none.jsonl", "--model", "mf", f"{option}={value}")
    assert code == 2
    assert f"argument {option}: {value}: give {allowed}" in err
