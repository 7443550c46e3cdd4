"""What the commands share: `--config` and `--bootstrap`, text that is safe on a terminal, output.

In: options. Out: Settings, or an error that says what to do. Knows no command.
"""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import wcwidth
from click.shell_completion import CompletionItem
from tqdm import tqdm

from stream.config import Settings, load_settings
from stream.errors import FreshetError, UsageError
from stream.terminal import printable, printable_json

__all__ = [
    "complete_folder",
    "complete_placement",
    "connection_options",
    "end_when_alone",
    "examples",
    "fit",
    "load",
    "print_json",
    "printable",
    "progress",
    "read_property",
    "with_settings",
]

F = TypeVar("F", bound=Callable[..., Any])

_LOOK_EVERY_S = 0.2
_ORPHAN_ENDS_WITHIN_S = 2.0  # its broker may be gone too


class Number(click.FloatRange):
    """A number from one bound to the other."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Upstream: click.FloatRange.convert, which lets nan pass."""
        found = float(super().convert(value, param, ctx))
        if math.isnan(found):
            self.fail(f"{value!r} is no number", param, ctx)
        return found


class Wait(Number):
    """Seconds that an option waits: above 0, or from `least` on, and at most a day."""

    def __init__(self, least: float = 0.0) -> None:
        super().__init__(least, 86_400, min_open=not least)


def examples(*lines: str) -> str:
    """The end of a command's help: command lines that can be typed as they stand."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])  # \b: not filled


def complete_folder(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[Any]:
    """Complete a folder, for parameters whose commands say themselves what is wrong with one."""
    return [CompletionItem(incomplete, type="dir")]


def complete_placement(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[Any]:
    """Complete a placement's name, by the settings; nothing where they cannot be read."""
    try:
        settings = load(context.params.get("config"), None)
    except FreshetError:
        return []
    return [CompletionItem(name) for name in settings.placements if name.startswith(incomplete)]


def connection_options(command: F) -> F:
    """Add `--config FILE` and `--bootstrap HOST:PORT,...` as parameters `config`, `bootstrap`."""
    config = click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Settings file, TOML (default: FRESHET_CONFIG).",
    )
    bootstrap = click.option(
        "--bootstrap",
        metavar="HOST:PORT,...",
        help="The brokers (default: FRESHET_BOOTSTRAP, or 127.0.0.1:9092).",
    )
    return config(bootstrap(command))


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--config` and `--bootstrap`, and call `command(settings, ...)`."""

    @functools.wraps(command)
    def with_options(*, config: Path | None, bootstrap: str | None, **options: Any) -> Any:
        return command(load(config, bootstrap), **options)

    return connection_options(with_options)


def load(config: Path | None, bootstrap: str | None, **overrides: str | None) -> Settings:
    """Settings from file, environment and flags; flags that are None were not given."""
    return loader(config, bootstrap, **overrides)(None)


def loader(
    config: Path | None, bootstrap: str | None, **overrides: str | None
) -> Callable[[bytes | None], Settings]:
    """`load` as often as wanted, by what the file is said to hold; None: it is read."""
    given = {"bootstrap": bootstrap, **overrides}
    return lambda content: load_settings(config, given, content=content)


def fit(text: str, width: int) -> str:
    """Return `text`, safe to print, cut or filled to exactly `width` columns.

    What a reader sees as one character stays whole.
    """
    text = printable(text)
    total = wcwidth.width(text)
    if total <= width:
        return text + " " * (width - total)
    kept = ""
    for character in wcwidth.iter_graphemes(text):
        if wcwidth.width(kept + character) > width - 1:
            break
        kept += character
    return kept + "…" + " " * (width - 1 - wcwidth.width(kept))


def print_json(value: Any) -> None:
    """Print one JSON line and flush it, for programs that read as we write."""
    click.echo(printable_json(msgspec.json.encode(value).decode()))


def progress(total: int | None, unit: str, title: str) -> Any:
    """Return a tqdm bar on stderr with rate and time left; silent when stderr is no terminal."""
    return tqdm(
        total=total,
        unit=f" {unit}",
        desc=title,
        unit_scale=True,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
        file=sys.stderr,
    )


def read_property(text: str) -> tuple[str, Any]:
    """A property as it is typed, K=V; V is a number, true, false or a text."""
    name, equals, given = text.partition("=")
    if not (name and equals):
        raise UsageError(f"--property takes K=V, not {text!r}")
    try:
        number = json.loads(given)
    except ValueError:
        return name, given
    return name, number if isinstance(number, bool | int | float) else given


def end_when_alone() -> None:
    """Stop this process when the one that started it has gone, however it ended."""
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_ORPHAN_ENDS_WITHIN_S)
        os._exit(1)

    threading.Thread(target=look, name="end-with-parent", daemon=True).start()
