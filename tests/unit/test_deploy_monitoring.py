"""`deploy/kubernetes/`: what Prometheus' operator is given, the rules' own files, dashboards."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import operator_rules, queries
from deploy.grafana.dashboards import FOLDER
from tests.support import kustomize
from tests.support.deployed import COMPOSE, KUBERNETES, OVERLAYS, rendered, strange, validate
from tests.support.kustomize import Manifest
from tests.support.prometheus import program

GROUP = "monitoring.coreos.com/v1"
COMPONENTS = ("gateway", "monitoring", "gateway-monitoring")
# The operator's own objects have no schema among Kubernetes'. What may stand where:
_ANY: dict[str, Any] = {}
_RULE = dict.fromkeys(("alert", "record", "expr", "for", "labels", "annotations"), _ANY)
_RULE |= {"labels": {"severity": _ANY}}
_RULE |= {"annotations": dict.fromkeys(("summary", "description", "runbook_url"), _ANY)}
OPERATOR: dict[str, Any] = {
    "ServiceMonitor": {
        "jobLabel": _ANY,
        "selector": {
            "matchLabels": {"app.kubernetes.io/name": _ANY, "app.kubernetes.io/component": _ANY}
        },
        "endpoints": [
            {
                **dict.fromkeys(("port", "path", "interval", "scrapeTimeout"), _ANY),
                "authorization": {"type": _ANY, "credentials": {"name": _ANY, "key": _ANY}},
            }
        ],
    },
    "PrometheusRule": {"groups": [{"name": _ANY, "interval": _ANY, "rules": [_RULE]}]},
}


@functools.cache
def _made() -> list[Manifest]:
    parts = [KUBERNETES / "components" / name for name in COMPONENTS]
    return kustomize.render_with(KUBERNETES / "base", *parts)


def made(kind: str) -> dict[str, Manifest]:
    """By name, what there is of a kind once the components stand beside the base."""
    found = copy.deepcopy(_made())
    return {one["metadata"]["name"]: one for one in found if one["kind"] == kind}


def seconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([smhd])", text).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]


def test_objects_are_what_the_operator_takes() -> None:
    for kind, known in OPERATOR.items():
        for manifest in made(kind).values():
            assert manifest["apiVersion"] == GROUP
            assert list(strange(manifest["spec"], known)) == []
    slipped = made("ServiceMonitor")["freshet-worker"]["spec"]
    slipped["endpoints"][0]["scrape_interval"] = "15s"
    assert list(strange(slipped, OPERATOR["ServiceMonitor"])) == [
        "spec.endpoints[].scrape_interval"
    ]


def test_clusters_without_the_operator_take_every_overlay() -> None:
    for overlay in OVERLAYS:
        assert [one for one in rendered(overlay) if one["apiVersion"] == GROUP] == []


def test_the_rules_are_those_of_their_files() -> None:
    told = operator_rules.FILE.read_text(encoding="utf-8")
    assert told == operator_rules.manifest(), "run `python -m deploy.operator_rules`"
    found = {name: one["spec"] for name, one in made("PrometheusRule").items()}
    assert found == {
        f"freshet-{file.stem}": yaml.safe_load(file.read_text("utf-8")) for file in queries.RULES
    }


def test_the_operators_rules_are_prometheus_own(tmp_path: Path) -> None:
    files = []
    for name, manifest in made("PrometheusRule").items():
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(yaml.safe_dump(manifest["spec"]), encoding="utf-8")
    command = [program("promtool"), "check", "rules", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_jobs_are_named_and_scraped_as_rules_and_dashboards_ask() -> None:
    services, jobs = made("Service"), set()
    for name, monitor in made("ServiceMonitor").items():
        spec, service = monitor["spec"], services[name]
        labels = service["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items()
        others = [one for one in services.values() if one is not service]
        wanted = spec["selector"]["matchLabels"].items()
        assert not [one for one in others if wanted <= one["metadata"]["labels"].items()]
        # The operator takes the service's name where no label is named.
        jobs.add(labels[spec["jobLabel"]] if "jobLabel" in spec else name)
        (endpoint,) = spec["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        assert endpoint["path"] == "/metrics"
        every_s = seconds(endpoint["interval"])
        assert seconds(endpoint["scrapeTimeout"]) <= every_s
        windows = [
            window
            for query in queries.of_rules()
            for window in re.findall(r"\[(\w+)\]", query.expr)
        ]
        # A rate needs two samples, and one may get lost.
        assert min(map(seconds, windows)) >= 4 * every_s
    scraped = yaml.safe_load((COMPOSE / "prometheus.yml").read_text(encoding="utf-8"))
    assert jobs == {job["job_name"] for job in scraped["scrape_configs"]}


def test_the_gateways_metrics_are_asked_for_with_a_token() -> None:
    (endpoint,) = made("ServiceMonitor")["freshet-gateway"]["spec"]["endpoints"]
    credentials = endpoint["authorization"]["credentials"]
    (gateway,) = kustomize.containers(made("Deployment")["freshet-gateway"])
    assert "FRESHET_GATEWAY_TOKENS_FILE" in {one["name"] for one in gateway["env"]}
    folder = KUBERNETES / "components" / "gateway-monitoring"
    told = (folder / "kustomization.yaml").read_text(encoding="utf-8")
    assert f"generic {credentials['name']} --from-file={credentials['key']}" in told
    assert "authorization" not in made("ServiceMonitor")["freshet-worker"]["spec"]["endpoints"][0]


def test_the_dashboards_are_all_in_one_map_that_can_be_applied() -> None:
    dashboards = made("ConfigMap")["freshet-dashboards"]
    validate(dashboards)
    assert dashboards["data"] == {
        file.name: file.read_text(encoding="utf-8") for file in FOLDER.iterdir()
    }
    assert dashboards["metadata"]["labels"] == {"grafana_dashboard": "1"}
    # `kubectl apply` keeps the whole object in an annotation, which holds 256 KiB.
    assert len(json.dumps(dashboards)) < 256 * 1024


def test_kubectl_renders_the_components_the_same(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed; what these tests render themselves is looked at")
    there = Path(os.path.relpath(KUBERNETES, tmp_path))
    asked = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [str(there / "base")],
        "components": [str(there / "components" / name) for name in COMPONENTS],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(asked), encoding="utf-8")
    command = [kubectl, "kustomize", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
        # What stands beside the base has the namespace of the overlay, and this has none.
        for one in manifests:
            one["metadata"].pop("namespace", None)
        return {(one["kind"], one["metadata"]["name"]): one for one in manifests}

    theirs = list(yaml.safe_load_all(kustomize.without_hashes(done.stdout)))
    assert by_name(theirs) == by_name(copy.deepcopy(_made()))
