"""What every command does alike: examples in its help, completion, colour, exit codes."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from export.commands import EXAMPLES as EXPORT_EXAMPLES
from export.commands import parser
from stream.cli import COMMANDS, common, main
from stream.cli.commands import freshet
from stream.cli.completion import VARIABLE
from stream.demo import sample
from stream.errors import (
    EXIT_FATAL,
    EXIT_INTERRUPTED,
    EXIT_READER_GONE,
    FreshetError,
    SettingsError,
    UsageError,
)
from tests.support.commands import parse_freshet, words_of
from tests.support.freshet import ROOT

EXIT_CODES = ROOT / "stream" / "cli" / "README.md"


def leaves(
    group: click.Group = freshet, before: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that name it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, (*before, name))
        else:
            yield (*before, name), command


def examples_of(command: click.Command) -> list[str]:
    title, *lines = (command.epilog or "").removeprefix("\b\n").splitlines()
    assert title == "Examples:"
    return [line.strip() for line in lines]


LEAVES = dict(leaves())
GROUPS = [freshet, *(freshet.get_command(click.Context(freshet), n) for n in ("topics", "bundle"))]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (name for name in os.environ if name.startswith("FRESHET_")):
        monkeypatch.delenv(name)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


# Examples


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_a_command_has_examples_that_its_parser_takes(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = examples_of(LEAVES[words])
    own = [line for line in lines if not line.startswith("curl ")]
    assert own
    for line in own:
        given = words_of(line)
        assert " ".join(given).startswith(" ".join(["freshet", *words])), line
        parse_freshet(given[1:])
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert {f"    {line}" for line in lines} <= set(shown), "as it stands, on one line"


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_a_group_has_examples_that_its_parser_takes(group: click.Group) -> None:
    for line in examples_of(group):
        parse_freshet(words_of(line)[1:])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("send click --user u1", "--item"),
        ("send clack --user u1 --item i1", "clack"),
        ("watch --colour", "--colour"),
        ("topics make", "make"),
        ("nonsense", "nonsense"),
        ("completion", "SHELL"),
    ],
)
def test_the_parser_refuses_what_a_command_would(line: str, why: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        parse_freshet(line.split())
    assert why in refused.value.format_message()


@pytest.mark.parametrize("command", EXPORT_EXAMPLES)
def test_training_has_examples_that_its_parser_takes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in EXPORT_EXAMPLES[command]:
        program, *given = words_of(line)
        assert program == "freshet-export"
        assert parser().parse_args(given)
    with pytest.raises(SystemExit):
        parser().parse_args([command, "--help"])
    assert f"  {EXPORT_EXAMPLES[command][0]}\n" in capsys.readouterr().out


# Completion


def test_completion_prints_what_the_shell_reads(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert f"{VARIABLE}={shell}_complete" in script
        assert shell != "zsh" or script.startswith("#compdef freshet")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_without_an_installation(tmp_path: Path) -> None:
    (tmp_path / "freshet").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stream.cli "$@"\n')
    (tmp_path / "freshet").chmod(0o755)
    asked = ["freshet wor", "freshet replay log --format re"]
    typed = "\n".join(
        f"COMPREPLY=(); COMP_WORDS=({line}); COMP_CWORD={len(line.split()) - 1}; "
        "_freshet_completion freshet; "
        'echo "${COMPREPLY[*]}"'
        for line in asked
    )
    script = f"source <(freshet completion bash)\n{typed}\ncomplete -p freshet\n"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    *completed, registered = done.stdout.splitlines()
    assert completed == ["worker", "rees46"]
    assert "_freshet_completion" in registered


def completed(monkeypatch: pytest.MonkeyPatch, line: str, shell: str = "zsh") -> list[str]:
    """What a shell is answered for a line that ends at the cursor."""
    words = line.split(" ")
    monkeypatch.setenv(VARIABLE, f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 0
    return shown.getvalue().splitlines()


def test_zsh_is_told_what_each_command_does(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = completed(monkeypatch, "freshet ")
    assert lines[1::3] == list(COMMANDS)
    assert lines[2::3] == list(COMMANDS.values())


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("freshet ask t", ["together", "trending"]),
        ("freshet worker --provider c", ["cpu", "cuda"]),
        ("freshet worker --log-format j", ["json"]),
        ("freshet topics c", ["check", "create"]),
        ("freshet completion ", ["bash", "zsh", "fish"]),
        ("freshet watch --placement ca", ["cart"]),
        ("freshet watch --config FILE --placement ", ["shop"]),
        ("freshet send click --placement x", []),
        ("freshet --v", ["--version"]),
    ],
)
def test_values_are_completed(
    line: str, values: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("cart", "shop"):
        (tmp_path / f"{name}.toml").write_text(f"[placements.{name}]\nk = 5\n")
    monkeypatch.setenv("FRESHET_CONFIG", str(tmp_path / "cart.toml"))
    assert completed(monkeypatch, line.replace("FILE", str(tmp_path / "shop.toml")))[1::3] == values


def test_folders_are_left_to_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed(monkeypatch, "freshet bundle check bu", "bash") == ["dir,bu"]
    monkeypatch.setenv("FRESHET_CONFIG", "/no/such/file")
    assert completed(monkeypatch, "freshet worker --bundle bu", "bash") == ["dir,bu"]
    assert completed(monkeypatch, "freshet watch --placement ", "bash") == [""]


# Colour


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("output", "environ", "colour"),
    [
        (_Terminal, {}, True),
        (io.StringIO, {}, False),
        (_Terminal, {"NO_COLOR": "1"}, False),
        (_Terminal, {"NO_COLOR": ""}, True),
        (_Terminal, {"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    output: type[io.StringIO],
    environ: dict[str, str],
    colour: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    shown, errors = output(), output()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(sys, "stderr", errors)
    assert main(["replay", "/no/such/log"]) == 2
    assert main(["doctor", "--config", "/no/such/file"]) == 1
    assert ("\x1b[" in errors.getvalue()) is colour
    assert ("\x1b[" in shown.getvalue()) is colour
    assert "error:" in errors.getvalue()


# Exit codes


def told_codes() -> dict[int, str]:
    text = EXIT_CODES.read_text(encoding="utf-8")
    section = text[text.index("## Exit codes") :].split("\n## ")[0]
    return {int(code): row for code, row in re.findall(r"^\| (\d+) \| (.+) \|$", section, re.M)}


def test_the_exit_codes_are_told_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    own = {FreshetError.exit_code, UsageError.exit_code, EXIT_FATAL, EXIT_INTERRUPTED}
    codes = {0, *own, EXIT_READER_GONE}
    assert set(told_codes()) == codes
    assert main(["--help"]) == 0
    told = capsys.readouterr().out.replace("\n", " ")
    assert all(re.search(rf"\b{code} ", told) for code in codes)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(stream/cli/README.md#exit-codes)" in readme


def given_to(words: tuple[str, ...]) -> list[str]:
    """Arguments of the command's first example."""
    return words_of(examples_of(LEAVES[words])[0])[1:]


CONNECTING = [words for words in LEAVES if words != ("completion",)]


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_a_wrong_flag_is_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*given_to(words), "--no-such-flag"]) == 2
    assert "--no-such-flag" in capsys.readouterr().err


@pytest.mark.parametrize("words", CONNECTING, ids=" ".join)
def test_a_wrong_setting_is_2_and_a_fault_to_doctor(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRESHET_STATE_RING", "many")
    assert main(given_to(words)) == (1 if words == ("doctor",) else SettingsError.exit_code)
    shown = capsys.readouterr()
    assert "FRESHET_STATE_RING" in shown.out + shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("words", CONNECTING, ids=" ".join)
def test_an_interrupt_is_130(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(common, "load_settings", interrupted)
    assert main(given_to(words)) == EXIT_INTERRUPTED


def test_done_is_0_and_a_fault_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "show", str(sample.BUNDLE)]) == 0
    assert main(["bundle", "show", str(tmp_path / "none")]) == 1
    assert main(["worker", "--bundle", str(tmp_path / "none"), "--metrics-port", "0"]) == 1
    assert "Traceback" not in capsys.readouterr().err
