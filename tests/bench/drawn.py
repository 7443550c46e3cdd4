"""The README's figures beside its peers', as a picture: `python -m tests.bench.drawn`.

In: the table of one worker in the README's Sizing. Out: peers.svg, which a test holds to the table.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from export.comparing.plots import bars

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
PICTURE: Final = Path(__file__).with_name("peers.svg")
_HEAD: Final = "| one worker | events/s | CPU per event |"
_PEER: Final = "*the same job:* "
_KINDS: Final = ("Freshet", "peers that do the job of 64 floats per user")


def figures(page: str) -> tuple[dict[str, float], dict[str, float], dict[str, str]]:
    """Events a second, microseconds of CPU an event, and the kind of each row of the table.

    Raises
    ------
    ValueError : a page without the table, or with other rows in it
    """
    _, head, after = page.partition(_HEAD + "\n|---|---|---|\n")
    if not head:
        raise ValueError(f"there is no table {_HEAD}")
    rates: dict[str, float] = {}
    costs: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for line in after.split("\n\n")[0].splitlines():
        found = re.fullmatch(r"\| (.+) \| ([\d,]+) \| ([\d.]+) us \|", line)
        if found is None:
            raise ValueError(f"this row has other cells: {line}")
        name = re.split(r"[,:] ", found[1].removeprefix(_PEER))[0]
        rates[name] = float(found[2].replace(",", ""))
        costs[name] = float(found[3])
        kinds[name] = _KINDS[found[1].startswith(_PEER)]
    return rates, costs, kinds


def picture(page: str) -> str:
    """The table as SVG."""
    rates, costs, kinds = figures(page)
    panels = {"events a second": rates, "CPU an event, us": costs}
    return bars("Events a second of one worker, and what an event costs", panels, kinds)


if __name__ == "__main__":
    PICTURE.write_text(picture(README.read_text(encoding="utf-8")), encoding="utf-8")
