"""What Freshet is made of, and what is known against it: `make sbom`, `make audit`.

Both tools run in `build/tools`, an environment of their own that `requirements-tools.lock` fills;
the bill of materials is of `build/runtime`, which holds what the worker needs and nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "build" / "tools" / "bin"
RUNTIME = ROOT / "build" / "runtime" / "bin" / "python"
SBOM = ROOT / "build" / "sbom.json"
LOCKS = (
    "requirements-export.lock",
    "requirements-gpu.lock",
    "requirements-tools.lock",
    "requirements-uv.lock",
)


def pins(lock: str) -> list[tuple[str, str]]:
    """Name and version of every package in a lock that this platform takes."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line.rstrip(" \\")) for line in lines if line[0] not in "# "]
    return [
        (requirement.name, next(iter(requirement.specifier)).version)
        for requirement in wanted
        if requirement.marker is None or requirement.marker.evaluate()
    ]


def audit(lock: str) -> int:
    """Ask the vulnerability service about every package of a lock; 0 only when all are clean."""
    command = [TOOLS / "pip-audit", "--disable-pip", "--require-hashes", "-r", str(ROOT / lock)]
    command += ["--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(lock, end=": ")
    return audited(done.stdout)


def audited(said: str) -> int:
    """Print what pip-audit (its JSON) found. A package that it skipped is not a clean one."""
    try:
        found = json.loads(said)["dependencies"]
    except (ValueError, KeyError):
        found = []
    unknown = [package["name"] for package in found if "vulns" not in package]
    hurt = [package for package in found if package.get("vulns")]
    if len(unknown) == len(found):
        print(
            "the vulnerability service does not answer, or knows none of the packages: not audited."
        )
        print("It is the one that pip-audit asks; try where it can be reached.")
        return 1
    for package in hurt:
        for hole in package["vulns"]:
            mended = ", ".join(hole["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {hole['id']}, mended in {mended}")
    if unknown:
        print(
            f"nothing is known about {len(unknown)} of {len(found)} packages: {', '.join(unknown)}"
        )
    elif not hurt:
        print(f"{len(found)} packages, no known vulnerability")
    return 1 if hurt or unknown else 0


def sbom() -> int:
    """Write build/sbom.json (CycloneDX 1.6, valid by its schema): the runtime and its licences."""
    command = [TOOLS / "cyclonedx-py", "environment", str(RUNTIME), "--validate"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application"]
    command += ["--sv", "1.6", "--output-reproducible", "--of", "JSON", "-o", str(SBOM)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"error: cyclonedx-py: {done.stderr.strip()}")
        return 1
    bill = json.loads(SBOM.read_text(encoding="utf-8"))
    if missing := missing_from(bill):
        print(
            f"error: {SBOM} lacks what the lock has, or has another version: {', '.join(missing)}"
        )
        return 1
    print(f"{SBOM.relative_to(ROOT)}: {len(bill['components'])} components, CycloneDX 1.6")
    return 0


def missing_from(bill: dict[str, Any]) -> list[str]:
    """Packages of requirements.lock that the bill has not, or in another version."""
    have = {
        (part["name"].lower().replace("_", "-"), part["version"]) for part in bill["components"]
    }
    return [name for name, version in pins("requirements.lock") if (name, version) not in have]


if __name__ == "__main__":
    if sys.argv[1:] == ["sbom"]:
        raise SystemExit(sbom())
    raise SystemExit(max(map(audit, LOCKS)))
