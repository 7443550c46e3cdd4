"""The log of a bundle's training, which the baseline is trained on. In: a bundle. Out: its `Log`.

A bundle holds no log; the card that lies beside its files names one. The card may come from a
stranger: what it names is read as a log and nothing else, and counts only where it gives the very
data whose hash the bundle's manifest has.

Must not know: how models work.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from export.data.dataset import Log
from export.data.options import CLEANING, RULES, add_log_options, open_log
from export.training.run_card import CARD, data_sha256, read_card
from stream.core.bundle import Bundle
from stream.errors import UsageError
from stream.logs import FORMATS
from stream.terminal import printable


class NoLogError(UsageError):
    """The log that a bundle was trained on is not at hand; the message says why."""


def training_log(bundle: Bundle, report: Callable[[str], None], scratch: Path | None = None) -> Log:
    """The log that a bundle was trained on, cleaned as it was then.

    Parameters
    ----------
    scratch : as `read_log` takes it

    Raises
    ------
    NoLogError
        It is not named, not there, or holds something else by now.
    """
    wanted = bundle.manifest.training.get("data")
    card = read_card(bundle.path)
    settings = None if card is None else card.get("settings")
    if not isinstance(wanted, str) or not isinstance(settings, dict):
        raise NoLogError(f"no {CARD} beside the bundle names its training log")
    options = _options(settings)
    for file in (options.log, *options.items):
        if not _is_there(file):
            raise NoLogError(f"its training log, {printable(str(file))}, is not there any more")
    options.scratch = scratch
    report(f"reading the training log that {CARD} names, for the baseline")
    try:
        log, _ = open_log(options, report)
    except UsageError as error:
        raise NoLogError(f"its training log cannot be read: {error}") from None
    if data_sha256(log) != wanted:
        raise NoLogError(
            f"{printable(str(options.log))} holds other events now than the bundle was trained on"
        )
    return log


def _options(settings: dict[str, Any]) -> argparse.Namespace:
    """Those of `open_log`, as far as a card has them in their form."""
    log, form, items = (settings.get(name) for name in ("log", "format", "items"))
    if not (isinstance(log, str) and isinstance(form, str) and form in FORMATS):
        raise NoLogError("it was trained on the topics, which are no file")
    parser = argparse.ArgumentParser(add_help=False)
    add_log_options(parser)
    options = parser.parse_args([])
    options.log, options.format = Path(log), form
    options.items = [Path(str(one)) for one in items] if isinstance(items, list) else []
    for name in CLEANING:
        allowed = int | float if isinstance(getattr(RULES, name, True), float) else int
        if isinstance(given := settings.get(name), allowed):
            setattr(options, name, given)
    return options


def _is_there(file: Path) -> bool:
    """Whether a log may be there: a file with something in it, or a folder of such.

    A pipe would wait for ever, and so do some of the system's own files, which say that they are
    empty (`/proc/kmsg`).
    """
    try:
        files = [one for one in file.iterdir() if one.is_file()] if file.is_dir() else [file]
        return all(one.is_file() and one.stat().st_size > 0 for one in files)
    except OSError:  # such as a name that is too long
        return False
