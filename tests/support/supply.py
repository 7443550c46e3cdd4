"""What Freshet is made of, and what is known against it: `make sbom`, `make audit`.

Both tools run in `build/tools`, an environment of their own that `requirements-tools.lock` fills;
the bill of materials is of `build/runtime`, which holds what the worker needs and nothing else, and
of what the broker and the tests take from Maven and npm. An audit may go by a folder of advisories
in place of the services.

    python -m tests.support.supply audit [FOLDER] | sbom | jars
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement

from tests.support.advisories import Looked, Package, look
from tests.support.foreign import (
    JARS,
    NPM_LOCK,
    jar_components,
    list_jars,
    listed_jars,
    npm_components,
    npm_packages,
)

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
_VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(str(wrong) if wrong else 0)
"""


NOT_ALL = 3
VERDICTS = {
    0: "Everything that is locked was looked up; nothing is known against it.",
    1: "Something is known against what is locked, or a package is not known at all: see above.",
    NOT_ALL: "Not all was audited: of what is called so below nothing is known, good or bad.",
}


class Audited(NamedTuple):
    """What was found of one lock.

    Attributes
    ----------
    packages : in it; None where the service did not answer
    hurt, unknown : with a known vulnerability; those that the service knows nothing of
    """

    lock: str
    packages: int | None
    hurt: int = 0
    unknown: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether every package was looked up and none has a known vulnerability."""
        return self.packages is not None and not self.hurt and not self.unknown


def pins(lock: str) -> list[tuple[str, str]]:
    """Name and version of every package in a lock that this platform takes."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line.rstrip(" \\")) for line in lines if line[0] not in "# "]
    return [
        (requirement.name, next(iter(requirement.specifier)).version)
        for requirement in wanted
        if requirement.marker is None or requirement.marker.evaluate()
    ]


def audit(folder: Path | None = None) -> int:
    """Look up everything that is locked, and sum it up.

    Returns
    -------
    0 : every package was looked up, and nothing is known against any
    1 : something is known against one, or the service knows nothing of one
    2 : the folder holds no advisories
    3 : nothing is known against what was looked up, but nobody was asked about the rest
    """
    by = ""
    if folder is not None:
        looked = look(folder, [one for _, packages in locked() for one in packages])
        if not looked.advisories:
            print(
                f"error: {folder} holds no advisories in OSV's form (JSON, YAML): name a copy of "
                "PyPA's or GitHub's advisory database, or an export of OSV's",
                file=sys.stderr,
            )
            return 2
        found = [read_advisories(looked, lock, packages) for lock, packages in locked()]
        by = ", by " + _told(looked)
    else:
        found = [*map(ask_pip_audit, LOCKS), ask_npm_audit(), Audited(_name(JARS), None)]
        print(
            f"{_name(JARS)}: not audited: no registry tells of jars; `make audit "
            "ADVISORIES=FOLDER` goes by advisories of Maven that lie there"
        )
    code = verdict(found)
    print(f"\n{VERDICTS[code]}\n")
    for line in summary(found, time.strftime("%Y-%m-%d", time.gmtime()) + by):
        print(line)
    return code


def verdict(found: Sequence[Audited]) -> int:
    """The exit code of an audit that asked."""
    if any(one.hurt or one.unknown for one in found):
        return 1
    return 0 if all(one.is_clean for one in found) else NOT_ALL


def _told(looked: Looked) -> str:
    """What was gone by: "2,661 advisories of PyPI up to 2024-10-10, 3 of npm up to ..."."""
    first, *others = [
        (read.count, f"of {ecosystem} up to {read.newest or 'no day'}")
        for ecosystem, read in sorted(looked.advisories.items())
    ]
    words = [f"{first[0]:,} advisories {first[1]}", *(f"{n:,} {which}" for n, which in others)]
    return ", ".join(words)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def locked() -> list[tuple[str, list[Package]]]:
    """Every lock, and what it has."""
    maven = [Package("Maven", f"{jar.group}:{jar.artifact}", jar.version) for jar in listed_jars()]
    return [
        *((lock, [Package("PyPI", *pin) for pin in pins(lock)]) for lock in LOCKS),
        (_name(NPM_LOCK), [Package("npm", *found) for found in npm_packages()]),
        (_name(JARS), maven),
    ]


def read_advisories(looked: Looked, lock: str, packages: list[Package]) -> Audited:
    """Print what advisories say of a lock."""
    if packages[0].ecosystem not in looked.advisories:
        print(f"{lock}: not audited: the folder has no advisories of {packages[0].ecosystem}")
        return Audited(lock, None)
    hurt = [package for package in packages if package in looked.holes]
    for package in hurt:
        print(f"{lock}: {package.name} {package.version}: {', '.join(looked.holes[package])}")
    if not hurt:
        print(f"{lock}: {len(packages)} packages, no known vulnerability")
    return Audited(lock, len(packages), len(hurt))


def summary(found: Iterable[Audited], when: str) -> list[str]:
    """The table that SECURITY.md has of the last audit."""
    lines = ["| what | packages | known vulnerabilities | nothing known |", "|---|---|---|---|"]
    for one in found:
        counts = ("not audited", "", "") if one.packages is None else one[1:]
        lines.append(f"| `{one.lock}` | {' | '.join(map(str, counts))} |")
    return [f"`make audit` on {when}:", "", *lines]


def ask_pip_audit(lock: str) -> Audited:
    """Ask the vulnerability service about every package of a lock."""
    command = [TOOLS / "pip-audit", "--disable-pip", "--require-hashes", "-r", str(ROOT / lock)]
    command += ["--format", "json", "--progress-spinner", "off"]
    print(lock, end=": ")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        print(f"{_name(TOOLS)} has no pip-audit (`make audit` puts it there): not audited.")
        return Audited(lock, None)
    return read_pip_audit(lock, done.stdout)


def read_pip_audit(lock: str, said: str) -> Audited:
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
        return Audited(lock, None)
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
    return Audited(lock, len(found), len(hurt), len(unknown))


def ask_npm_audit() -> Audited:
    """Ask npm's registry about the packages of the tests."""
    said, npm = "", shutil.which("npm")
    if npm is not None:
        command = [npm, "audit", "--package-lock-only", "--json"]
        done = subprocess.run(
            command, cwd=NPM_LOCK.parent, capture_output=True, text=True, check=False
        )
        said = done.stdout
    lock = _name(NPM_LOCK)
    print(lock, end=": ")
    return read_npm_audit(lock, said)


def read_npm_audit(lock: str, said: str) -> Audited:
    """Print what `npm audit` (its JSON) found."""
    try:
        told = json.loads(said)
        hurt, packages = told["vulnerabilities"], told["metadata"]["dependencies"]["total"]
    except (ValueError, KeyError, TypeError):
        print("npm is not installed, or its registry does not answer audits: not audited.")
        return Audited(lock, None)
    for name, package in hurt.items():
        mended = "" if package.get("fixAvailable") else ", not mended yet"
        print(f"{name} {package['range']}: {package['severity']}{mended}")
    if not packages:
        print("npm looked at no package: not audited.")
        return Audited(lock, None)
    if not hurt:
        print(f"{packages} packages, no known vulnerability")
    return Audited(lock, packages, len(hurt))


def sbom() -> int:
    """Write build/sbom.json (CycloneDX 1.6, valid by its schema)."""
    command = [TOOLS / "cyclonedx-py", "environment", str(RUNTIME), "--validate"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application"]
    command += ["--sv", "1.6", "--output-reproducible", "--of", "JSON", "-o", str(SBOM)]
    if not TOOLS.is_dir() or not RUNTIME.exists():
        print(
            f"error: {_name(TOOLS)} and {_name(RUNTIME)} are not there: `make sbom` makes them",
            file=sys.stderr,
        )
        return 1
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
    jars, npm = jar_components(), npm_components()
    python = len(bill["components"])
    bill["components"] += [*jars, *npm]
    text = json.dumps(bill, indent=2) + "\n"
    command = [TOOLS / "python", "-c", _VALIDATE]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"error: with jars and npm packages it is no CycloneDX 1.6: {done.stderr.strip()}")
        return 1
    SBOM.write_text(text, encoding="utf-8")
    print(
        f"{SBOM.relative_to(ROOT)}: {python} components of a worker, {len(jars)} jars of the "
        f"broker, {len(npm)} npm packages of the tests, CycloneDX 1.6"
    )
    return 0


def missing_from(bill: dict[str, Any]) -> list[str]:
    """Packages of requirements.lock that the bill has not, or in another version."""
    have = {
        (part["name"].lower().replace("_", "-"), part["version"]) for part in bill["components"]
    }
    return [name for name, version in pins("requirements.lock") if (name, version) not in have]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.supply")
    commands = parser.add_subparsers(dest="command", required=True)
    audits = commands.add_parser("audit", help="known vulnerabilities of everything that is locked")
    audits.add_argument("folder", nargs="?", type=Path, help="of advisories, as OSV has them")
    commands.add_parser("sbom", help="the bill of materials: build/sbom.json")
    commands.add_parser("jars", help="deploy/kafka/jars.txt anew, by what Maven makes of pom.xml")
    asked = parser.parse_args(arguments)
    if asked.command == "audit":
        if asked.folder is not None and not asked.folder.is_dir():
            audits.error(f"{asked.folder} is no folder: name one that holds advisories")
        return audit(asked.folder)
    return sbom() if asked.command == "sbom" else list_jars()


if __name__ == "__main__":
    raise SystemExit(main())
