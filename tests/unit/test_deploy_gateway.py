"""`deploy/`: the gateway's manifests and its unit."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

from stream.cli import END_WITHIN_S
from stream.config import load_settings
from stream.gateway.access import check_open
from tests.support import kustomize
from tests.support.deployed import (
    KUBERNETES,
    OVERLAYS,
    SYSTEMD,
    assignments,
    of_kind,
    validate,
    verify,
)
from tests.support.kustomize import Manifest


@functools.cache
def gateway_parts() -> dict[str, Manifest]:
    """What the component adds, by kind, once it stands beside the base."""
    made = kustomize.render_with(KUBERNETES / "base", KUBERNETES / "components" / "gateway")
    found = {one["kind"]: one for one in made if one["metadata"]["name"] == "freshet-gateway"}
    assert set(found) == {
        *("ServiceAccount", "Deployment", "PodDisruptionBudget", "Service", "NetworkPolicy")
    }
    return found


def test_the_gateways_manifests_are_what_the_api_takes() -> None:
    for manifest in gateway_parts().values():
        validate(copy.deepcopy(manifest))


def test_the_gateways_parts_select_its_pods() -> None:
    parts = gateway_parts()
    labels = parts["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "gateway"
    assert parts["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert parts["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert parts["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert parts["Service"]["spec"]["selector"] == labels
    (port,) = parts["Service"]["spec"]["ports"]
    assert port["targetPort"] == "http"


def test_the_gateways_pod_is_confined_and_its_settings_hold(tmp_path: Path) -> None:
    deployment = gateway_parts()["Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = kustomize.containers(deployment)
    worker_pod = of_kind(OVERLAYS[0], "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"] == worker_pod["securityContext"]
    (worker,) = worker_pod["containers"]
    assert container["securityContext"] == worker["securityContext"]
    assert container["image"] == worker["image"]
    environ = {one["name"]: one["value"] for one in container["env"]}
    told = (KUBERNETES / "components" / "gateway" / "kustomization.yaml").read_text("utf-8")
    for name, value in environ.items():
        if name.endswith("_FILE"):
            file = value.removeprefix("/run/secrets/freshet/")
            assert f"--from-file={file}" in told
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
    rule = gateway_parts()["NetworkPolicy"]["spec"]["egress"][-1]
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
