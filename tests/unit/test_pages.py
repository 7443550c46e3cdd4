"""What the pages tell to type or to write: it parses, it exists, and what can run here does run."""

from __future__ import annotations

import functools
import gzip
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from export.cli import main as export_main
from export.commands import parser
from stream.config import load_settings
from stream.demo import sample
from stream.words.templates import parse
from tests.support import mermaid
from tests.support.commands import parse_freshet, words_of
from tests.support.pages import (
    NOT_RUN,
    PROGRAMS,
    ROOT,
    SYNOPSIS,
    Block,
    blocks,
    command_lines,
    pages,
    program_of,
    runner_of,
    why_not_run,
)
from tests.support.prometheus import program

SHELL = [block for block in blocks() if block.kind == "shell"]
PYTHON = [block for block in blocks() if block.kind == "python"]
LINES = [(block, line) for block in SHELL for line in command_lines(block)]


def lines_of(*programs: str) -> list[str]:
    return sorted({line for _, line in LINES if program_of(line) in programs})


def typed(line: str) -> list[str]:
    """The arguments of a line, after its program."""
    words = words_of(line)
    at = next(i for i, word in enumerate(words) if not re.fullmatch(r"\w+=\S*", word))
    return words[at + 1 :]


def test_there_is_something_to_hold() -> None:
    assert len(SHELL) > 30
    assert {program_of(line) for _, line in LINES} >= {"make", "freshet", "freshet-export"}
    assert len(PYTHON) >= 3


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.name)
def test_a_block_is_all_of_one_kind(block: Block) -> None:
    if block.kind == "shell":
        programs = {program_of(line) for line in command_lines(block)}
        assert programs - PROGRAMS == set(), "name a new program in tests/support/pages.py"
    elif not block.kind:
        assert not {program_of(line) for line in block.text.splitlines()} & (PROGRAMS - {"(cd"})


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_can_read_every_shell_block() -> None:
    texts = [
        # A synopsis is no command: `[...]` may be left out, `|` stands between two ways.
        "\n".join(line for line in block.text.splitlines() if not SYNOPSIS.search(line))
        for block in SHELL
    ]
    script = "\n".join(
        f": {block.name!r}\n{text}" for block, text in zip(SHELL, texts, strict=True)
    )
    done = subprocess.run(
        ["bash", "-n"], input=script, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_line_ends_in_words_for_people() -> None:
    """`make test   runs the tests` would ask make for targets called `runs`, `the` and `tests`."""
    for block, line in LINES:
        words = re.search(
            r"\S {2,}([A-Za-z`]\S*)", re.sub(r"\"[^\"]*\"|'[^']*'|(^|\s)#.*", "", line)
        )
        assert words is None, f"{block.name}: {line}: put a # before {words and words[1]!r}"


@pytest.mark.parametrize("line", lines_of("freshet"))
def test_a_freshet_command_is_one(line: str) -> None:
    parse_freshet(typed(line))


@pytest.mark.parametrize("line", lines_of("source"))
def test_a_sourced_command_is_one(line: str) -> None:
    program, *given = words_of(line)
    assert program == "freshet"
    parse_freshet(given)


@pytest.mark.parametrize("line", lines_of("freshet-export"))
def test_a_training_command_is_one(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = typed(line)
    if not SYNOPSIS.search(line):
        assert parser().parse_args(given)
        return
    with pytest.raises(SystemExit):
        parser().parse_args([given[0], "--help"])
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", capsys.readouterr().out))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)) <= known


def module_takes(name: str, arguments: str) -> None:
    """`python -m NAME` exists, and so does each of the options and files that it is given."""
    if name == "pytest":
        sources = [ROOT / "tests" / "conftest.py"]
    else:
        found = importlib.util.find_spec(name)
        assert found is not None, f"no module {name}"
        assert found.origin is not None
        path = Path(found.origin)
        sources = list(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
        sources += [] if path.name != "__main__.py" else list(path.parent.glob("*.py"))
    text = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", arguments):
        assert f'"{option}"' in text, f"python -m {name} has no {option}"
    for file in re.findall(r"(?<!\S)tests/\S+", arguments):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("line", lines_of("make"))
def test_a_make_target_is_one_and_takes_its_arguments(line: str) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    given = [*typed(line), "PYTHON=python3"]
    done = subprocess.run(
        [make, "-n", "-C", str(ROOT), *given],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    variables = set(re.findall(r"(?:^|\s)([A-Z]+)=", line))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"$({name})" in makefile for name in variables)
    called = re.findall(r"python -m (tests[\w.]*|deploy[\w.]*|pytest)([^\n]*)", done.stdout)
    for name, arguments in called:
        module_takes(name, arguments)
    assert called or typed(line)[0] in ("demo", "clean", "lint", "lock"), done.stdout


@pytest.mark.parametrize("line", lines_of("python"))
def test_a_python_module_is_one_and_takes_its_arguments(line: str) -> None:
    flag, name, *arguments = typed(line)
    assert flag == "-m"
    module_takes(name, " ".join(arguments))


def test_files_that_commands_name_are_there() -> None:
    for block, line in LINES:
        for file in re.findall(r"(?<![\w/.-])(?:deploy|stream/demo)/[\w./@-]+", line):
            if "build/" not in line and " > " not in line:
                assert (ROOT / file).exists(), f"{block.name}: {file}"


# Run


HERE = [
    line
    for block, line in LINES
    if runner_of(block) == "unit/test_pages.py" and why_not_run(line) is None
]


def test_each_line_is_run_or_says_why_not() -> None:
    told = {program_of(line) for _, line in LINES}
    assert set(NOT_RUN) <= told, "no line begins so: take it out"
    assert {program_of(line) for line in HERE} <= {"freshet-export", "promtool"}
    for block in SHELL:
        runner = ROOT / "tests" / runner_of(block)
        assert runner.exists()
    why = {line: why_not_run(line) for _, line in LINES}
    assert sum(one is None for one in why.values()) >= 25
    assert why_not_run("freshet-export train LOG --out x") is not None
    assert why_not_run("freshet-export train log.jsonl --out x # like LOG") is None


@pytest.mark.timeout(120)
def test_what_needs_no_broker_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Page by page in a folder that holds what they speak of: the beginning of a log."""
    with gzip.open(sample.EVENTS, "rb") as log, gzip.open(tmp_path / "events.jsonl.gz", "wb") as to:
        to.writelines(itertools.islice(log, 400))
    with gzip.open(tmp_path / "test_prefixes.txt.gz", "wt") as prefixes:
        prefixes.write("85123A 22423\t22086\n84879\t22423\n")
    monkeypatch.chdir(tmp_path)
    for line in HERE:
        if program_of(line) == "freshet-export":
            assert export_main(typed(line)) == 0, line
            assert capsys.readouterr().out, line


def test_promtool_takes_the_rules_that_a_page_names() -> None:
    for line in HERE:
        if program_of(line) == "promtool":
            done = subprocess.run(
                [program("promtool"), *typed(line)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr


# What tells the options of a line that is not run, by how it begins; the first tells whether the
# tool is here.
_COMPOSE = ("docker", "compose")
_KUBECTL = ("kubectl", "options")
HELP = {
    "docker compose": ((*_COMPOSE, "version"), (*_COMPOSE, "--help"), (*_COMPOSE, "up", "--help")),
    "install": (("install", "--help"),),
    "kubectl apply": (_KUBECTL, ("kubectl", "apply", "--help")),
    "kubectl create namespace": (_KUBECTL, ("kubectl", "create", "namespace", "--help")),
    "kubectl create secret generic": (
        *(_KUBECTL, ("kubectl", "create", "secret", "generic", "--help")),
    ),
    "kubectl scale": (_KUBECTL, ("kubectl", "scale", "--help")),
    "kubectl wait": (_KUBECTL, ("kubectl", "wait", "--help")),
    "pip install": ((sys.executable, "-m", "pip", "install", "--help"),),
    "systemctl": (("systemctl", "--help"),),
    "useradd": (("useradd", "--help"),),
}


def help_on(line: str) -> str | None:
    """What a line's program tells of its options; None: it is not here."""
    words = [program_of(line), *typed(line)]
    bare = " ".join(words).replace("kubectl -n freshet ", "kubectl ")
    (commands,) = [commands for begins, commands in HELP.items() if bare.startswith(begins)]
    if shutil.which(commands[0][0]) is None or _help(commands[0])[0]:
        return None
    return "\n".join(_help(command)[1] for command in commands)


@pytest.mark.parametrize(
    "line", lines_of("docker", "install", "kubectl", "pip", "systemctl", "useradd")
)
def test_a_line_that_is_not_run_has_options_that_are_there(line: str) -> None:
    told = help_on(line)
    if told is None:
        pytest.skip(f"no {program_of(line)} here that tells its options")
    for option in re.findall(r"(?<!\S)(-[a-zA-Z]|--[a-z][a-z-]*)(?=[ =]|$)", line):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", told), f"there is no {option}"


@functools.cache
def _help(command: tuple[str, ...]) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_plan_of_faults_is_told_without_a_run() -> None:
    assert any("--plan" in line for line in lines_of("make"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--plan"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


# Links


@functools.cache
def anchors(page: Path) -> set[str]:
    """What a link may lead to in a page, as GitHub names its headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        led_to = (page.parent / name).resolve() if name else page
        assert led_to.exists(), target
        if anchor:
            assert anchor in anchors(led_to), target


# Diagrams

DIAGRAMS = [block for block in blocks() if block.kind == "mermaid"]
ILLUSTRATED = ("README.md", "stream/README.md", "deploy/README.md", "tests/README.md")


def test_what_explains_a_whole_has_a_picture() -> None:
    has = {str(block.page.relative_to(ROOT)) for block in DIAGRAMS}
    assert has >= {*ILLUSTRATED, "stream/kafka/README.md"}
    assert "](tests/bench/peers.svg)" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", DIAGRAMS, ids=lambda block: str(block.page.relative_to(ROOT)))
def test_a_diagram_is_one(block: Block) -> None:
    found = mermaid.parse(block.text)
    assert len(found.nodes) > 2
    # A test or a folder of tests that it names is there.
    named = set(re.findall(r"test_\w+", block.text))
    assert named <= {path.stem for path in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("graph LR\na[x] --> b[y]", "no kind of diagram"),
        ("flowchart LR\na[x] --> b", "b has no words"),
        ("flowchart LR\na[x] -> b[y]", "no arrow at '-> b"),
        ("flowchart LR\na[x (y)] --> b[y]", "no arrow at"),
        ("flowchart LR\na[x] --> end[y]", "no node at 'end"),
        ("flowchart LR\na[x] -->|(y)| b[y]", "no node at"),
        ("flowchart LR\na[x] --> b[y]\nc[z]", "c is alone"),
        ("flowchart LR\nsubgraph g [G]\na[x] --> b[y]", "1 groups are not ended"),
        ("sequenceDiagram\nparticipant A as a\nA->>B: x", "nobody declared B"),
        ("sequenceDiagram\nparticipant A as a\nparticipant B as b\nA->>A: x", "B is alone"),
        ("sequenceDiagram\nparticipant A as a\nA->>A: x; y", "no line of a sequence"),
    ],
)
def test_a_slip_in_a_diagram_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        mermaid.parse(text)


# Python, TOML, JSON

# Who runs a block, by what stands before it.
RUN_BY = {
    "<!-- example -->": "integration/test_commands.py",
    "<!-- producer: kafka-python -->": "integration/test_clients.py",
    "<!-- producer: confluent-kafka -->": "integration/test_clients.py",
    "<!-- broker -->": "integration/test_brokers.py",
}


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_a_python_block_is_run_by_a_test(block: Block) -> None:
    compile(block.text, block.name, "exec")
    mark = block.before.rstrip().splitlines()[-1]
    assert mark in RUN_BY, "say by a mark which test runs it"
    runner = (ROOT / "tests" / RUN_BY[mark]).read_text(encoding="utf-8")
    assert mark.split()[1].rstrip(":") in runner


@pytest.mark.parametrize(
    "block",
    [block for block in blocks() if block.kind == "toml" or re.match(r"\[|\w+ = ", block.text)],
    ids=lambda block: block.name,
)
def test_toml_is_of_settings_or_words_that_are_there(block: Block, tmp_path: Path) -> None:
    if block.before.rstrip().endswith("<!-- words -->"):
        assert parse(block.text, block.name)
        return
    table = tomllib.loads(block.text)
    for name, value in table.get("security", {}).items():
        if name == "password_file":  # the only one that is read with the settings
            (tmp_path / "password").write_text("word")
            (tmp_path / "password").chmod(0o600)
            block = block._replace(text=block.text.replace(value, str(tmp_path / "password")))
    file = tmp_path / "freshet.toml"
    file.write_text(block.text)
    load_settings(file, {}, {})


@pytest.mark.parametrize(
    "line",
    [line for b in blocks() if not b.kind for line in b.text.splitlines() if line.startswith('{"')],
)
def test_json_is_json(line: str) -> None:
    assert json.loads(line)


def test_the_rules_see_what_is_wrong() -> None:
    with pytest.raises(click.UsageError):
        parse_freshet(typed(".venv/bin/freshet watch --users u1"))
    with pytest.raises(AssertionError, match="--planned"):
        module_takes("tests.chaos", "--planned")
    with pytest.raises(AssertionError, match="no module"):
        module_takes("tests.chaoss", "")
    assert program_of("FRESHET_BUNDLE=x .venv/bin/freshet worker") == "freshet"
