"""What is deployed, as its tests look at it: folders of `deploy/`, manifests, units, images."""

from __future__ import annotations

import copy
import functools
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import kubernetes_validate
import pytest

from stream.config import Settings, load_settings
from tests.support import kustomize
from tests.support.kafka import ROOT
from tests.support.kustomize import Manifest

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose"
KUBERNETES = DEPLOY / "kubernetes"
SYSTEMD = DEPLOY / "systemd"
IMAGE = DEPLOY / "image"
GUIDE = DEPLOY / "README.md"
UNIT = SYSTEMD / "freshet-worker@.service"
OVERLAYS = sorted(path.parent for path in KUBERNETES.glob("overlays/*/kustomization.yaml"))
KUBERNETES_VERSION = "1.34"
_SCHEMAS = functools.cache(kubernetes_validate.utils.schema_contents)


def instructions(file: Path) -> list[tuple[str, str]]:
    """Word and rest of each instruction, lines that go on joined, comments taken out."""
    text = re.sub(r"^ *#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    joined = re.sub(r"\\\n", " ", text)
    return [tuple(line.split(" ", 1)) for line in joined.splitlines() if line]  # type: ignore[misc]


def assignments(file: Path) -> dict[str, list[str]]:
    """The values of each name that a systemd unit assigns, in their order."""
    found: dict[str, list[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@functools.cache
def _rendered(overlay: Path) -> list[Manifest]:
    return kustomize.render(overlay)


def rendered(overlay: Path) -> list[Manifest]:
    """An overlay's manifests, a copy to do with as you like."""
    return copy.deepcopy(_rendered(overlay))


def of_kind(overlay: Path, kind: str, name: str = "freshet-worker") -> Manifest:
    """The one manifest of a kind and name."""
    (found,) = [
        one for one in rendered(overlay) if (one["kind"], one["metadata"]["name"]) == (kind, name)
    ]
    return found


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


def validate(manifest: Manifest) -> None:
    """Hold a manifest against the schema that Kubernetes' API has of its kind.

    Raises
    ------
    kubernetes_validate.ValidationError
    """
    with mock.patch.object(kubernetes_validate.utils, "schema_contents", _SCHEMAS):
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


def settings_of(overlay: Path) -> tuple[Settings, dict[str, str]]:
    """What a worker of this overlay reads, and its environment, the secrets' files made up."""
    (worker,) = kustomize.containers(of_kind(overlay, "Deployment"))
    environ = {one["name"]: one["value"] for one in worker["env"]}
    return load_settings(KUBERNETES / "base" / "freshet.toml", environ={}), environ


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
