"""`deploy/kubernetes/`: the workers' manifests, as kustomize renders them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from stream.config import load_settings
from stream.kafka.transport import STOP_WITHIN_S
from tests.support import kustomize
from tests.support.deployed import (
    IMAGE,
    KUBERNETES,
    OVERLAYS,
    instructions,
    of_kind,
    rendered,
    settings_of,
    strange,
    validate,
)
from tests.support.docs import README
from tests.support.kustomize import Manifest
from tests.support.secured import page_acls

# KEDA's own objects have no schema among Kubernetes'. What may stand where, of KEDA 2.17 and later:
_POLICY = {"type": {}, "value": {}, "periodSeconds": {}}
_SCALING = {"stabilizationWindowSeconds": {}, "policies": [_POLICY]}
KEDA: dict[str, Any] = {
    "ScaledObject": {
        "scaleTargetRef": {"name": {}},
        "minReplicaCount": {},
        "maxReplicaCount": {},
        "pollingInterval": {},
        "fallback": {"failureThreshold": {}, "replicas": {}, "behavior": {}},
        "advanced": {
            "horizontalPodAutoscalerConfig": {
                "behavior": {"scaleUp": _SCALING, "scaleDown": _SCALING}
            }
        },
        "triggers": [
            {
                "type": {},
                "metadata": {
                    name: {}
                    for name in (
                        *("bootstrapServers", "consumerGroup", "topic", "lagThreshold"),
                        *("offsetResetPolicy", "sasl", "tls"),
                    )
                },
                "authenticationRef": {"name": {}},
            }
        ],
    },
    "TriggerAuthentication": {"secretTargetRef": [{"parameter": {}, "name": {}, "key": {}}]},
}


def test_there_is_something_to_look_at() -> None:
    assert [path.name for path in OVERLAYS] == ["cpu", "gpu"]
    assert {path.name for path in KUBERNETES.glob("components/*")} == {
        *("secured", "gpu", "autoscaling", "gateway", "monitoring", "gateway-monitoring")
    }


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_manifests_are_what_the_api_takes(overlay: Path) -> None:
    for manifest in rendered(overlay):
        if manifest["apiVersion"] == "keda.sh/v1alpha1":
            assert list(strange(manifest["spec"], KEDA[manifest["kind"]])) == []
            continue
        validate(manifest)


def test_a_manifest_with_a_slip_is_refused() -> None:
    slipped = of_kind(OVERLAYS[0], "Deployment")
    slipped["spec"]["template"]["spec"]["terminationGracePeriod"] = 90
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        validate(slipped)
    scaler = of_kind(OVERLAYS[0], "ScaledObject")
    scaler["spec"]["triggers"][0]["metadata"]["lagThreshhold"] = "1"
    assert list(strange(scaler["spec"], KEDA["ScaledObject"])) == [
        "spec.triggers[].metadata.lagThreshhold"
    ]


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_kubectl_renders_the_same(overlay: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed; what these tests render themselves is looked at")
    command = [kubectl, "kustomize", str(overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
        return {(one["kind"], one["metadata"]["name"]): one for one in manifests}

    theirs = list(yaml.safe_load_all(kustomize.without_hashes(done.stdout)))
    assert by_name(theirs) == by_name(rendered(overlay))


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_a_pods_settings_hold_and_its_secrets_are_mounted(overlay: Path, tmp_path: Path) -> None:
    deployment = of_kind(overlay, "Deployment")
    (worker,) = kustomize.containers(deployment)
    pod = deployment["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    environ = {one["name"]: one["value"] for one in worker["env"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in worker["volumeMounts"]}
    assert set(volumes) == {mount["name"] for mount in worker["volumeMounts"]}
    for name, value in environ.items():
        if name.endswith("_FILE"):
            folder, file = value.rsplit("/", 1)
            secret = mounts[folder]["secret"]
            assert secret["defaultMode"] == 0o400
            # The comment that says how the secret is made names this file.
            told = (KUBERNETES / "components/secured/kustomization.yaml").read_text()
            assert f"generic {secret['secretName']} " in told
            assert f"--from-file={file}" in told
            (tmp_path / file).write_text("0123456789abcdef" * 4)
            (tmp_path / file).chmod(0o400)
            environ[name] = str(tmp_path / file)
    environ["FRESHET_CONFIG"] = str(KUBERNETES / "base" / "freshet.toml")
    settings = load_settings(environ=environ)
    assert settings.security.protocol == "sasl_ssl"
    assert settings.privacy.secret is not None
    assert settings.security.username == "worker"
    (port,) = worker["ports"]
    assert port["containerPort"] == settings.metrics_port
    assert settings.metrics_host == "0.0.0.0"


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_a_pod_is_confined_and_given_its_time(overlay: Path) -> None:
    deployment = of_kind(overlay, "Deployment")
    (worker,) = kustomize.containers(deployment)
    pod = deployment["spec"]["template"]["spec"]
    settings, _ = settings_of(overlay)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert (
        f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
        == (dict(instructions(IMAGE / "Dockerfile"))["USER"])
    )
    assert worker["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert worker["securityContext"]["readOnlyRootFilesystem"] is True
    limit_s = settings.broker.recovery_timeout_s
    assert pod["terminationGracePeriodSeconds"] > limit_s + STOP_WITHIN_S
    alive = worker["livenessProbe"]
    # The watchdog's reason comes first: else nobody would know it.
    assert alive["periodSeconds"] * alive["failureThreshold"] > 2 * limit_s
    assert worker["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert alive["httpGet"]["path"] == worker["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert of_kind(overlay, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_a_pods_memory_holds_all_users_of_the_worker_that_is_away(overlay: Path) -> None:
    """By the guide's formula, with the figures that its table quotes."""
    (worker,) = kustomize.containers(of_kind(overlay, "Deployment"))
    memory = worker["resources"]["limits"]["memory"]
    assert memory == worker["resources"]["requests"]["memory"] == "2Gi"
    settings, _ = settings_of(overlay)
    others = of_kind(overlay, "ScaledObject")["spec"]["minReplicaCount"] - 1
    needed = 330e6 + 0.33e9 + 1_146 * settings.state.max_users / others + 4 * 10_000 * 64
    assert settings.state.max_users > 0
    assert needed < 2 * 2**30


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_selectors_select_the_workers(overlay: Path) -> None:
    labels = of_kind(overlay, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert of_kind(overlay, "Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert of_kind(overlay, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert of_kind(overlay, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    assert of_kind(overlay, "Service")["spec"]["selector"] == labels


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_the_network_lets_prometheus_in_and_brokers_out(overlay: Path) -> None:
    spec = of_kind(overlay, "NetworkPolicy")["spec"]
    settings, environ = settings_of(overlay)
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    (way_in,) = spec["ingress"]
    assert way_in["ports"] == [{"protocol": "TCP", "port": "http"}]
    let_out = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
    asked = {settings.bootstrap, environ["FRESHET_BOOTSTRAP"]}
    assert let_out == {53, *(int(one.rsplit(":", 1)[1]) for one in asked)}
    namespaces = {one.split(":")[0].split(".")[1] for one in asked}
    told = [rule["to"][0]["namespaceSelector"]["matchLabels"] for rule in spec["egress"]]
    assert namespaces == {"kafka"}
    assert {"kubernetes.io/metadata.name": "kafka"} in told


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_the_autoscaler_scales_what_is_there(overlay: Path) -> None:
    spec = of_kind(overlay, "ScaledObject")["spec"]
    deployment = of_kind(overlay, "Deployment")
    settings, environ = settings_of(overlay)
    assert spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"], "two would set it"
    assert spec["minReplicaCount"] >= 2
    assert spec["maxReplicaCount"] <= settings.topics.partitions
    topics = settings.topics
    assert [one["metadata"]["topic"] for one in spec["triggers"]] == [
        *(topics.clicks, topics.purchases)
    ]
    secret = of_kind(overlay, "TriggerAuthentication", "freshet-autoscaler")
    for trigger in spec["triggers"]:
        told = trigger["metadata"]
        assert told["consumerGroup"] == settings.group
        assert told["bootstrapServers"] == environ["FRESHET_BOOTSTRAP"]
        assert trigger["authenticationRef"]["name"] == secret["metadata"]["name"]
        # More than what lies between two commits, at the README's events a second of a worker.
        assert int(told["lagThreshold"]) > 2 * 23_000 * settings.broker.commit_every_s
    assert "| 23,000 |" in README.read_text(encoding="utf-8")
    rights = {
        (acl.resource_pattern.resource_name, acl.operation.name)
        for acl in page_acls()
        if acl.principal == "User:autoscaler"
    }
    assert rights == {(name, "DESCRIBE") for name in (topics.clicks, topics.purchases, "freshet")}


def test_the_gpu_overlay_asks_for_one() -> None:
    by_name = {overlay.name: of_kind(overlay, "Deployment") for overlay in OVERLAYS}
    (cpu,), (gpu,) = (list(kustomize.containers(by_name[name])) for name in ("cpu", "gpu"))
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in cpu["resources"]["limits"]
    assert {"name": "FRESHET_PROVIDER", "value": "cuda"} in gpu["env"]
    assert gpu["image"] != cpu["image"]
    assert by_name["gpu"]["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 0,
        "maxUnavailable": 1,
    }
