"""What the broker takes from Maven and the tests from npm, as CycloneDX components.

In: `deploy/kafka`, where jars.txt has the coordinates of what jars.sha256 has the sums of, and the
lock of `tests/support/packages`. Out: a component each, with version and hash. No worker needs any
of them: all are "excluded" by their scope.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.support.kafka import CONFIG, ROOT

JARS = CONFIG / "jars.txt"
NPM_LOCK = ROOT / "tests" / "support" / "packages" / "package-lock.json"
_LISTED = re.compile(r"^\s+([\w.-]+):([\w.-]+):jar:([\w.-]+):(?:compile|runtime)\b", re.MULTILINE)


class Jar(NamedTuple):
    """A jar by its coordinates."""

    group: str
    artifact: str
    version: str

    @property
    def file(self) -> str:
        """Its name in jars.sha256."""
        return f"{self.artifact}-{self.version}.jar"


def listed_jars() -> list[Jar]:
    """The broker's jars, as jars.txt has them."""
    return [Jar(*line.split(":")) for line in JARS.read_text(encoding="utf-8").splitlines()]


def list_jars() -> int:
    """Write jars.txt anew, by what Maven makes of pom.xml."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        command = ["mvn", "-q", "-B", "-C", "-f", str(CONFIG / "pom.xml"), "dependency:list"]
        command += ["-DincludeScope=runtime", f"-DoutputFile={told}"]
        subprocess.run(command, check=True)
        jars = sorted(Jar(*found) for found in _LISTED.findall(told.read_text(encoding="utf-8")))
    JARS.write_text("".join(":".join(jar) + "\n" for jar in jars), encoding="utf-8")
    print(f"{JARS.relative_to(ROOT)}: {len(jars)} jars")
    return 0


def sums() -> dict[str, str]:
    """File name -> SHA-256 of each of the broker's jars."""
    lines = (CONFIG / "jars.sha256").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in map(str.split, lines)}


def jar_components() -> list[dict[str, Any]]:
    """The broker's jars as CycloneDX components."""
    digests = sums()
    return [
        _component(
            f"pkg:maven/{jar.group}/{jar.artifact}@{jar.version}",
            jar.group,
            jar.artifact,
            jar.version,
            ("SHA-256", digests[jar.file]),
        )
        for jar in listed_jars()
    ]


def _npm_locked() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name, scope and all, and what the lock says of each npm package."""
    lock = json.loads(NPM_LOCK.read_text(encoding="utf-8"))
    for place, package in lock["packages"].items():
        if place:  # else it is the folder itself
            yield place.rpartition("node_modules/")[2], package


def npm_packages() -> list[tuple[str, str]]:
    """Name and version of each of the tests' npm packages."""
    return [(name, package["version"]) for name, package in _npm_locked()]


def npm_components() -> list[dict[str, Any]]:
    """The tests' npm packages as CycloneDX components."""
    found = []
    for whole_name, package in _npm_locked():
        group, _, name = whole_name.rpartition("/")
        algorithm, _, digest = package["integrity"].partition("-")
        path = "/".join(quote(part, safe="") for part in (group, name) if part)
        part = _component(
            f"pkg:npm/{path}@{package['version']}",
            group,
            name,
            package["version"],
            (algorithm.upper().replace("SHA", "SHA-"), base64.b64decode(digest).hex()),
        )
        found.append({**part, "licenses": [{"expression": package["license"]}]})
    return found


def _component(
    purl: str, group: str, name: str, version: str, digest: tuple[str, str]
) -> dict[str, Any]:
    algorithm, content = digest
    return {
        "type": "library",
        "bom-ref": purl,
        **({"group": group} if group else {}),
        "name": name,
        "version": version,
        "scope": "excluded",
        "purl": purl,
        "hashes": [{"alg": algorithm, "content": content}],
    }
