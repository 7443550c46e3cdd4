"""The `freshet` command. In: arguments. Out: text for people, JSON for programs, an exit code.

A file a command; this one finds the file, and turns every way in which a command can end into one
clear message and an exit code: 0 done, 1 fault found, 2 usage or settings, 130 interrupted (the
worker: 0 when it stopped in order, 70 when it ended itself). A command's module is imported only
when that command runs, so that `freshet send` loads no model runtime. Holds no logic of a command.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import metadata

import click
from kafka.errors import KafkaError

from stream.cli.common import printable
from stream.errors import EXIT_INTERRUPTED, FreshetError

END_WITHIN_S = 5

COMMANDS = {
    "demo": "Broker, worker and real shoppers on this machine; Ctrl-C ends all.",
    "broker": "Run the embedded broker in the foreground.",
    "topics": "Create or check the topics.",
    "worker": "Run the engine.",
    "send": "Send one event by hand.",
    "watch": "Print lists as they arrive.",
    "replay": "Produce a log of events to the topics.",
    "simulate": "Shoppers who react to their lists.",
    "bundle": "Show or check a model bundle.",
    "doctor": "Look for what is wrong with the set-up.",
}


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
        command: click.Command = importlib.import_module(f"stream.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="freshet")
def freshet() -> None:
    """Streaming personalization: events in Kafka in, fresh recommendation lists out.

    Exit codes: 0 done (a worker: stopped in order), 1 fault found, 2 usage or settings, 70 the
    worker ended itself to keep the states right, 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    arguments : without the program's name; None takes the process's own
    """
    _listen_to_interrupts()
    # A title in a foreign script must not end a command on a terminal that cannot show it.
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")
    try:
        code = freshet.main(arguments, prog_name="freshet", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FreshetError as error:
        return _fail(str(error), error.exit_code)
    except KafkaError as error:
        return _fail(f"the broker did not do what was asked: {error}", FreshetError.exit_code)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    click.echo("error: " + printable(message, keep="\n"), err=True)
    return code


def _listen_to_interrupts() -> None:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt once, also in a shell's background job.

    What a command does to end in order has `END_WITHIN_S`; then the process ends all the same.
    """

    def interrupt(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, lambda number, frame: os._exit(EXIT_INTERRUPTED))
        signal.alarm(END_WITHIN_S)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, interrupt)
