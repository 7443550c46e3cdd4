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
import yaml

from tests.support import foreign, supply
from tests.support.advisories import Package, look
from tests.support.kafka import CONFIG, ROOT, KafkaMissingError, fetch_jars
from tests.support.supply import pins, read_pip_audit

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
    assert read_pip_audit("lock", said).is_clean == (code == 0)
    assert message in capsys.readouterr().out


def npm_said(hurt: dict[str, Any]) -> str:
    return json.dumps({"vulnerabilities": hurt, "metadata": {"dependencies": {"total": 3}}})


HURT = {"bad": {"range": "<2", "severity": "high", "fixAvailable": False}}


@pytest.mark.parametrize(
    ("said", "wanted", "message"),
    [
        (npm_said({}), supply.Audited("lock", 3), "3 packages, no known vulnerability"),
        (npm_said(HURT), supply.Audited("lock", 3, 1), "bad <2: high, not mended yet"),
        ('{"message": "405 Method Not Allowed"}', supply.Audited("lock", None), "does not answer"),
        ("", supply.Audited("lock", None), "not installed"),
        (
            '{"vulnerabilities": {}, "metadata": {"dependencies": {"total": 0}}}',
            supply.Audited("lock", None),
            "no package: not audited",
        ),
    ],
)
def test_what_npm_says_is_summed_up(
    said: str, wanted: supply.Audited, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert supply.read_npm_audit("lock", said) == wanted
    assert message in capsys.readouterr().out


def test_an_audit_ends_with_the_table_of_the_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make audit` prints what SECURITY.md has of the last one; only figures may differ."""
    found = supply.Audited("lock", 9, 1, 2)
    monkeypatch.setattr(supply, "ask_pip_audit", lambda lock: found._replace(lock=lock))
    monkeypatch.setattr(supply, "ask_npm_audit", lambda: supply.Audited("npm", None))
    assert supply.main(["audit"]) == 1
    said = capsys.readouterr().out
    assert "| `requirements-uv.lock` | 9 | 1 | 2 |\n| `npm` | not audited |  |  |\n" in said
    assert said.endswith("| `deploy/kafka/jars.txt` | not audited |  |  |\n")
    assert re.search(r"^`make audit` on \d{4}-\d\d-\d\d:$", said, re.MULTILINE)
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert re.search(r"^`make audit` on \d{4}-\d\d-\d\d(, by .*)?:$", page, re.MULTILINE)
    for lock in (
        *supply.LOCKS,
        "tests/support/packages/package-lock.json",
        "deploy/kafka/jars.txt",
    ):
        assert re.search(rf"^\| `{re.escape(lock)}` \|", page, re.MULTILINE), lock
    monkeypatch.setattr(supply, "ask_npm_audit", lambda: supply.Audited("npm", 3))
    assert supply.audit() == 1
    monkeypatch.setattr(supply, "ask_pip_audit", lambda lock: supply.Audited(lock, 9))
    capsys.readouterr()
    assert supply.audit() == supply.NOT_ALL, "nobody was asked about jars"
    assert "Not all was audited" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([supply.Audited("a", 9), supply.Audited("b", 1)], 0),
        ([supply.Audited("a", 9), supply.Audited("b", None)], 3),
        ([supply.Audited("a", 9, 1), supply.Audited("b", None)], 1),
        ([supply.Audited("a", 9, 0, 1)], 1),
    ],
)
def test_what_nobody_was_asked_about_is_not_clean(found: list[supply.Audited], code: int) -> None:
    assert supply.verdict(found) == code


def test_without_any_source_an_audit_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(supply, "TOOLS", supply.ROOT / "build" / "nowhere")
    assert supply.main(["audit"]) == 3
    said = capsys.readouterr().out
    assert "build/nowhere has no pip-audit (`make audit` puts it there): not audited." in said
    assert "npm is not installed" in said
    assert "jars.txt: not audited: no registry tells of jars; `make audit ADVISORIES=" in said
    assert said.count("| not audited |") == len(supply.LOCKS) + 2
    assert supply.VERDICTS[0] not in said
    assert supply.main(["audit", str(tmp_path)]) == 2
    assert f"error: {tmp_path} holds no advisories" in capsys.readouterr().err
    assert supply.main(["sbom"]) == 1
    assert "`make sbom` makes them" in capsys.readouterr().err


def advisory(ecosystem: str, name: str, **affected: Any) -> dict[str, Any]:
    package = {"ecosystem": ecosystem, "name": name}
    told = {"id": f"A-{name}", "modified": "2026-01-02T03:04:05Z"}
    return {**told, "affected": [{"package": package, **affected}]}


def within(**events: str) -> list[dict[str, Any]]:
    return [{"type": "ECOSYSTEM", "events": [{what: at} for what, at in events.items()]}]


@pytest.mark.parametrize(
    ("affected", "named"),
    [
        ({"versions": ["1.9.2"]}, True),
        ({"versions": ["1.9"], "ranges": within(introduced="0", fixed="1.9.2")}, False),
        ({"ranges": within(introduced="0", fixed="1.9.3")}, True),
        ({"ranges": within(introduced="0", fixed="1.9.3-rc1")}, True),
        ({"ranges": within(introduced="0", fixed="1.9.2-rc1")}, False),
        ({"ranges": within(introduced="1.10.0")}, False),
        ({"ranges": within(introduced="0", last_affected="1.9.2")}, True),
        ({"ranges": within(introduced="0", last_affected="1.9.1")}, False),
        ({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}, False),
    ],
)
@pytest.mark.parametrize("ecosystem", ["PyPI", "npm", "Maven"])
def test_an_advisory_names_the_versions_of_its_ranges(
    tmp_path: Path, ecosystem: str, affected: dict[str, Any], named: bool
) -> None:
    package = Package(ecosystem, "some:part" if ecosystem == "Maven" else "some-part", "1.9.2")
    others = [package._replace(name="other"), package._replace(ecosystem="Hex")]
    name = "Some_Part" if ecosystem == "PyPI" else package.name  # there they are alike
    told = advisory(ecosystem, name, **affected)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.json").write_text(json.dumps(told))
    (tmp_path / "deep" / "b.yaml").write_text(yaml.safe_dump({**told, "withdrawn": "2026-01-03"}))
    looked = look(tmp_path, [package, *others])
    assert looked.holes == ({package: [told["id"]]} if named else {})
    assert looked.advisories == {ecosystem: (2, "2026-01-02")}


@pytest.mark.parametrize(
    ("ecosystem", "version", "events", "named"),
    [
        ("Maven", "4.1.94.Final", {"introduced": "0", "fixed": "4.1.94"}, False),
        ("Maven", "4.1.93.Final", {"introduced": "0", "fixed": "4.1.94"}, True),
        ("Maven", "1.0", {"introduced": "1.0.0"}, True),
        ("Maven", "2-sp", {"introduced": "0", "last_affected": "2"}, False),
        ("PyPI", "1.0", {"introduced": "1.0.0"}, True),
        ("PyPI", "1.0.post1", {"introduced": "0", "fixed": "1.0"}, False),
        ("PyPI", "1.0", {"introduced": "2004d", "fixed": "1.1"}, True),
        ("npm", "1.0.0+build", {"introduced": "0", "fixed": "1.0.0"}, False),
        ("npm", "1.0.0+build", {"introduced": "0", "last_affected": "1.0.0"}, True),
        ("npm", "1.0.0-rc.9", {"introduced": "0", "fixed": "1.0.0-rc.10"}, True),
        ("npm", "0.0.0-alpha", {"introduced": "0", "fixed": "0.1.0"}, True),
    ],
)
def test_versions_have_the_order_of_their_ecosystem(
    tmp_path: Path, ecosystem: str, version: str, events: dict[str, str], named: bool
) -> None:
    told = advisory(ecosystem, "part", ranges=within(**events))
    (tmp_path / "a.json").write_text(json.dumps(told))
    package = Package(ecosystem, "part", version)
    assert look(tmp_path, [package]).holes == ({package: [told["id"]]} if named else {})


def test_an_audit_goes_by_a_folder_of_advisories(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, version = pins("requirements-uv.lock")[0]
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(advisory("PyPI", name, versions=[version])))
    assert supply.main(["audit", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"requirements-uv.lock: {name} {version}: A-{name}\n" in said
    assert "requirements-gpu.lock: " in said
    assert "jars.txt: not audited: the folder has no advisories of Maven" in said
    assert re.search(
        r"^`make audit` on .*, by 1 advisories of PyPI up to 2026-01-02:$", said, re.MULTILINE
    )
    assert "| `requirements-uv.lock` | 1 | 1 | 0 |" in said
    for ecosystem in ("PyPI", "npm", "Maven"):
        (tmp_path / f"{ecosystem}.yaml").write_text(yaml.safe_dump(advisory(ecosystem, "none")))
    (tmp_path / "a.yaml").unlink()
    capsys.readouterr()
    assert supply.main(["audit", str(tmp_path)]) == 0
    assert supply.VERDICTS[0] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["audti"], "invalid choice: 'audti'"),
        (["audit", "nowhere"], "nowhere is no folder: name one that holds advisories"),
    ],
)
def test_what_cannot_be_asked_for_is_told(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        supply.main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: python -m tests.support.supply")
    assert message in said


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.json", b'{"name": "part", '),
        ("a.json", b"[" * 60_000 + b'{"name": "part"}'),
        ("a.json", b'[{"name": "part"}]'),
        (
            "a.json",
            b'{"affected": [{"package": {"name": "part", "ecosystem": "npm"}, "ranges": [{}]}]}',
        ),
        ("a.yaml", b"name: part\n  : - ["),
        ("a.yaml", b"name: \xff\xfe"),
    ],
)
def test_a_broken_advisory_is_named(tmp_path: Path, file: str, content: bytes) -> None:
    """What it is about would pass for clean otherwise."""
    (tmp_path / "folder.json").mkdir()
    (tmp_path / file).write_bytes(content)
    told = f"error: {tmp_path / file} cannot be read as an advisory ("
    with pytest.raises(SystemExit, match=re.escape(told)) as ended:
        look(tmp_path, [Package("npm", "part", "1.0.0")])
    assert "\n" not in str(ended.value)


def test_a_folder_of_advisories_may_have_spaces_in_its_name() -> None:
    command = ["make", "-n", "PYTHON=python3", "audit"]
    for given, wanted in (("a b", "audit 'a b'\n"), ("", "audit \n")):
        done = subprocess.run(
            [*command, f"ADVISORIES={given}"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert wanted in done.stdout  # of a make below another, not the last line


# -- jars and npm packages ---------------------------------------------------------------------


def test_the_jars_that_are_listed_are_those_with_a_sum() -> None:
    jars = foreign.listed_jars()
    assert {jar.file for jar in jars} == foreign.sums().keys()
    assert len({jar.file for jar in jars}) == len(jars)


def test_jars_are_listed_by_what_maven_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = (
        "The following files have been resolved:\n   org.b:b_2.13:jar:1.0-2:compile -- module b\n"
    )
    told += "   a:a:jar:3:runtime\n   c:c:jar:1:test\n"
    program = tmp_path / "mvn"
    program.write_text(
        f"#!/bin/sh\nfor given; do case $given in\n"
        f"-DoutputFile=*) cat > ${{given#*=}} <<'END'\n{told}END\n;;\nesac; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(foreign, "ROOT", tmp_path)
    monkeypatch.setattr(foreign, "JARS", tmp_path / "jars.txt")
    assert foreign.list_jars() == 0
    assert foreign.listed_jars() == [
        foreign.Jar("a", "a", "3"),
        foreign.Jar("org.b", "b_2.13", "1.0-2"),
    ]
    assert "jars.txt: 2 jars" in capsys.readouterr().out


def test_a_jar_and_an_npm_package_are_components_with_version_and_hash() -> None:
    parts = [*foreign.jar_components(), *foreign.npm_components()]
    assert len({part["bom-ref"] for part in parts}) == len(parts) > 40
    sizes = {"SHA-256": 64, "SHA-512": 128}
    for part in parts:
        (digest,) = part["hashes"]
        assert re.fullmatch(rf"[0-9a-f]{{{sizes[digest['alg']]}}}", digest["content"])
        assert re.fullmatch(r"pkg:(maven|npm)/[\w.%-]+(/[\w.-]+)?@[\w.-]+", part["purl"])
        assert part["purl"].endswith(f"/{part['name']}@{part['version']}")
        assert part["scope"] == "excluded", "a worker needs none of them"
    told = {part["name"]: part for part in parts}
    assert told["specs"]["purl"].startswith("pkg:npm/%40asyncapi/specs@")
    assert (told["specs"]["group"], "group" in told["kafkajs"]) == ("@asyncapi", False)
    assert told["kafka-clients"]["purl"].startswith("pkg:maven/org.apache.kafka/kafka-clients@")
    assert told["kafkajs"]["licenses"] == [{"expression": "MIT"}]


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
