"""What a file asks, as `--test` names it. In: a path, its format. Out: `Questions`.

Must not know: models, the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from export.data.dataset import read_cases, read_log
from export.measuring.questions import Questions, cases_asked, last_items, moments_asked
from stream.errors import UsageError

PREFIXES = "prefixes"
HISTORIES = "histories"

Report = Callable[[str], None]


def asked_of(
    test: Path,
    form: str,
    since: str | None,
    report: Report,
    scratch: Path | None = None,
    until: Mapping[tuple[str, int], int] | None = None,
) -> Questions:
    """What a file asks, as it stands: nothing is cleaned out of it.

    Parameters
    ----------
    form, scratch, until : as `read_log` takes them; "prefixes" as well
    since : ISO date from which on it asks

    Raises
    ------
    UsageError
        It cannot be read, or it asks for nothing.
    """
    if since is not None and form in (PREFIXES, HISTORIES):
        raise UsageError(f"--since: {form} carry no times; leave it out")
    if form == PREFIXES:
        return cases_asked(read_cases(test, report))
    since_ms = 0 if since is None else moment_ms(since)
    log = read_log(test, form, report, scratch=scratch, until=until)
    if form != HISTORIES:
        return moments_asked(log, since_ms)
    asked = last_items(log)
    if not asked.queries:
        raise UsageError(
            f"{test}: asks for nothing: no history is longer than one item; give longer ones"
        )
    return asked


def moment_ms(text: str) -> int:
    """An ISO date in ms; without a zone it is UTC.

    Raises
    ------
    UsageError
        It is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since {text}: not an ISO date such as 2011-11-01") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
