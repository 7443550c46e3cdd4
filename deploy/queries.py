"""Every query of every panel and rule, asked of a Prometheus: what it answers, and which has none.

    python -m deploy.queries
    python -m deploy.queries --url http://127.0.0.1:9090 --out build/queries.json

In: the dashboards in grafana/json/, the rules in prometheus/. Out: a table, and a JSON file of the
same. Exit code 0: each query has data; 1: one has none; 2: Prometheus does not answer or refuses.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stream.errors import FreshetError, UsageError

FOLDER = Path(__file__).parent
BOARDS = FOLDER / "grafana" / "json"
RULES = tuple(FOLDER / "prometheus" / name for name in ("recording.yaml", "alerts.yaml"))
URL = "http://127.0.0.1:9090"
# What Grafana fills in. The workers' job must be called so; the rules ask for it, too.
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "$job": "freshet", "$worker": ".+"}
_TIMEOUT_S = 10
# A proxy for the world outside must not be asked for this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Query:
    """A query as Prometheus is asked it.

    Attributes
    ----------
    source : dashboard, or file of rules
    name : panel and what its legend says, or rule
    unit : Grafana's name of a panel's unit, "" of a rule
    """

    source: str
    name: str
    unit: str
    expr: str


@dataclass(frozen=True)
class Answer:
    """A query's series at one moment.

    Attributes
    ----------
    series : how many have a number
    low, high : the least and the greatest of them, nan without any
    """

    query: Query
    series: int
    low: float = field(default=math.nan)
    high: float = field(default=math.nan)


def of_dashboards(folder: Path = BOARDS) -> Iterator[Query]:
    """The queries of every panel, with Grafana's variables filled in: all workers, a minute."""
    for file in sorted(folder.glob("*.json")):
        board = json.loads(file.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                expr = filled_in(target["expr"])
                title, told = panel["title"], target["legendFormat"]
                name = title if told in ("", title) else f"{title}: {told}"
                unit = panel["fieldConfig"]["defaults"].get("unit", "")
                yield Query(file.stem, name, unit, expr)


def filled_in(expr: str) -> str:
    """A panel's query as Grafana would ask it, of all workers."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def of_rules(files: Sequence[Path] = RULES) -> Iterator[Query]:
    """What every rule asks, alerts in the form that also answers when all is well.

    Its comparisons have `bool` here: 1 where they hold, and 0, not nothing, where they don't.
    """
    for file in files:
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    asked = re.sub(r" ([<>]|[<>=!]=) ", r" \1 bool ", rule["expr"])
                    yield Query(file.stem, rule["alert"], "", asked)
                else:
                    yield Query(file.stem, rule["record"], "", rule["expr"])


def alerts(files: Sequence[Path] = RULES) -> set[str]:
    """The names of all alerts."""
    groups = [yaml.safe_load(file.read_text(encoding="utf-8"))["groups"] for file in files]
    rules = [rule for file in groups for group in file for rule in group["rules"]]
    return {rule["alert"] for rule in rules if "alert" in rule}


def ask(url: str, path: str, **parameters: str) -> Any:
    """The `data` that Prometheus's API answers with.

    Raises
    ------
    UsageError : it does not answer, or refuses the query
    """
    asked = f"{url.rstrip('/')}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    try:
        with _DIRECT.open(asked, timeout=_TIMEOUT_S) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        with error:
            told = error.read(2_000).decode(errors="replace")
        raise UsageError(f"{url} refuses {parameters or path}: {told}") from None
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"no Prometheus answers at {url} ({error}): name it by --url") from None


def answer(url: str, query: Query) -> Answer:
    """What a query answers now; a number that is none (0/0) is no data."""
    result = ask(url, "query", query=query.expr)["result"]
    numbers = [float(series["value"][1]) for series in result]
    numbers = [number for number in numbers if not math.isnan(number)]
    return Answer(query, len(numbers), *((min(numbers), max(numbers)) if numbers else ()))


def table(answers: Iterable[Answer]) -> str:
    """Lines for people."""
    lines = [f"{'where':10} {'series':>6} {'least':>12} {'greatest':>12} {'unit':12} query"]
    for one in answers:
        query = one.query
        lines.append(
            f"{query.source:10} {one.series:6d} {one.low:12.6g} {one.high:12.6g} {query.unit:12} "
            f"{query.name}"
        )
    return "\n".join(lines)


def written(answers: Iterable[Answer], more: Mapping[str, Any] | None = None) -> str:
    """The same as JSON; `more` stands beside it."""
    rows = []
    for one in answers:
        values = {"low": one.low, "high": one.high} if one.series else {"low": None, "high": None}
        rows.append({**asdict(one.query), "series": one.series, **values})
    return json.dumps({"queries": rows, **(more or {})}, indent=1) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask a Prometheus every query of every panel and rule."""
    parser = argparse.ArgumentParser(prog="python -m deploy.queries", description=main.__doc__)
    parser.add_argument("--url", default=URL, help=f"the Prometheus (default: {URL})")
    parser.add_argument("--out", type=Path, help="a JSON file of the same")
    options = parser.parse_args(arguments)
    try:
        answers = [answer(options.url, query) for query in (*of_dashboards(), *of_rules())]
    except FreshetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(table(answers))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(written(answers), encoding="utf-8")
    empty = sum(one.series == 0 for one in answers)
    print(f"{len(answers)} queries, {empty} without data")
    return 1 if empty else 0


if __name__ == "__main__":
    raise SystemExit(main())
