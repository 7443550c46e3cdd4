"""`deploy/`: images, Compose file, manifests, unit, topics, rights and the guide.

They are held against the schemas of those who read them, and against Freshet's own settings.
"""

from __future__ import annotations

import copy
import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy import local
from stream.cli import END_WITHIN_S
from stream.config import Settings, load_settings
from stream.errors import SettingsError
from stream.gateway.access import check_open
from stream.kafka.specs import source_names, wanted_topics
from stream.kafka.transport import STOP_WITHIN_S
from stream.metrics import describe_metrics
from stream.settings import CONFIG_VARIABLE, FIELDS, variable
from tests.support import kustomize
from tests.support.docs import README
from tests.support.kafka import ROOT
from tests.support.secured import PAGE, page_acls

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose"
KUBERNETES = DEPLOY / "kubernetes"
SYSTEMD = DEPLOY / "systemd"
IMAGE = DEPLOY / "image"
GUIDE = DEPLOY / "README.md"
OVERLAYS = sorted(path.parent for path in KUBERNETES.glob("overlays/*/kustomization.yaml"))
UNIT = SYSTEMD / "freshet-worker@.service"
KUBERNETES_VERSION = "1.34"

Manifest = dict[str, Any]


def test_there_is_something_to_look_at() -> None:
    assert [path.name for path in OVERLAYS] == ["cpu", "gpu"]
    assert {path.name for path in KUBERNETES.glob("components/*")} == {
        *("secured", "gpu", "autoscaling", "gateway")
    }


# -- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    sorted(path for path in DEPLOY.rglob("*") if path.is_file()),
    ids=lambda path: str(path.relative_to(DEPLOY)),
)
def test_every_variable_that_is_named_exists(file: Path) -> None:
    known = {CONFIG_VARIABLE, *map(variable, FIELDS)}
    named = re.findall(r"\bFRESHET_[A-Z0-9_]+\b", file.read_text(encoding="utf-8"))
    assert set(named) - known == set()


def test_every_setting_that_is_named_exists() -> None:
    sections = {path.split(".")[0] for path in FIELDS if "." in path}
    for file in (path for path in DEPLOY.rglob("*") if path.is_file()):
        if "kafka" in file.parts:
            continue  # the broker's own settings look alike
        named = re.findall(
            rf"(?<![\w./-])((?:{'|'.join(sections)})\.[a-z]\w*)\b", file.read_text("utf-8")
        )
        named = [name for name in named if not re.search(r"\.(sh|py|md|pem|toml|ya?ml)$", name)]
        assert set(named) - set(FIELDS) == set(), file


@pytest.mark.parametrize(
    "file", sorted(DEPLOY.rglob("freshet.toml")), ids=lambda path: path.parent.name
)
def test_a_settings_file_is_one(file: Path) -> None:
    settings = load_settings(file, environ={})
    assert settings.bundle is None or settings.bundle.startswith("/var/lib/")


def test_a_settings_file_with_a_slip_is_none(tmp_path: Path) -> None:
    text = (COMPOSE / "freshet.toml").read_text(encoding="utf-8")
    (tmp_path / "freshet.toml").write_text(text.replace("partitions", "partition"))
    with pytest.raises(SettingsError, match=r"topics\.partition"):
        load_settings(tmp_path / "freshet.toml", environ={})


def test_every_metric_that_is_named_exists() -> None:
    known = {metric.name for metric in describe_metrics()}
    for file in (path for path in DEPLOY.rglob("*") if path.is_file()):
        named = re.findall(r"`(freshet_\w+)`", file.read_text(encoding="utf-8"))
        assert set(named) - known == set(), file


# -- images ----------------------------------------------------------------------------------

DOCKERFILES = sorted(path for path in IMAGE.glob("Dockerfile*") if path.suffix != ".dockerignore")
INSTRUCTIONS = {
    *("ARG", "FROM", "WORKDIR", "RUN", "COPY", "LABEL", "ENV", "USER", "EXPOSE"),
    *("HEALTHCHECK", "ENTRYPOINT", "CMD"),
}


def instructions(file: Path) -> list[tuple[str, str]]:
    """Word and rest of each instruction, lines that go on joined, comments taken out."""
    text = re.sub(r"^ *#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    joined = re.sub(r"\\\n", " ", text)
    return [tuple(line.split(" ", 1)) for line in joined.splitlines() if line]  # type: ignore[misc]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_is_made_of_instructions_and_shell(file: Path) -> None:
    for word, rest in instructions(file):
        assert word in INSTRUCTIONS, word
        if word == "RUN":
            checked = subprocess.run(["sh", "-n", "-c", rest], capture_output=True, check=False)
            assert checked.returncode == 0, checked.stderr.decode()
        if word in ("ENTRYPOINT", "CMD"):
            assert all(isinstance(part, str) for part in json.loads(rest))
        if word == "FROM":
            assert ":latest" not in rest


def test_the_image_is_made_of_what_is_locked_and_what_is_there() -> None:
    steps = instructions(IMAGE / "Dockerfile")
    installs = [rest for word, rest in steps if word == "RUN" and " install " in rest]
    assert len(installs) == 2
    assert {"--require-hashes", "--only-binary", "--no-deps"} <= set(installs[0].split())
    assert {"--no-index", "--no-build-isolation", "--no-deps"} <= set(installs[1].split())
    assert set(re.findall(r"requirements[\w-]*\.lock", installs[0])) == {
        *("requirements.lock", "requirements-gpu.lock")
    }
    kept = re.findall(r"^!(.+)$", (IMAGE / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    copied = [
        name
        for word, rest in steps
        if word == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    ]
    assert sorted(copied) == sorted(kept)
    assert all((ROOT / name).exists() for name in kept)


def test_the_image_runs_as_nobody_in_particular() -> None:
    steps = instructions(IMAGE / "Dockerfile")
    last = [word for word, _ in steps].index("USER")
    assert dict(steps)["USER"] == "10001:10001"
    assert dict(steps)["ENTRYPOINT"] == '["freshet"]'
    # Loops are compiled as the user that runs them: another's would not be found.
    assert any("import stream.core.engine" in rest for word, rest in steps[last:] if word == "RUN")
    assert not any(word == "COPY" for word, _ in steps[last:])


def test_onnx_runtime_tells_nobody_anything() -> None:
    image = " ".join(rest for word, rest in instructions(IMAGE / "Dockerfile") if word == "ENV")
    unit = " ".join(assignments(UNIT)["Environment"])
    kafka = local.ComposedKafka(local.services()["kafka"], Path("kafka"), 9092)
    here = local.environment(local.services()["worker"], kafka, None)
    assert "ORT_DISABLE_TELEMETRY=1" in image.split()
    assert "ORT_DISABLE_TELEMETRY=1" in unit.split()
    assert here["ORT_DISABLE_TELEMETRY"] == "1"


def test_the_folders_of_compiled_loops_become_the_workers(tmp_path: Path) -> None:
    (step,) = [rest for word, rest in instructions(IMAGE / "Dockerfile") if "chown" in rest]
    for folder in ("stream/__pycache__", "stream/core/__pycache__", "other/__pycache__"):
        (tmp_path / folder).mkdir(parents=True)
    here = step.replace("/opt/freshet/lib/python3.*/site-packages", str(tmp_path))
    command = here.replace("chown -R 10001:10001", "ls -d")
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=10, check=True
    )
    assert sorted(done.stdout.split()) == [
        *(str(tmp_path / "stream" / "__pycache__"), str(tmp_path / "stream/core/__pycache__"))
    ]


def test_the_image_needs_no_library_that_is_taken_out(tmp_path: Path) -> None:
    """The CPU's image lacks ONNX Runtime's libraries for CUDA, and serves the demo's bundle."""
    (removed,) = [rest for word, rest in instructions(IMAGE / "Dockerfile") if "rm -f" in rest]
    names = re.findall(r"capi/(\S+\.so)", removed)
    assert names
    program = """
import pathlib, shutil, sys
import importlib.util
found = pathlib.Path(importlib.util.find_spec("onnxruntime").origin).parent
def skip(folder, names):
    return [n for n in names if n in sys.argv[2:] or n in ("transformers", "tools", "quantization")]
shutil.copytree(found, sys.argv[1] + "/onnxruntime", ignore=skip, copy_function=
    lambda a, b: pathlib.Path(b).symlink_to(a))
sys.path.insert(0, sys.argv[1])
import onnxruntime
assert onnxruntime.__file__.startswith(sys.argv[1]), onnxruntime.__file__
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.demo import sample
print(Model(Bundle.load(sample.BUNDLE), "cpu").provider)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["cpu"], done.stderr


# -- Compose ---------------------------------------------------------------------------------


@functools.cache
def compose_schema() -> Manifest:
    place = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema: Manifest = json.loads(place.read_text(encoding="utf-8"))
    return schema


def compose(name: str = "compose") -> Manifest:
    read: Manifest = yaml.safe_load((COMPOSE / f"{name}.yaml").read_text(encoding="utf-8"))
    return read


def faults_of(composed: Manifest) -> list[str]:
    schema = compose_schema()
    validator = jsonschema.validators.validator_for(schema)(schema)
    return [error.message for error in validator.iter_errors(composed)]


@pytest.mark.parametrize("name", ["compose", "gpu"])
def test_the_compose_file_is_one(name: str) -> None:
    assert faults_of(compose(name)) == []


def test_a_compose_file_with_a_slip_is_none() -> None:
    slipped = compose()
    slipped["services"]["worker"]["stop_grace"] = "90s"
    (fault,) = faults_of(slipped)
    assert "stop_grace" in fault


def test_what_the_compose_file_mounts_and_builds_is_there() -> None:
    composed = compose()
    for name, service in composed["services"].items():
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{BUNDLE:-(.+?)\}", r"\1", volume).split(":")[0]
            there = (COMPOSE / source).exists() if "/" in source else source in composed["volumes"]
            assert there, f"{name}: {volume}"
        if "build" in service:
            context = (COMPOSE / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).is_file()
        # What is published is this machine's alone: none of it has a login.
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    gpu = compose("gpu")["services"]
    assert set(gpu) <= set(composed["services"])
    told = gpu["worker"]
    assert told["build"]["args"]["PROVIDER"] == told["environment"]["FRESHET_PROVIDER"] == "cuda"


def test_the_compose_file_runs_the_kafka_that_is_tested() -> None:
    pom = (DEPLOY / "kafka" / "pom.xml").read_text(encoding="utf-8")
    version = re.search(r"<kafka.version>(.+)</kafka.version>", pom)
    assert version is not None
    assert compose()["services"]["kafka"]["image"] == f"apache/kafka:{version[1]}"


def test_composed_services_find_settings_that_hold() -> None:
    for name in ("topics", "worker", "gateway"):
        environ = dict(compose()["services"][name]["environment"])
        environ["FRESHET_CONFIG"] = str(COMPOSE / "freshet.toml")
        settings = load_settings(environ=environ)
        assert settings.metrics_port == 9464
    check_open(settings.gateway)  # in its container, on all addresses
    (port,) = compose()["services"]["gateway"]["ports"]
    assert port == f"127.0.0.1:{settings.gateway.port}:{settings.gateway.port}"
    scraped = yaml.safe_load((COMPOSE / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job["dns_sd_configs"] for job in scraped["scrape_configs"]}
    assert jobs == {
        "freshet": [{"names": ["worker"], "type": "A", "port": settings.metrics_port}],
        "freshet-gateway": [{"names": ["gateway"], "type": "A", "port": settings.gateway.port}],
    }
    assert compose()["services"]["worker"].get("container_name") is None  # it is scaled


def test_local_kafka_has_what_the_compose_file_says(tmp_path: Path) -> None:
    kafka = local.ComposedKafka(local.services()["kafka"], tmp_path / "kafka", 19092)
    kafka.controller_port = 19093
    told = dict(line.split("=", 1) for line in kafka._configuration().splitlines())
    inside = f"127.0.0.1:{kafka.inside_port}"
    assert told["listeners"] == (
        f"HOST://127.0.0.1:19092,INSIDE://{inside},CONTROLLER://127.0.0.1:19093"
    )
    assert told["advertised.listeners"] == f"HOST://127.0.0.1:19092,INSIDE://{inside}"
    assert told["controller.quorum.voters"] == "1@127.0.0.1:19093"
    assert told["auto.create.topics.enable"] == "false"
    assert str(kafka.inside_port) not in kafka._shape()
    environ = local.environment(local.services()["worker"], kafka, None)
    found = {name: value for name, value in environ.items() if name.startswith("FRESHET_")}
    assert found["FRESHET_BOOTSTRAP"] == inside
    assert found["FRESHET_METRICS_HOST"] == "127.0.0.1"
    settings = load_settings(environ=found)
    assert settings.provider == "cpu"
    assert settings.bundle is not None
    assert (Path(settings.bundle) / "manifest.json").is_file()


def test_an_image_names_kafkas_properties_as_it_does() -> None:
    given = {"environment": {"KAFKA_NODE_ID": 1, "KAFKA_LOG_DIRS": "/data"}}
    assert local.properties(given) == {"node.id": "1", "log.dirs": "/data"}
    assert (local.seconds("90s"), local.seconds("2m")) == (90, 120)


# -- Kubernetes ------------------------------------------------------------------------------


@functools.cache
def _rendered(overlay: Path) -> list[Manifest]:
    return kustomize.render(overlay)


def rendered(overlay: Path) -> list[Manifest]:
    return copy.deepcopy(_rendered(overlay))


def of_kind(overlay: Path, kind: str) -> Manifest:
    (found,) = [one for one in rendered(overlay) if one["kind"] == kind]
    return found


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


def strange(found: Any, known: Any, where: str = "spec") -> Iterator[str]:
    """Keys of `found` that are not among those of `known`."""
    if isinstance(found, dict):
        for name, part in found.items():
            if name not in known:
                yield f"{where}.{name}"
            else:
                yield from strange(part, known[name], f"{where}.{name}")
    elif isinstance(found, list):
        for part in found:
            yield from strange(part, known[0] if isinstance(known, list) else {}, f"{where}[]")


@pytest.fixture(scope="module", autouse=True)
def _schemas_are_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        module = kubernetes_validate.utils
        patch.setattr(module, "schema_contents", functools.cache(module.schema_contents))
        yield


def validate(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


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


def settings_of(overlay: Path) -> tuple[Settings, dict[str, str]]:
    """What a worker of this overlay reads, and its environment, the secrets' files made up."""
    (worker,) = kustomize.containers(of_kind(overlay, "Deployment"))
    environ = {one["name"]: one["value"] for one in worker["env"]}
    return load_settings(KUBERNETES / "base" / "freshet.toml", environ={}), environ


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
    secret = of_kind(overlay, "TriggerAuthentication")
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


# -- the gateway -----------------------------------------------------------------------------


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


# -- systemd ---------------------------------------------------------------------------------


def verify(unit: Path) -> str:
    """What systemd has to say against a unit; nothing is good."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)],
        env={"SYSTEMD_UNIT_PATH": f"{unit.parent}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def install(folder: Path, *more: str, replace: tuple[str, str] = ("", "")) -> Path:
    """The unit with drop-ins in a folder, its program one that is there; the unit's instance."""
    text = UNIT.read_text(encoding="utf-8").replace("/opt/freshet/bin/freshet", "/bin/true")
    instance = folder / "freshet-worker@9464.service"
    instance.write_text(text.replace(*replace) if replace[0] else text)
    drops = folder / "freshet-worker@9464.service.d"
    drops.mkdir()
    for name in more:
        shutil.copy(SYSTEMD / name, drops)
    return instance


def test_the_unit_and_its_drop_ins_are_systemds(tmp_path: Path) -> None:
    names = sorted(path.name for path in SYSTEMD.glob("*.conf"))
    assert names == ["gpu.conf", "secured.conf"]
    assert verify(install(tmp_path, *names)) == ""


def test_a_unit_with_a_slip_is_none(tmp_path: Path) -> None:
    slipped = install(tmp_path, replace=("TimeoutStopSec", "TimeoutStopSecs"))
    assert "TimeoutStopSecs" in verify(slipped)


def assignments(file: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_gives_a_worker_its_time_and_starts_it_again() -> None:
    told = assignments(UNIT)
    settings = load_settings(SYSTEMD / "freshet.toml", environ={})
    assert float(told["TimeoutStopSec"][0]) > settings.broker.recovery_timeout_s + STOP_WITHIN_S
    assert told["Restart"] == ["always"]
    # 2 is a wrong setting; 70, by which a worker keeps its states right, must start again.
    assert told["RestartPreventExitStatus"] == ["2"]
    assert told["User"] == ["freshet"]
    given = dict(word.split("=", 1) for line in told["Environment"] for word in line.split())
    assert given["FRESHET_CONFIG"] == "/etc/freshet/freshet.toml"
    assert given["NUMBA_CACHE_DIR"] == f"/var/cache/{told['CacheDirectory'][0]}"
    assert told["CacheDirectoryMode"] == ["0700"]


def test_the_units_secrets_are_those_that_it_loads() -> None:
    told = assignments(SYSTEMD / "secured.conf")
    loaded = {line.split(":")[0] for line in told["LoadCredential"]}
    given = dict(word.split("=", 1) for line in told["Environment"] for word in line.split())
    used = {value.removeprefix("%d/") for name, value in given.items() if name.endswith("_FILE")}
    assert used == loaded


# -- topics and rights -------------------------------------------------------------------------


def calls(file: Path, name: str) -> list[list[str]]:
    """The arguments of each call of a shell function."""
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith(f"{name} ")]


@pytest.mark.parametrize("name", ["topics.sh", "acls.sh"])
def test_a_script_is_shell(name: str) -> None:
    subprocess.run(["sh", "-n", str(DEPLOY / "kafka" / name)], check=True)


def test_the_example_topics_are_those_that_a_worker_needs() -> None:
    file = DEPLOY / "kafka" / "topics.sh"
    settings = load_settings(KUBERNETES / "base" / "freshet.toml", environ={})
    made = {}
    for name, *options in calls(file, "topic"):
        assert options[::2] == ["--config"] * (len(options) // 2)
        made[name] = dict(option.split("=", 1) for option in options[1::2])
    assert made == {spec.name: spec.config for spec in wanted_topics(settings)}
    assert set(source_names(settings)) < set(made)
    topics = settings.topics
    shape = f"--partitions {topics.partitions} --replication-factor {topics.replication} "
    assert shape in file.read_text(encoding="utf-8")


def test_the_example_rights_are_those_of_the_page() -> None:
    page = re.findall(r"^ *acl (User:.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert calls(DEPLOY / "kafka" / "acls.sh", "acl") == [shlex.split(line) for line in page]


# -- the guide ---------------------------------------------------------------------------------


def test_every_file_is_named_in_the_guide() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for path in DEPLOY.iterdir():
        if path != GUIDE and not path.name.startswith((".", "__")):
            assert f"`{path.name}{'/' if path.is_dir() else ''}`" in text, path.name


def test_the_guides_figures_stand_where_it_says() -> None:
    table = GUIDE.read_text(encoding="utf-8").split("<!-- figures -->")[1].split("<!-- end -->")[0]
    rows = [
        [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
        for row in table.strip().splitlines()
    ]
    assert len(rows) > 8
    for _, value, quoted, page in rows[2:]:
        words = re.findall(r"`([^`]+)`", quoted)
        assert words, quoted
        (place,) = re.findall(r"\((.+?)(?:#.*)?\)", page)
        text = re.sub(r"\s+", " ", (DEPLOY / place).read_text(encoding="utf-8"))
        for word in words:
            assert word in text, f"{value}: {word} is not in {place}"
