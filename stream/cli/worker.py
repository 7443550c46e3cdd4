"""`freshet worker`: the engine, until it is stopped. In: settings. Out: the worker's exit code."""

from __future__ import annotations

from pathlib import Path

import click

from stream.allocator import start_overwriting
from stream.cli import ends_at_once
from stream.cli.common import (
    complete_folder,
    connection_options,
    end_when_alone,
    examples,
    loader,
)
from stream.config import environment_with, given_origins, log_format_asked, settings_file
from stream.http import require_free
from stream.kafka.admin import require_let_in
from stream.kafka.cluster import Cluster
from stream.log_lines import start_logging


@click.command(
    "worker",
    epilog=examples(
        "freshet worker --bundle build/bundle",
        "freshet worker --config freshet.toml --log-format json",
    ),
)
@click.option(
    "--bundle",
    metavar="DIR",
    help="The model bundle (default: FRESHET_BUNDLE).",
    shell_complete=complete_folder,
)
@click.option("--provider", type=click.Choice(["auto", "cpu", "cuda"]), help="Where models run.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="0 takes any free one.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["text", "json"]), help="json: for programs.")
@click.option("--end-with-parent", is_flag=True, hidden=True)
@connection_options
def command(
    *,
    config: Path | None,
    bootstrap: str | None,
    bundle: str | None,
    provider: str | None,
    metrics_port: int | None,
    log_level: str | None,
    log_format: str | None,
    end_with_parent: bool,
) -> None:
    """Run the engine: events in, lists out. Run several of the same group to share the work."""
    if end_with_parent:
        end_when_alone()
    if log_format_asked(config, log_format) == "json":  # what is wrong with the rest as well
        start_logging("info", "json")
    flags = {
        "bundle": bundle,
        "provider": provider,
        "metrics_port": None if metrics_port is None else str(metrics_port),
        "log_level": log_level,
        "log_format": log_format,
    }
    load_again = loader(config, bootstrap, **flags)
    settings = load_again(None)
    origins = given_origins(config, {"bootstrap": bootstrap, **flags})
    start_logging(settings.log_level, settings.log_format)
    if settings.privacy.overwrite_memory:
        start_overwriting(environment_with({}))
    require_free(settings.metrics_host, settings.metrics_port)
    cluster = Cluster.of(settings)
    if not cluster.plain:  # said at once: the model takes its time
        require_let_in(cluster)
    with ends_at_once():
        from stream.app import run_worker
        from stream.live import SettingsFile

    run_worker(settings, SettingsFile.of(settings_file(config), load_again), origins)
