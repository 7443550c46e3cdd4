"""The rules of the house that a program can hold: import directions, sizes, locks, the Makefile."""

from __future__ import annotations

import ast
import functools
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.support.kafka import CONFIG, ROOT

MAX_LINES = 300

# Imports run from right to left: a room may use what stands before it, and itself.
ORDER = [
    {"bulk", "compiled", "errors"},
    {"declared"},
    {"allocator", "contracts", "metrics"},
    {"listening", "output", "secrets", "sections", "terminal"},
    {"log_lines", "placements", "words"},
    {"leaves", "settings"},
    {"checks", "described", "revision"},
    {"tables"},
    {"config", "core", "http", "logs"},
    {"kafka"},
    {"feed", "gateway", "live", "observe", "receipts", "tally"},
    {"sidecar"},
    {"app"},
    {"demo"},
    {"cli"},
]
ORDER_OF_EXPORT = [
    {"calibration", "memory", "weights", "writing"},
    {"data", "to_onnx"},
    {"measuring"},
    {"models"},
    {"bundle"},
    {"compression"},
    {"training"},
    {"comparing"},
    {"commands"},
    {"cli"},
]
RANKS = {
    package: {room: rank for rank, rooms in enumerate(order) for room in rooms}
    for package, order in (("stream", ORDER), ("export", ORDER_OF_EXPORT))
}

NEVER_IN = {
    "contracts": {"asyncio", "faust", "mode", "aiokafka", "kafka", "onnxruntime"},
    "core": {"asyncio", "faust", "mode", "aiokafka", "kafka"},
    "gateway": {"faust", "mode", "onnxruntime"},
    "kafka": {"onnxruntime"},
}


@functools.cache
def _never_in_stream() -> set[str]:
    """The extra `export`, whatever it brings, and tools: what a worker's lock lacks."""
    extras = _project()["optional-dependencies"]
    optional = {Requirement(text).name for text in extras["parquet"]}
    extra = {Requirement(text).name for text in extras["export"]}
    locked = set(_lock("requirements-export.lock"))
    assert extra <= locked
    names = locked - set(_lock("requirements.lock")) - optional
    return {"export", "tests", *(name.replace("-", "_") for name in names)}


def _project() -> dict[str, Any]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _imports(module: Path) -> Iterator[str]:
    """Every module that `module` imports, wherever in the file, also for type checking alone."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize(
    "module",
    [module for package in RANKS for module in _modules(package)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_imports_run_one_way(module: Path) -> None:
    package, room, *_ = module.relative_to(ROOT).with_suffix("").parts
    rank = RANKS[package]
    if room == "__init__":
        assert set(_imports(module)) <= {"os"}  # for variables that libraries read at import
        return
    assert room in rank, f"give {package}/{room} its place in the order"
    never = _never_in_stream() | NEVER_IN.get(room, set()) if package == "stream" else {"tests"}
    for name in _imports(module):
        top, *rest = name.split(".")
        assert top not in never, f"{module} imports {name}"
        if top == package and rest and rest[0] in rank and rest[0] != room:
            assert rank[rest[0]] < rank[room], f"{package}.{room} may not import {name}"


def test_import_rule_sees_every_way_to_import(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("from stream import kafka\ndef late():\n    import torch.nn\n")
    assert set(_imports(module)) == {"stream", "stream.kafka", "torch.nn"}


def test_stream_may_import_nothing_that_training_brings() -> None:
    assert {"torch", "onnx", "scipy", "optuna", "opacus", "sqlalchemy"} <= _never_in_stream()
    assert not {"numpy", "kafka", "pyarrow"} & _never_in_stream()


COMPILERS = {"compiled", "part_of_compiled", "sum_in_any_order"}


def _compiled_functions(module: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            called = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
            if any(isinstance(name, ast.Name) and name.id in COMPILERS for name in called):
                yield node


@pytest.mark.parametrize("module", _modules("stream"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_compiled_function_uses_nothing_of_another_module(module: Path) -> None:
    # The cache looks at the function's own file: a change elsewhere would go unnoticed.
    tree = ast.parse(module.read_text(encoding="utf-8"))
    foreign = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stream")
        for name in node.names
    }
    for node in tree.body:  # nor what is made of it
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if foreign & {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}:
                named = [part for target in targets for part in ast.walk(target)]
                foreign |= {part.id for part in named if isinstance(part, ast.Name)}
    for function in _compiled_functions(module):
        used = {
            node.id
            for statement in function.body
            for node in ast.walk(statement)
            if isinstance(node, ast.Name)
        }
        assert not used & foreign, f"{module}: {function.name}"


def test_there_are_compiled_functions_to_look_at() -> None:
    assert sum(len(list(_compiled_functions(module))) for module in _modules("stream")) > 10


# What runs code that stands in its input.
UNPICKLERS = {"joblib", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml"}
LOADERS = {"load", "loads", "Unpickler", "load_module"}


def _unpickled(text: str) -> list[str]:
    """Lines that could unpickle something, and NumPy's readers that do not say that they do not."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = getattr(node, "module", None)
            names = {name.name.split(".")[0] for name in node.names} if base is None else {base}
            bad = names & UNPICKLERS or (base or "").split(".")[0] in {"pickle", *UNPICKLERS}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            bad = node.value.id in ("pickle", "_pickle") and node.attr in LOADERS
        elif isinstance(node, ast.keyword):
            bad = node.arg == "allow_pickle" and ast.unparse(node.value) != "False"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = {ast.unparse(keyword) for keyword in node.keywords}
            bad = "weights_only=True" not in safe
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
            bad = not any(keyword.arg == "allow_pickle" for keyword in node.keywords)
        elif isinstance(node, ast.Name):
            bad = node.id in ("eval", "exec", "__import__")
        else:
            continue
        if bad:
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    "module",
    [module for package in ("stream", "export") for module in _modules(package)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_nothing_is_unpickled(module: Path) -> None:
    assert _unpickled(module.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "import joblib",
        "torch.load(f)",
        "torch.load(f, weights_only=no)",
        "from pickle import loads",
        "from marshal import loads",
        "import pickle\npickle.loads(b'')",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "read_array(f, allow_pickle=yes)",
        "eval('1')",
    ],
)
def test_the_pickle_rule_sees_every_way(text: str) -> None:
    assert _unpickled(text)


@pytest.mark.parametrize("package", ["stream", "export"])
def test_modules_stay_small(package: str) -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _modules(package)}
    assert {str(path): count for path, count in lines.items() if count > MAX_LINES} == {}


def test_every_package_folder_says_what_lives_there() -> None:
    folders = {path.parent for package in ("stream", "export") for path in _modules(package)}
    bare = [str(folder) for folder in folders if not (folder / "README.md").is_file()]
    assert sorted(bare) == []


@pytest.mark.parametrize("package", ["stream", "export"])
def test_every_module_stands_in_what_its_folder_says(package: str) -> None:
    untold = []
    for module in _modules(package):
        told = (module.parent / "README.md").read_text(encoding="utf-8")
        if module.stem not in ("__init__", "__main__") and f"`{module.name}`" not in told:
            untold.append(str(module.relative_to(ROOT)))
    assert untold == []


@pytest.mark.parametrize("folder", ["chaos", "fuzz", "soak"])
def test_a_harness_says_what_each_of_its_files_is(folder: str) -> None:
    told = (ROOT / "tests" / folder / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in (ROOT / "tests" / folder).glob("*.py")} - {"__init__.py"}
    assert {name for name in files if f"`{name}`" not in told} == set()


def _tracked_texts() -> Iterator[tuple[str, bytes]]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: no list of tracked files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.split(b"\0")):
        path = ROOT / os.fsdecode(name)
        # A zero byte early on: not text.
        if path.is_file() and b"\0" not in (content := path.read_bytes())[:8192]:
            yield name.decode(), content


def test_no_tracked_file_names_a_place_on_somebodys_machine() -> None:
    somewhere = re.compile(rb"(?<![\w.$}/~-])/(?:root|home|Users|work)/\w")
    assert [name for name, text in _tracked_texts() if somewhere.search(text)] == []


def test_no_tracked_file_holds_two_versions_of_a_merge() -> None:
    side = re.compile(rb"(?m)^(<{7}|>{7}) ")
    assert [name for name, text in _tracked_texts() if side.search(text)] == []


LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-export.lock",
    "requirements-gpu.lock",
    "requirements-tools.lock",
    "requirements-uv.lock",
)


def _lock(name: str) -> dict[str, Requirement]:
    """The pins of a lock, each of which has its hashes and nothing else, no index's address too."""
    text = (ROOT / name).read_text(encoding="utf-8")
    pins = re.split(r"(?m)^(?=[a-z0-9])", text)[1:]
    assert "".join(pins) == text, f"{name}: more than pins"
    for pin in pins:
        assert re.fullmatch(
            r"[a-z0-9-]+==[\w.+!]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n", pin
        ), f"{name}: {pin}"
    requirements = [Requirement(pin.split("\\")[0]) for pin in pins]
    return {requirement.name: requirement for requirement in requirements}


def test_make_installs_what_is_locked_and_nothing_else() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\nLOCKED := --require-hashes --only-binary :all: -r\n" in makefile
    # What goes through `define install`, and uv itself: a lock each, or Freshet's own code. The
    # lock for GPUs is the image's.
    uses = re.findall(r"\$\(call install,(.+)\)\n|pip install \$\(PIP_FLAGS\) (.+?) \|\|", makefile)
    assert {first or second for first, second in uses} == {
        *(f"$(LOCKED) {name}" for name in LOCKS if name != "requirements-gpu.lock"),
        "--no-build-isolation -e .",
    }
    assert makefile.count("pip install") == 3
    (pin,) = _lock("requirements-uv.lock").values()
    assert f"UV_VERSION := {next(iter(pin.specifier)).version}\n" in makefile


def test_locks_pin_every_dependency_to_a_version_it_allows() -> None:
    project = _project()
    extras = project["optional-dependencies"]
    runtime, everything = _lock("requirements.lock"), _lock("requirements-dev.lock")
    assert {name: str(everything[name]) for name in runtime} == {
        name: str(requirement) for name, requirement in runtime.items()
    }
    for text in [*project["dependencies"], *extras["embedded"]]:
        _assert_satisfied(Requirement(text), runtime)
    for text in extras["dev"]:
        if not text.startswith("freshet["):
            _assert_satisfied(Requirement(text), everything)
    # A worker's packages at the same versions, and CUDA's libraries.
    on_gpus = _lock("requirements-gpu.lock")
    assert {name: str(on_gpus[name]) for name in runtime} == {
        name: str(requirement) for name, requirement in runtime.items()
    }
    for text in extras["gpu"]:
        _assert_satisfied(Requirement(text), on_gpus)
    more = set(on_gpus) - set(runtime)
    assert more
    assert all(name.startswith("nvidia-") for name in more)
    training = _lock("requirements-export.lock")
    for text in extras["export"]:
        _assert_satisfied(Requirement(text), training)
    # The same packages at the same versions, and PyTorch with what it needs: 5 GB that stay apart.
    assert {name: str(training[name]) for name in everything} == {
        name: str(requirement) for name, requirement in everything.items()
    }
    assert "torch" not in everything


def _assert_satisfied(wanted: Requirement, lock: dict[str, Requirement]) -> None:
    (pin,) = lock[wanted.name].specifier
    assert wanted.specifier.contains(pin.version), f"{wanted} is locked to {pin.version}"


def test_faust_and_aiokafka_are_pinned_exactly() -> None:
    project = _project()
    assert {"faust-streaming==0.15.3", "aiokafka==0.14.0"} <= set(project["dependencies"])


def test_aiohttp_is_held_to_the_minor_version_that_was_tested() -> None:
    """Whose internals `stream/listening.py` overrides; see tests/unit/test_listening.py."""
    (wanted,) = (
        requirement
        for requirement in map(Requirement, _project()["dependencies"])
        if requirement.name == "aiohttp"
    )
    (pin,) = _lock("requirements.lock")["aiohttp"].specifier
    major, minor, _ = map(int, pin.version.split("."))
    others = {f"{major}.{minor - 1}.99", f"{major}.{minor + 1}.0", f"{major + 1}.0.0"}
    assert not set(wanted.specifier.filter(others))


def test_broker_template_asks_for_nothing_that_is_not_filled_in() -> None:
    template = (CONFIG / "server.properties").read_text(encoding="utf-8")
    settings = "".join(line for line in template.splitlines(True) if not line.startswith("#"))
    assert set(re.findall(r"\$(\w+)", settings)) == {"port", "controller_port", "data"}
    assert "auto.create.topics.enable=false" in settings


def _make(folder: Path, *arguments: str, path: Path | None = None) -> tuple[int, str]:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    # Not what a `make PYTHON=... test` around us hands on.
    outer = ("MAKE", "MFLAGS", "PYTHON")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(outer)}
    if path is not None:
        environ["PATH"] = str(path)
    command = [make, "-f", str(ROOT / "Makefile"), *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def _fake_python(folder: Path, name: str, exit_codes: str) -> None:
    """A Python that answers each question of the Makefile with an exit code."""
    program = folder / name
    program.write_text(f'#!/bin/sh\ncase "$2" in {exit_codes} esac\n')
    program.chmod(0o755)


def test_make_says_what_to_install_when_there_is_no_python(tmp_path: Path) -> None:
    _fake_python(tmp_path, "python3", "*version_info*) exit 1;; *) exit 0;;")
    status, said = _make(tmp_path, "check-python", path=tmp_path)
    assert status == 2
    assert "no Python 3.11, 3.12 or 3.13" in said
    assert "apt install python3" in said


def test_make_says_what_to_install_when_venv_is_missing(tmp_path: Path) -> None:
    _fake_python(tmp_path, "python3.12", "*ensurepip*) exit 1;; *) exit 0;;")
    status, said = _make(tmp_path, "check-python", path=tmp_path)
    assert status == 2
    assert "python3.12 cannot make a virtual environment" in said
    assert "apt install python3-venv" in said


def test_make_takes_the_first_python_that_will_do(tmp_path: Path) -> None:
    _fake_python(tmp_path, "python3.13", "*version_info*) exit 1;; *) exit 0;;")
    _fake_python(tmp_path, "python3.11", "*) exit 0;;")
    assert _make(tmp_path, "check-python", path=tmp_path) == (0, "")


def test_make_lists_its_targets(tmp_path: Path) -> None:
    status, said = _make(tmp_path)
    assert status == 0
    for target in (
        *("demo", "test", "lint", "bench", "chaos", "soak", "kafka"),
        *("model", "audit", "sbom", "clean"),
    ):
        assert f"make {target} " in said


def test_no_two_test_files_have_one_name() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names)), "pytest takes one for the other"
