"""The engine's stage histograms, read from outside: where the time of a run went.

In: a /metrics page, before and after. Out: seconds and batches by stage. Knows nothing of runs.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import NamedTuple

_SAMPLE = re.compile(r'^freshet_stage_seconds_(sum|count)\{[^}]*stage="(\w+)"[^}]*\} (\S+)$', re.M)
# Between record and step: waiting in the topic, which is no work of the engine.
_WAITING = "poll"


class Stage(NamedTuple):
    """Seconds spent in a stage, and the micro-batches that went through it."""

    seconds: float
    batches: float


Stages = Mapping[str, Stage]


def read_stages(url: str | None) -> Stages:
    """Read the page; nothing where there is none (yet)."""
    if url is None:
        return {}
    try:
        with urllib.request.urlopen(url, timeout=5) as page:
            found = _SAMPLE.findall(page.read().decode())
    except (urllib.error.URLError, OSError):
        return {}
    values = {(stage, kind): float(value) for kind, stage, value in found}
    names = dict.fromkeys(stage for stage, _ in values)
    return {name: Stage(values[name, "sum"], values[name, "count"]) for name in names}


def between(before: Stages, after: Stages) -> dict[str, Stage]:
    """What was spent between two readings, stages without a batch left out."""
    spent = {}
    for name, (seconds, batches) in after.items():
        seconds_before, batches_before = before.get(name, Stage(0.0, 0.0))
        if batches > batches_before:
            spent[name] = Stage(seconds - seconds_before, batches - batches_before)
    return spent


def work(stages: Stages) -> dict[str, Stage]:
    """The stages without the waiting."""
    return {name: stage for name, stage in stages.items() if name != _WAITING}
