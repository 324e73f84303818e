"""`completion`: the script that has a shell complete commands, options and names."""

from __future__ import annotations

import click

from persona_steering.cli.context import common_options

SHELLS = ("bash", "zsh", "fish")
HOW = {
    "bash": 'eval "$(persona-steer completion bash)"       # in ~/.bashrc',
    "zsh": 'eval "$(persona-steer completion zsh)"        # in ~/.zshrc',
    "fish": "persona-steer completion fish > ~/.config/fish/completions/persona-steer.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@common_options
def completion(shell: str) -> None:
    """Print the script that completes commands, options, personas and settings in a shell.

    \b
    Examples:
      eval "$(persona-steer completion bash)"
      persona-steer completion fish > ~/.config/fish/completions/persona-steer.fish
    """
    click.echo(script(shell))


def script(shell: str) -> str:
    """The completion script of a shell, with how to use it on the first line."""
    from click.shell_completion import get_completion_class

    from persona_steering.cli.main import COMPLETION_VARIABLE, PROGRAM, root

    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(root, {}, PROGRAM, COMPLETION_VARIABLE)
    return f"# {HOW[shell]}\n{(made.source_template % made.source_vars()).strip()}"
