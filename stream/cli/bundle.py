"""`freshet bundle show|check DIR`. In: a bundle folder. Out: what it holds, or what is wrong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import msgspec

from stream.cli import ends_at_once
from stream.cli.common import complete_folder, examples, print_json, printable, with_settings
from stream.config import Settings

_DIR = click.argument(
    "folder", metavar="DIR", type=click.Path(path_type=Path), shell_complete=complete_folder
)
_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group(
    "bundle",
    epilog=examples(
        "freshet bundle show build/bundle",
        "freshet bundle check build/bundle --json",
    ),
)
def command() -> None:
    """Show or check a model bundle."""


@command.command(
    "show",
    epilog=examples(
        "freshet bundle show build/bundle",
        "freshet bundle show build/bundle --json",
    ),
)
@_DIR
@_JSON
@with_settings
def show(settings: Settings, folder: Path, as_json: bool) -> None:
    """Print what the manifest of the bundle in DIR says."""
    with ends_at_once():
        from stream.core.bundle import manifest_in

    manifest = manifest_in(folder)
    if as_json:
        print_json(manifest)
        return
    for name, value in msgspec.to_builtins(manifest).items():
        click.echo(f"{name:14} {printable(_words(value))}")


@command.command(
    "check",
    epilog=examples(
        "freshet bundle check build/bundle",
    ),
)
@_DIR
@_JSON
@with_settings
def check(settings: Settings, folder: Path, as_json: bool) -> None:
    """Verify the files of the bundle in DIR and replay its golden sequences."""
    with ends_at_once():
        from stream.core.bundle import Bundle
        from stream.core.model import Model

    started = time.monotonic()
    bundle = Bundle.load(folder)
    model = Model(bundle, settings.provider)
    elapsed_s = time.monotonic() - started
    found = {
        "id": bundle.bundle_id,
        "name": bundle.manifest.name,
        "model": bundle.manifest.model,
        "items": bundle.manifest.items - 1,
        "provider": model.provider,
    }
    if as_json:
        print_json({"ok": True, **found})
    else:
        click.echo(
            f"ok: {printable(bundle.manifest.name)} {bundle.bundle_id[:12]}, "
            f"{found['items']} items, golden sequences agree on {model.provider} "
            f"({elapsed_s:.1f} s)"
        )


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(part)}" for name, part in value.items()) or "-"
    return "-" if value is None else str(value)
