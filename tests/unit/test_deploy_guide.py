"""`deploy/README.md`: every file, and every figure where it says."""

from __future__ import annotations

import re

from stream.metrics import describe_metrics
from tests.support.deployed import DEPLOY, GUIDE


def test_every_metric_that_is_named_exists() -> None:
    known = {metric.name for metric in describe_metrics()}
    for file in (path for path in DEPLOY.rglob("*") if path.is_file()):
        named = re.findall(r"`(freshet_\w+)`", file.read_text(encoding="utf-8"))
        assert set(named) - known == set(), file


def test_every_file_is_named_in_the_guide() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for path in DEPLOY.iterdir():
        if path != GUIDE and not path.name.startswith((".", "__")):
            assert f"`{path.name}{'/' if path.is_dir() else ''}`" in text, path.name


def test_the_guides_figures_stand_where_it_says() -> None:
    table = GUIDE.read_text(encoding="utf-8").split("<!-- figures -->")[1].split("<!-- end -->")[0]
    rows = [
        [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
        for row in table.strip().splitlines()
    ]
    assert len(rows) > 8
    for _, value, quoted, page in rows[2:]:
        words = re.findall(r"`([^`]+)`", quoted)
        assert words, quoted
        (place,) = re.findall(r"\((.+?)(?:#.*)?\)", page)
        text = re.sub(r"\s+", " ", (DEPLOY / place).read_text(encoding="utf-8"))
        for word in words:
            assert word in text, f"{value}: {word} is not in {place}"
