"""`freshet completion SHELL`. In: a shell's name. Out: the script that completes `freshet` in it.

The script is click's own. What it asks for comes from the commands' parameters.
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from stream.cli.common import examples

VARIABLE = "_FRESHET_COMPLETE"  # what click looks for when it is asked to complete


@click.command(
    "completion",
    epilog=examples(
        "source <(freshet completion bash)",
        "freshet completion zsh > ~/.zfunc/_freshet",
        "freshet completion fish > ~/.config/fish/completions/freshet.fish",
    ),
)
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, options and their values.

    SHELL: bash, zsh, fish. For bash, the first line of the examples belongs into ~/.bashrc; for
    zsh the folder must be in fpath (fpath+=~/.zfunc, before compinit).
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    click.echo(kind(context.find_root().command, {}, "freshet", VARIABLE).source())
