"""`deploy/image/`: what the images are made of, and whom they run as."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import local
from tests.support.deployed import IMAGE, UNIT, assignments, instructions
from tests.support.kafka import ROOT

DOCKERFILES = sorted(path for path in IMAGE.glob("Dockerfile*") if path.suffix != ".dockerignore")
INSTRUCTIONS = {
    *("ARG", "FROM", "WORKDIR", "RUN", "COPY", "LABEL", "ENV", "USER", "EXPOSE"),
    *("HEALTHCHECK", "ENTRYPOINT", "CMD"),
}


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
    assert any(
        "import stream.core.engine, stream.kafka.walk" in rest
        for word, rest in steps[last:]
        if word == "RUN"
    )
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
