"""Command lines as pages and help texts have them: split, and parsed by the commands' own parsers.

Nothing is run.
"""

from __future__ import annotations

import re
import shlex

import click

from stream.cli.commands import freshet

_END = re.compile(r"[|>;&]|&&|\d?>>?")


def words_of(line: str) -> list[str]:
    """The words of a shell's line up to a pipe or redirection; those inside of `<(...)` for it."""
    inside = re.search(r"<\((.+)\)", line)
    lexer = shlex.shlex(inside[1] if inside else line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if _END.match(word):
            break
        words.append(word)
    return words


def parse_freshet(arguments: list[str]) -> None:
    """Parse `freshet`'s arguments as it would, to the last option.

    Raises
    ------
    click.UsageError : it would not take them
    """
    command: click.Command = freshet
    name, context = "freshet", None
    while True:
        # --help and --version end parsing when they are met.
        context = command.make_context(name, list(arguments), parent=context)
        if not isinstance(command, click.Group):
            return
        found, chosen, arguments = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert found is not None
        assert chosen is not None
        name, command = found, chosen
