"""Slash commands about the chat itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona_steering.cli.render import err, lines
from persona_steering.cli.repl.registry import Command, find

if TYPE_CHECKING:
    from collections.abc import Iterable

    from persona_steering.cli.repl.state import Chat

KEYS = (
    'Enter sends · Alt-Enter or Ctrl-J begins a line, and so does Enter between two """ · Tab completes · '
    "Ctrl-R searches · Ctrl-G opens $EDITOR · Ctrl-C stops an answer and keeps it, or clears the line · "
    "Ctrl-D leaves · //text sends /text"
)


def help_(chat: Chat, argument: str) -> None:
    """Shows all commands and keys, or one command."""
    from persona_steering.cli.repl.commands import COMMANDS

    if argument:
        command = find(COMMANDS, argument)
        lines([(command.usage, command.help), *([("", command.details)] if command.details else [])])
        return
    lines([(command.usage, command.help) for command in COMMANDS.values()])
    err().print(KEYS, style="dim")


def quit_(chat: Chat, argument: str) -> None:
    """Leaves the chat."""
    chat.leaving = True


def _names(chat: Chat, argument: str) -> Iterable[str]:
    from persona_steering.cli.repl.commands import COMMANDS

    return tuple(COMMANDS)


COMMANDS = (
    Command("help", "[COMMAND]", "show this, or what a command does", help_, _names),
    Command("quit", "", "leave, as Ctrl-D does", quit_),
)
