"""`deploy/`: the gateway's manifests and its unit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream.cli import END_WITHIN_S
from stream.config import load_settings
from stream.gateway.access import check_open
from tests.support import kustomize
from tests.support.deployed import (
    GUIDE,
    KUBERNETES,
    OVERLAYS,
    SYSTEMD,
    assignments,
    of_kind,
    rendered,
    verify,
)
from tests.support.kustomize import Manifest


def part(overlay: Path, kind: str) -> Manifest:
    return of_kind(overlay, kind, "freshet-gateway")


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_has_all_of_a_gateway_and_its_parts_select_its_pods(overlay: Path) -> None:
    (service_account,) = {
        one["metadata"]["name"]
        for one in rendered(overlay)
        if one["kind"] == "ServiceAccount" and "gateway" in one["metadata"]["name"]
    }
    deployment = part(overlay, "Deployment")
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == service_account
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "gateway"
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert part(overlay, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert part(overlay, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    assert part(overlay, "Service")["spec"]["selector"] == labels
    (port,) = part(overlay, "Service")["spec"]["ports"]
    assert port["targetPort"] == "http"
    assert deployment["spec"]["replicas"] > part(overlay, "PodDisruptionBudget")["spec"].get(
        "maxUnavailable"
    )


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_a_gateway_is_probed_and_let_in_by_its_clients_and_prometheus(overlay: Path) -> None:
    (container,) = kustomize.containers(part(overlay, "Deployment"))
    paths = {
        probe: container[f"{probe}Probe"]["httpGet"]["path"]
        for probe in ("startup", "readiness", "liveness")
    }
    # It serves the lists that it has while brokers are away, and /readyz is 503 then.
    assert paths == {"startup": "/readyz", "readiness": "/healthz", "liveness": "/healthz"}
    spec = part(overlay, "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    (way_in,) = spec["ingress"]
    assert [one["podSelector"]["matchLabels"] for one in way_in["from"]] == [
        {"freshet.gateway/client": "true"},
        {"app.kubernetes.io/name": "prometheus"},
    ]
    assert way_in["ports"] == [{"protocol": "TCP", "port": "http"}]


def test_a_gateway_needs_no_gpu() -> None:
    by_name = {overlay.name: part(overlay, "Deployment") for overlay in OVERLAYS}
    assert by_name["gpu"] == by_name["cpu"]
    assert by_name["cpu"]["spec"]["template"]["spec"]["containers"][0]["image"] == "shop/freshet:1"


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_the_gateways_pod_is_confined_and_its_settings_hold(overlay: Path, tmp_path: Path) -> None:
    deployment = part(overlay, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = kustomize.containers(deployment)
    worker_pod = of_kind(overlay, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"] == worker_pod["securityContext"]
    (worker,) = worker_pod["containers"]
    assert container["securityContext"] == worker["securityContext"]
    environ = {one["name"]: one["value"] for one in container["env"]}
    told = (KUBERNETES / "components" / "gateway" / "kustomization.yaml").read_text("utf-8")
    guide = GUIDE.read_text(encoding="utf-8")
    for name, value in environ.items():
        if name.endswith("_FILE"):
            file = value.removeprefix("/run/secrets/freshet/")
            assert f"--from-file={file}" in told
            (command,) = re.findall(r"generic freshet-gateway (?:\\\n|.)*", guide)
            assert f"--from-file={file}" in command
            (tmp_path / file).write_text("0123456789abcdef" * 4)
            (tmp_path / file).chmod(0o400)
            environ[name] = str(tmp_path / file)
    environ["FRESHET_CONFIG"] = str(KUBERNETES / "base" / "freshet.toml")
    settings = load_settings(environ=environ)
    check_open(settings.gateway)
    (port,) = container["ports"]
    assert (port["containerPort"], settings.security.username) == (settings.gateway.port, "gateway")
    sleep_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > sleep_s + END_WITHIN_S
    rule = part(overlay, "NetworkPolicy")["spec"]["egress"][-1]
    assert {one["port"] for one in rule["ports"]} == {int(settings.bootstrap.rsplit(":", 1)[1])}


def test_the_gateways_unit_is_systemds(tmp_path: Path) -> None:
    text = (SYSTEMD / "freshet-gateway.service").read_text(encoding="utf-8")
    unit = tmp_path / "freshet-gateway.service"
    unit.write_text(text.replace("/opt/freshet/bin/freshet", "/bin/true"))
    assert verify(unit) == ""
    told = assignments(unit)
    assert float(told["TimeoutStopSec"][0]) > END_WITHIN_S
    given = dict(word.split("=", 1) for line in told["Environment"] for word in line.split())
    loaded = {line.split(":")[0] for line in told["LoadCredential"]}
    assert {v.removeprefix("%d/") for k, v in given.items() if k.endswith("_FILE")} == loaded
    assert given["NUMBA_CACHE_DIR"] == f"/var/cache/{told['CacheDirectory'][0]}"
