"""What a placement's diversity costs: the curve, and the command that prints it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.cli import main
from export.measuring.diversity import diversity_curve
from export.measuring.questions import cases_asked
from stream.core.bundle import Bundle
from stream.core.model import Model
from tests.support.bundles import random_decay_bundle
from tests.unit.test_evaluation import cases_of

HISTORIES = [(f"i{item} i{item + 1} i{item + 2}", f"i{item + 3}") for item in range(1, 90, 3)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("diversity") / "bundle"
    return random_decay_bundle(folder, 100, dim=16, clusters=8)


def test_the_stronger_the_less_alike_and_no_strength_is_what_is_served(bundle: Bundle) -> None:
    asked = cases_asked(cases_of(*HISTORIES, items=[f"i{item}" for item in range(1, 101)]))
    curve = diversity_curve(Model(bundle, "cpu"), asked, [0.0, 4.0, 60.0], 10)
    unlike = [point.unlike for point in curve]
    assert unlike == sorted(unlike)
    assert unlike[2] > unlike[0] + 0.2
    assert [point.diversity for point in curve] == [0.0, 4.0, 60.0]
    for point in curve:
        assert point.low <= point.ndcg <= point.high


def test_the_command_prints_the_curve(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "test.txt"
    file.write_text("".join(f"{known}\t{target}\n" for known, target in HISTORIES), "utf-8")
    command = [
        "evaluate",
        "--bundle",
        str(bundle.path),
        "--test",
        str(file),
        "--format",
        "prefixes",
    ]
    assert main([*command, "--diversity", "0,60", "--k", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    served, diverse = found["diversity_curve"]
    assert served["ndcg"] == found["ndcg@5"]
    assert served["unlike"] == found["diversity@5"] < diverse["unlike"]
    plots = tmp_path / "plots"
    assert main([*command, "--diversity", "0,60", "--k", "5", "--plots", str(plots)]) == 0
    drawn = (plots / "diversity.svg").read_text(encoding="utf-8")
    for point in (served, diverse):
        assert f"ndcg@5: {point['unlike']:.4g}, {point['ndcg']:.4g}<" in drawn
    assert drawn in (plots / "report.html").read_text(encoding="utf-8")
    said = capsys.readouterr().out
    assert "diversity  ndcg@5" in said
    assert "\n60 " in said
    for wrong in ("soon", "-1", "1001", ""):
        with pytest.raises(SystemExit, match="2"):
            main([*command, f"--diversity={wrong}"])
        assert "give strengths from 0 to 1000" in capsys.readouterr().err
