"""Where Freshet's dependencies come from: jars, licences, the audit and the bill of materials."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import supply
from tests.support.kafka import CONFIG, KafkaMissingError, fetch_jars
from tests.support.supply import audited, pins

# -- the broker's jars -------------------------------------------------------------------------


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pom.xml, its sums, and a Maven that delivers what stands in the folder `repository`."""
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "a.jar").write_bytes(b"a")
    program = tmp_path / "mvn"
    program.write_text(
        "#!/bin/sh\nfor given; do case $given in\n"
        f'-DoutputDirectory=*) cp -r {repository} "${{given#*=}}";;\nesac; done\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "pom.xml").write_text("<project/>")
    (tmp_path / "jars.sha256").write_text(f"{hashlib.sha256(b'a').hexdigest()}  a.jar\n")
    return tmp_path


def fetch(maven: Path) -> Path:
    return fetch_jars(maven / "pom.xml", maven / "build")


def test_the_jars_that_are_named_are_taken_once(maven: Path) -> None:
    assert [path.name for path in fetch(maven).iterdir()] == ["a.jar"]
    (maven / "mvn").unlink()
    assert fetch(maven).is_dir()


@pytest.mark.parametrize("change", ["other", "more", "none"])
def test_other_jars_are_refused(maven: Path, change: str) -> None:
    jar = maven / "repository" / "a.jar"
    if change == "other":
        jar.write_bytes(b"b")
    elif change == "more":
        jar.with_name("b.jar").write_bytes(b"b")
    else:
        jar.unlink()
    for _ in range(2):  # nor are they taken for fetched the next time
        with pytest.raises(KafkaMissingError, match=r"other jars than .*jars\.sha256 names"):
            fetch(maven)


def test_every_jar_is_named_with_its_sum() -> None:
    lines = (CONFIG / "jars.sha256").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{64}  [\w.-]+\.jar", line) for line in lines)
    pom = (CONFIG / "pom.xml").read_text(encoding="utf-8")
    assert not re.search(r"<version>[^<]*(SNAPSHOT|LATEST|RELEASE|[\[(,])", pom)
    version = re.search(r"<kafka.version>(.+)</kafka.version>", pom)
    assert version is not None
    assert any(line.endswith(f"  kafka_2.13-{version[1]}.jar") for line in lines)


# -- licences ----------------------------------------------------------------------------------

# What Apache-2.0 software may bring along without a duty on what is built with it.
PERMISSIVE = re.compile(
    r"Apache|\bMIT\b|BSD|\bISC\b|\bPSF|Python Software Foundation|MPL|Mozilla|Unlicense|0BSD|Zlib"
)
COPYLEFT = re.compile(r"\bA?GPL|Affero|SSPL|BUSL|Commons.Clause|Proprietary|CC-BY-N")


def licence(name: str) -> str:
    told = importlib.metadata.metadata(name)
    classified = [c for c in told.get_all("Classifier", []) if c.startswith("License ::")]
    return told.get("License-Expression") or " ".join(
        [*classified, (told.get("License") or "")[:200]]
    )


@pytest.mark.parametrize("name", [name for name, _ in pins("requirements.lock")])
def test_what_the_worker_brings_along_is_licensed_freely(name: str) -> None:
    try:
        said = licence(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not for this platform")
    assert PERMISSIVE.search(said), said
    assert not COPYLEFT.search(said), said


# -- audit and bill of materials ---------------------------------------------------------------


def answer(*dependencies: dict[str, Any]) -> str:
    return json.dumps({"dependencies": list(dependencies), "fixes": []})


GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("said", "code", "message"),
    [
        (answer(GOOD), 0, "1 packages, no known vulnerability"),
        (answer(GOOD, BAD), 1, "bad 2: PYSEC-1, mended in 3"),
        (answer(GOOD, UNKNOWN), 1, "nothing is known about 1 of 2 packages"),
        (answer(UNKNOWN), 1, "does not answer"),
        (answer(), 1, "does not answer"),
        ("", 1, "does not answer"),
    ],
)
def test_an_audit_passes_only_when_every_package_was_looked_up(
    said: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audited(said) == code
    assert message in capsys.readouterr().out


def test_a_bill_of_materials_holds_what_the_lock_holds() -> None:
    parts = [{"name": name, "version": version} for name, version in pins("requirements.lock")]
    assert supply.missing_from({"components": parts}) == []
    assert supply.missing_from({"components": parts[1:]}) == [parts[0]["name"]]
    parts[0]["version"] += ".1"
    assert supply.missing_from({"components": parts}) == [parts[0]["name"]]


def test_the_telemetry_of_onnx_runtime_is_off_unless_it_is_asked_for() -> None:
    told = "import os, stream; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for given, wanted in ((None, "1"), ("0", "0")):
        environ = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
        if given is not None:
            environ["ORT_DISABLE_TELEMETRY"] = given
        call = [sys.executable, "-c", told]
        found = subprocess.run(call, capture_output=True, text=True, env=environ, check=True)
        assert found.stdout.strip() == wanted
