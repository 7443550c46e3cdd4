"""Rules, runbooks and dashboards: each alert fires and ends, and no metric is left out of them."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import drawn, local, queries
from deploy.grafana.dashboards import FOLDER, files
from deploy.grafana.panels import MAY_BE_LATE, OBJECTIVE_S
from stream.kafka.broker import free_port
from stream.metrics import describe_metrics
from tests.support.kafka import ROOT
from tests.support.prometheus import NOT_LIVE, program, shortened

DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RUNBOOKS = DEPLOY / "RUNBOOKS.md"
TESTS = sorted(PROMETHEUS.glob("tests*.yaml"))
# What Prometheus itself and its client for Python tell.
OTHERS = {"up", "process_start_time_seconds", "process_cpu_seconds_total"}
OTHERS |= {"process_resident_memory_bytes", "ALERTS"}
OF_HISTOGRAM = ("_bucket", "_sum", "_count")


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules that are an `alert`, or a `record`."""
    groups = [yaml.safe_load(file.read_text("utf-8"))["groups"] for file in queries.RULES]
    return [rule for file in groups for group in file for rule in group["rules"] if kind in rule]


ALERTS = {rule["alert"]: rule for rule in rules("alert")}
RECORDED = {rule["record"] for rule in rules("record")}


def named(expr: str) -> set[str]:
    """The metrics that a query looks at: what stands before a brace, a bracket, or for itself."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}', "{}", expr)
    bare = re.sub(r"\b(by|on|ignoring|without)\s*\([^)]*\)", "", bare)
    names = re.findall(r"(?<![\w:$])[a-zA-Z_][\w:]*\b(?!\s*\()", re.sub(r"\[[^]]*\]", "", bare))
    return set(names) - {"and", "or", "unless", "bool", "by", "on"}


def test_names_are_found_in_queries() -> None:
    told = 'sum by (le) (rate(a_b{c="d"}[5m])) > 0.1 * x:y:z unless on (q) absent(up)'
    assert named(told) == {"a_b", "x:y:z", "up"}


# -- rules -----------------------------------------------------------------------------------


def test_the_rules_are_prometheus_own() -> None:
    command = [program("promtool"), "check", "rules", *map(str, queries.RULES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_each_alert_fires_under_its_fault_and_ends_with_it(file: Path) -> None:
    command = [program("promtool"), "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_tested_in_the_order_in_which_they_use_each_other() -> None:
    files = [yaml.safe_load(file.read_text("utf-8")) for file in queries.RULES]
    groups = [group["name"] for file in files for group in file["groups"]]
    for file in TESTS:
        assert yaml.safe_load(file.read_text("utf-8"))["group_eval_order"] == groups


def test_no_alert_is_untested() -> None:
    seen: dict[str, set[tuple[int, ...]]] = {}
    for file in TESTS:
        for test in yaml.safe_load(file.read_text("utf-8"))["tests"]:
            alert = test["name"].split(":")[0]
            told = test["promql_expr_test"]
            assert all(f'alertname="{alert}"' in one["expr"] for one in told)
            values = tuple(one["exp_samples"][0]["value"] for one in told)
            seen.setdefault(alert, set()).add(values)
    assert seen.keys() == ALERTS.keys()
    for alert, runs in seen.items():
        assert any(1 in run and run[-1] == 0 for run in runs), f"{alert} never fires, or for ever"


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    told = rule["annotations"]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert told.keys() == {"summary", "description", "runbook_url"}
    assert told["runbook_url"] == f"deploy/RUNBOOKS.md#{alert.lower()}"
    chapters = dict(re.findall(r"^## (\w+)\n\n(.+)$", RUNBOOKS.read_text("utf-8"), re.MULTILINE))
    severity = rule["labels"]["severity"]
    assert chapters[alert].startswith(f"*{severity}.* ")
    row = f"| [`{alert}`](RUNBOOKS.md#{alert.lower()}) | {severity} | "
    assert row in (DEPLOY / "README.md").read_text("utf-8")


def test_every_chapter_is_an_alerts() -> None:
    chapters = re.findall(r"^## (\w+)$", RUNBOOKS.read_text("utf-8"), re.MULTILINE)
    assert chapters == list(ALERTS)


def anchors(page: str) -> set[str]:
    """The headings of a page, as GitHub makes links of them."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_what_runbooks_link_to_and_look_at_is_there() -> None:
    text = RUNBOOKS.read_text(encoding="utf-8")
    for page, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text):
        target = DEPLOY / page if page else RUNBOOKS
        assert target.exists(), page
        assert not anchor or anchor in anchors(target.read_text("utf-8")), f"{page}#{anchor}"
    titles = {panel["title"] for _, panel in panels()}
    looked_at = set(re.findall(r"(?<!\*)\*([A-Z][^*]+?)\*(?!\*)", text.replace("\n", " ")))
    assert len(looked_at) > 10
    assert looked_at - titles == set()


def test_the_objective_is_the_same_everywhere() -> None:
    late = [rule for rule in rules("record") if "lists_late" in rule["record"]]
    assert len(late) == 5
    for rule in late:
        window = rule["record"].removeprefix("freshet:lists_late:ratio_rate")
        assert f'{{le="{OBJECTIVE_S}"}}[{window}]' in rule["expr"]
        assert f"count[{window}]" in rule["expr"]
    fast = ALERTS["FreshetListsLateFast"]["expr"]
    slow = ALERTS["FreshetListsLateSlow"]["expr"]
    limits = [[float(limit) for limit in re.findall(r"> ([\d.]+)", one)] for one in (fast, slow)]
    assert limits[0] == pytest.approx([14.4 * MAY_BE_LATE] * 2 + [6 * MAY_BE_LATE] * 2)
    assert limits[1] == [MAY_BE_LATE] * 2
    for alert in (fast, slow):
        assert set(re.findall(r"freshet:\S+", alert)) <= RECORDED


def test_shortened_rules_are_those_rules_with_other_windows() -> None:
    for file in queries.RULES:
        text = file.read_text("utf-8")
        whole, short = yaml.safe_load(text), yaml.safe_load(shortened(text))
        assert "5m]" not in shortened(text)
        assert [g["name"] for g in whole["groups"]] == [g["name"] for g in short["groups"]]
        waits = [r["for"] for g in short["groups"] for r in g["rules"] if "for" in r]
        assert set(waits) <= {"1s"}


# -- dashboards ------------------------------------------------------------------------------


@functools.cache
def panels() -> list[tuple[str, dict[str, Any]]]:
    """Each panel with queries, and its dashboard's name."""
    found = []
    for file in sorted(FOLDER.glob("*.json")):
        board = json.loads(file.read_text("utf-8"))
        found += [(file.stem, panel) for panel in board["panels"] if "targets" in panel]
    return found


def test_the_files_are_what_the_code_makes() -> None:
    made = dict(files())
    assert set(FOLDER.iterdir()) == set(made)
    for file, text in made.items():
        assert file.read_text("utf-8") == text, "run `python -m deploy.grafana.dashboards`"


def test_every_metric_is_looked_at_and_none_that_is_not_there() -> None:
    asked: set[str] = set()
    for query in (*queries.of_dashboards(), *queries.of_rules()):
        asked |= named(query.expr)
    kinds = {metric.name: metric.type for metric in describe_metrics()}
    whole = {
        name.removesuffix(end)
        for name in asked
        for end in OF_HISTOGRAM
        if kinds.get(name.removesuffix(end)) == "histogram"
    }
    served = {f"{name}{end}" for name in whole for end in OF_HISTOGRAM}
    assert asked - served - OTHERS - RECORDED - kinds.keys() == set()
    assert kinds.keys() - asked - whole == set(), "give it a place in deploy/grafana"
    assert RECORDED - asked == set()


@pytest.mark.parametrize(
    ("board", "panel"), panels(), ids=[f"{board}-{panel['title']}" for board, panel in panels()]
)
def test_a_panel_says_what_it_shows_in_its_unit(board: str, panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    unit = panel["fieldConfig"]["defaults"].get("unit", "")
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert len(set(legends)) == len(legends)
    for target in panel["targets"]:
        expr, told = target["expr"], target["legendFormat"]
        assert "$job" in expr or "ALERTS" in expr or board == "gateway"
        kept = re.match(r"\(?(?:sum|max) by \(([^)]*)\)", expr)
        if kept and panel["type"] == "timeseries":
            for label in kept[1].split(", "):
                assert label == "le" or f"{{{{{label}}}}}" in told, "two lines of one name"
        if panel["type"] != "table":
            assert unit in units_of(expr) or panel["type"] == "heatmap", (expr, unit)


def units_of(expr: str) -> set[str]:
    """The units that fit what a query answers."""
    names = named(expr)
    divided = " / " in expr
    waited = any(name.endswith("_seconds") for name in names)
    if waited or "histogram_quantile" in expr or ("_sum" in expr and divided):
        return {"s"} if any("_seconds" in name for name in names) else {"short"}
    if "process_cpu" in expr or any("ratio" in name for name in names):
        return {"percentunit"}
    if any("_bytes" in name for name in names):
        return {"binBps"} if " (rate(" in expr else {"bytes"}
    if divided:
        return {"percentunit", "none"}
    if re.search(r"\b(rate|deriv)\(|:rate", expr):
        return {"cps", "eps", "recps"}
    return {"short", "none"}


def test_panels_lie_side_by_side() -> None:
    taken: dict[tuple[str, int, int], str] = {}
    for file in FOLDER.glob("*.json"):
        board = json.loads(file.read_text("utf-8"))
        titles = [panel["title"] for panel in board["panels"]]
        assert len(set(titles)) == len(titles)
        assert len({panel["id"] for panel in board["panels"]}) == len(titles)
        for panel in board["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24, panel["title"]
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    other = taken.setdefault((file.stem, x, y), panel["title"])
                    assert other == panel["title"], f"{file.stem}: {other}, {panel['title']}"


# -- who reads them --------------------------------------------------------------------------


def test_grafana_finds_dashboards_and_prometheus_where_the_compose_file_puts_them() -> None:
    composed = local.services()
    mounted = local.mounts(composed["grafana"])
    places = {path: where for where, path in mounted.items()}
    provisioning = DEPLOY / "grafana" / "provisioning"
    assert places[provisioning] == "/etc/grafana/provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/freshet.yaml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] == places[FOLDER]
    home = composed["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (FOLDER / home.removeprefix(f"{places[FOLDER]}/")).is_file()
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    scraped = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
    jobs = [job["job_name"] for job in scraped["scrape_configs"]]
    for job, alert in zip(jobs, ("FreshetWorkerDown", "FreshetGatewayDown"), strict=True):
        assert ALERTS[alert]["expr"] == f'up{{job="{job}"}} == 0'
    assert f'up{{job="{jobs[1]}"}}' in ALERTS["FreshetNoGateway"]["expr"]


def test_prometheus_reads_the_rules_in_the_compose_file_and_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = local.services()["prometheus"]
    scraped = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    mounted = local.mounts(service)
    assert [mounted[path] for path in scraped["rule_files"]] == list(queries.RULES)
    started: list[list[str]] = []
    monkeypatch.setattr(local.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(local, "Process", lambda *given: started.append(given[2]))
    ports = {"freshet": [1, 2], "freshet-gateway": [4]}
    local.prometheus(service, ports, tmp_path)
    local.prometheus(service, ports, tmp_path, 3)
    command, elsewhere = started
    assert "--web.listen-address=127.0.0.1:9090" in command
    assert "--web.listen-address=127.0.0.1:3" in elsewhere
    config = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    assert f"--config.file={tmp_path / 'prometheus.yml'}" in command
    assert config["rule_files"] == [str(file) for file in queries.RULES]
    targets = [job["static_configs"][0]["targets"] for job in config["scrape_configs"]]
    assert targets == [["127.0.0.1:1", "127.0.0.1:2"], ["127.0.0.1:4"]]


def answering(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    result = [{"metric": {}, "value": [0, value]} for value in values]
    monkeypatch.setattr(queries, "ask", lambda url, path, **_: {"result": result})


@pytest.mark.parametrize(
    ("values", "code", "told"),
    [(("1", "3"), 0, ", 0 without data"), (("NaN",), 1, "without data"), ((), 1, "without data")],
)
def test_what_every_query_answers_is_told(
    values: tuple[str, ...],
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    answering(monkeypatch, *values)
    out = tmp_path / "build" / "queries.json"
    assert queries.main(["--out", str(out)]) == code
    said = capsys.readouterr().out
    assert told in said
    rows = json.loads(out.read_text())["queries"]
    assert len(rows) == len(said.splitlines()) - 2
    assert {(row["series"], row["low"], row["high"]) for row in rows} == {
        (2, 1.0, 3.0) if code == 0 else (0, None, None)
    }


def test_alerts_are_asked_so_that_they_answer() -> None:
    asked = {query.name: query.expr for query in queries.of_rules()}
    assert " > bool 0.144 and " in asked["FreshetListsLateFast"]
    assert " == bool 0" in asked["FreshetWorkerDown"]
    assert 'provider="cpu", wanted="cuda"' in asked["FreshetProviderFallback"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (2.5, "s", "2.5 s"),
        (0.25, "percentunit", "25%"),
        (2048.0, "bytes", "2 KiB"),
        (12.0, "binBps", "12 B/s"),
        (12_345.0, "eps", "12.3 K evt/s"),
        (0.0, "short", "0"),
    ],
)
def test_values_are_told_in_their_unit(value: float, unit: str, text: str) -> None:
    assert drawn.told(value, unit) == text


def test_every_panel_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(url: str, path: str, query: str, **_: str) -> dict[str, Any]:
        if "freshet_ready" in query:
            return {"result": []}
        labels = {"le": "0.5", "topic": "<clicks>"}
        if path == "query":
            return {"result": [{"metric": labels, "value": [60, "1"]}]}
        points = [[0, "1"], [30, "2"], [45, "+Inf"], [60, "NaN"]]
        return {"result": [{"metric": labels, "values": points}]}

    monkeypatch.setattr(queries, "ask", ask)
    page = drawn.page("", 0.0, 60.0)
    for _, panel in panels():
        assert f"<h3>{panel['title']}</h3>" in page
    empty = [panel for _, panel in panels() if "freshet_ready" in panel["targets"][0]["expr"]]
    assert page.count("no data") == len(empty) > 0
    assert "<clicks>" not in page
    assert "&lt;clicks&gt;" in page


@pytest.mark.parametrize(
    ("value", "unit", "end"),
    [
        (0.97, "percentunit", 1.0),
        (0.0, "short", 1.0),
        (0.612, "recps", 0.8),
        (188.0, "short", 200.0),
        (5713.0, "binBps", 8 * 1024.0),
        (2.2, "s", 4.0),
        (15_600.0, "eps", 20_000.0),
    ],
)
def test_the_quarters_of_an_axis_are_round(value: float, unit: str, end: float) -> None:
    assert drawn.rounded_up(value, unit) == pytest.approx(end)


def test_a_long_legend_names_the_lines_that_tell_most() -> None:
    lines = [drawn.Line(f"line {n}", {}, [(0.0, n), (60.0, 0.0)]) for n in range(30)]
    panel = {"fieldConfig": {"defaults": {"unit": "short"}}, "gridPos": {"w": 8}}
    shown = drawn.curves(panel, lines, 0.0, 60.0)
    named = re.findall(r"line (\d+)", shown)
    assert named == [str(n) for n in range(29, 29 - drawn.NAMED, -1)]
    assert f"and {30 - drawn.NAMED} more" in shown
    assert shown.count("<polyline") == 30
    assert "00:00:30" in shown, "the middle of the time shown"


def test_each_dashboard_becomes_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    board = '<section id="{}"><h1>x</h1><div style="height: 50px"></div></section>'
    page.write_text("".join(map(board.format, ("kafka", "model"))), encoding="utf-8")
    given = ["--page", str(page), "--png", str(tmp_path / "pictures")]
    if any(map(shutil.which, drawn.CHROMIUMS)):
        assert drawn.main(given) == 0
        taken = [tmp_path / "pictures" / f"{name}.png" for name in ("kafka", "model")]
        assert capsys.readouterr().out.split() == list(map(str, taken))
        assert all(file.read_bytes().startswith(b"\x89PNG") for file in taken)
    assert drawn.main(["--page", str(tmp_path / "none.html")]) == 2
    assert "--page: " in capsys.readouterr().err
    monkeypatch.setattr(drawn.shutil, "which", lambda name: None)
    assert drawn.main(given) == 2
    assert "apt install chromium" in capsys.readouterr().err


def test_what_no_live_run_shows_is_said() -> None:
    assert set(NOT_LIVE) <= queries.alerts()
    told = (ROOT / "tests" / "README.md").read_text("utf-8")
    for alert in NOT_LIVE:
        assert f"`{alert}`" in told


def test_a_prometheus_that_is_not_there_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for main in (queries.main, drawn.main):
        assert main(["--url", url]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: no Prometheus answers at {url}")
        assert said.count("\n") == 1
    assert drawn.main(["--minutes", "0"]) == 2
    assert capsys.readouterr().err == "error: --minutes: more than 0\n"
