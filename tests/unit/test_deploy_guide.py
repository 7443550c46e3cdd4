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


def test_the_guides_example_follows_from_its_figures() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    users, workers, copies, per_s = 2_000_000, 3, 3, 3_000
    assert "E = 30,000, E' = 3,000, U = 2,000,000, I = 10,000, D = 64, L = 1, R = 3" in text
    (user_bytes,) = re.findall(r"full ring of 50 \| ([\d,]+) bytes", text)
    (state_bytes,) = re.findall(r"a state in the changelog \| ([\d,]+) bytes", text)
    (slowest_s,) = re.findall(r"recovery of a million users \| [\d.]+ to ([\d.]+) s", text)
    held, sent = (int(told.replace(",", "")) for told in (user_bytes, state_bytes))
    held_mb = held * users / (workers - 1) / 1e6
    assert (
        f"330 MB + 330 MB + {held_mb:,.0f} MB + 2.6 MB = {(662.6 + held_mb) / 1e3:.1f} GB" in text
    )
    written = sent * per_s * copies
    kept = f"{written * 86_400 / 1e12:.2f} TB + {sent * users * copies / 1e9:.0f} GB"
    assert f"{written / 1e6:.1f} MB/s; {kept}" in text
    moved_s = float(slowest_s) * users / workers / 1e6
    assert f"{slowest_s} s for each million users that move | 10 s + {moved_s:.1f} s" in text
