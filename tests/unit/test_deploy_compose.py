"""`deploy/compose/`: its files against their schema and Freshet's settings."""

from __future__ import annotations

import functools
import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from deploy import local
from stream.config import load_settings
from stream.gateway.access import check_open
from tests.support.deployed import COMPOSE, DEPLOY
from tests.support.kafka import ROOT
from tests.support.kustomize import Manifest


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
