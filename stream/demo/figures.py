"""What the demo's worker counts, for the page's panel. In: `/metrics`. Out: numbers."""

from __future__ import annotations

import math

from aiohttp import ClientError, ClientSession, ClientTimeout
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

_WITHIN_S = 2.0
_HOME = "home"
_HITS, _OUTCOMES = "freshet_quality_hits_total", "freshet_quality_outcomes_total"
_SUMMED = frozenset({"freshet_events_total", _HITS, _OUTCOMES})


class Figures(Struct, frozen=True):
    """Counters of the worker since its start.

    Attributes
    ----------
    events : folded into states
    latency : of events to their lists: upper bound in seconds (None: no bound), and how many took
        as long or less
    hits, outcomes : events on items of the home list shown before them, and all that could have
        been; None where the worker has counted none
    """

    events: float = 0.0
    latency: tuple[tuple[float | None, float], ...] = ()
    hits: float | None = None
    outcomes: float | None = None


def read_figures(text: str) -> Figures:
    """Figures of a worker's metrics in Prometheus' text format."""
    latency: dict[float, float] = {}
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "freshet_event_to_list_seconds_bucket":
                latency[float(sample.labels["le"])] = sample.value
            elif sample.name in _SUMMED and sample.labels.get("placement", _HOME) == _HOME:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return Figures(
        events=sums.get("freshet_events_total", 0.0),
        latency=tuple(
            (None if math.isinf(bound) else bound, latency[bound]) for bound in sorted(latency)
        ),
        hits=sums.get(_HITS),
        outcomes=sums.get(_OUTCOMES),
    )


class WorkerFigures:
    """Asks a worker, and answers with what it said last where it does not answer.

    Parameters
    ----------
    url : of its endpoints, without a path
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url}/metrics"
        self._session: ClientSession | None = None
        self._last = Figures()

    async def __call__(self) -> Figures:
        if self._session is None:  # within the loop that it will be used in
            self._session = ClientSession(timeout=ClientTimeout(total=_WITHIN_S))
        try:
            async with self._session.get(self._url, headers={"Accept": "text/plain"}) as response:
                self._last = read_figures(await response.text())
        except (ClientError, TimeoutError, OSError):
            pass
        return self._last

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
