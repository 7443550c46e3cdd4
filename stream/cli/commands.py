"""Finds and runs a command. In: arguments. Out: an exit code, and a message when it is not 0.

Turns every way in which a command can end into one clear message and an exit code: 0 done, 1 fault
found, 2 usage or settings, 130 interrupted, 141 nobody reads the output any more (the worker: 0
when it stopped in order, 70 when it ended itself). A command's module is imported only when that
command runs, so that `freshet send` loads no model runtime. Holds no logic of a command.
"""

from __future__ import annotations

import importlib
import io
import logging
import sys
from collections.abc import Sequence
from importlib import metadata

import click
from click.shell_completion import CompletionItem
from kafka.errors import KafkaError

from stream.cli import COMMANDS, ends_at_once, raise_on_interrupt
from stream.cli.common import examples, printable
from stream.config import may_colour
from stream.errors import EXIT_INTERRUPTED, FreshetError, ReaderGoneError
from stream.log_lines import tells_json
from stream.output import whole_output
from stream.terminal import LINES

log = logging.getLogger("freshet")


def _version() -> str:
    try:
        return metadata.version("freshet")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "(not installed)"


class _Commands(click.Group):
    """Finds command NAME as `command` of `stream.cli.NAME`, when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        with ends_at_once():
            command: click.Command = importlib.import_module(f"stream.cli.{cmd_name}").command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Upstream: click.Group.shell_complete, which imports every command for its help."""
        found = [
            CompletionItem(name, help=words)
            for name, words in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "freshet demo",
        "freshet topics create",
        "freshet worker --bundle build/bundle",
        "freshet doctor",
    ),
)
@click.version_option(_version(), prog_name="freshet")
def freshet() -> None:
    """Streaming personalization: events in Kafka in, fresh recommendation lists out.

    Exit codes: 0 done (a worker: stopped in order), 1 fault found, 2 usage or settings, 70 the
    worker ended itself to keep the states right, 130 interrupted, 141 nobody reads the output.
    """


def run(arguments: Sequence[str] | None) -> int:
    """Run one command and return its exit code; see `stream.cli.main`."""
    # A title in a foreign script must not end a command on a terminal that cannot show it.
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")
    try:
        raise_on_interrupt()
        colour = None if may_colour() else False  # None: on terminals alone
        with whole_output():
            code = freshet.main(arguments, prog_name="freshet", standalone_mode=False, color=colour)
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except ReaderGoneError as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FreshetError as error:
        return _fail(str(error), error.exit_code)
    except KafkaError as error:
        return _fail(f"the broker did not do what was asked: {error}", FreshetError.exit_code)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    if tells_json():
        log.critical("%s", message, extra={"exit_code": code})
    else:
        colour = None if may_colour() else False
        word = click.style("error:", fg="red", bold=True)
        click.echo(f"{word} {printable(message, keep=LINES)}", err=True, color=colour)
    return code
