"""The pages' tables, made from the code: `python -m tests.support.docs` writes them anew.

A table stands between `<!-- NAME -->` and `<!-- end -->`; tests/unit/test_docs.py holds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from export.models import content, cooccurrence, decay, glr, mf
from export.models.glr import parameters as glr_parameters
from stream.config import State, describe_settings
from stream.core.wire import Layout
from stream.metrics import describe_metrics

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
RECORDS = ROOT / "stream" / "RECORDS.md"
SETTINGS = ROOT / "stream" / "SETTINGS.md"
METRICS = ROOT / "stream" / "METRICS.md"

# In their states are rows of items, which one byte does not hold.
OF_ROWS = ("cooccurrence", "ensemble")


def settings_table() -> str:
    rows = (
        (
            f"`{row.path}`" if row.path else "",
            f"`{row.environment}`" if row.environment else "",
            f"`{row.default}`" if row.default else "",
            row.meaning,
        )
        for row in describe_settings()
    )
    return _table(("in the file", "in the environment", "default", "meaning"), rows)


def metrics_table() -> str:
    rows = (
        (f"`{row.name}`", row.type, ", ".join(row.labels), row.help) for row in describe_metrics()
    )
    return _table(("metric", "type", "labels", "meaning"), rows)


def state_numbers() -> dict[str, int]:
    """Numbers in a user's state, by model with its default parameters."""
    visits, histories = glr.Parameters(), glr.Parameters.chosen(glr_parameters.LONG)
    return {
        "decay": 2 * decay.Parameters().dim,  # a slow sum and a fast one
        "mf": mf.Parameters().dim,
        "content": content.Parameters().dim,
        "cooccurrence": cooccurrence.Parameters().last,
        "ensemble": mf.Parameters().dim + cooccurrence.Parameters().last,
        "glr, visits": visits.members * visits.member_size,
        "glr, histories": histories.members * histories.member_size,
    }


def states_table() -> str:
    ring = State().ring

    def full(numbers: int, storage: str) -> str:
        return f"{Layout(numbers, storage, ring, model=1).max_bytes:,}"

    rows = [
        (f"`{model}`", str(numbers), full(numbers, "float32"), full(numbers, "int8"))
        for model, numbers in state_numbers().items()
        if model not in OF_ROWS
    ]
    for model in OF_ROWS:
        numbers = state_numbers()[model]
        rows.append((f"`{model}`", str(numbers), full(numbers, "float32"), "none"))
    return _table(("model", "numbers", "float32, bytes", "int8, bytes"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "metrics": metrics_table,
    "states": states_table,
}
# Where each stands.
PAGES = {"settings": SETTINGS, "metrics": METRICS, "states": README}


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def with_tables(text: str, names: Iterable[str] = TABLES) -> str:
    """A page with each of these tables as the code has it."""
    for name in names:
        make = TABLES[name]
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end -->)"
        if not re.search(pattern, text, re.DOTALL):
            raise ValueError(f"there is no place for the table of {name}")
        table = make()
        text = re.sub(pattern, lambda m, t=table: m[1] + t + m[2], text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    for page in sorted(set(PAGES.values())):
        there = [name for name, place in PAGES.items() if place == page]
        page.write_text(with_tables(page.read_text(encoding="utf-8"), there), encoding="utf-8")
