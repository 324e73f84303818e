"""Slash commands about the chat itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona_steering.cli.render import lines
from persona_steering.cli.repl.registry import Command, find

if TYPE_CHECKING:
    from collections.abc import Iterable

    from persona_steering.cli.repl.state import Chat

KEYS = (
    ("Enter", "send"),
    ("Alt-Enter, Ctrl-J", 'a new line; so does Enter within """ and """'),
    ("Tab, Ctrl-R", "complete; search what was written before"),
    ("Ctrl-G", "write in $EDITOR"),
    ("Ctrl-C", "stop the answer and keep it; clear the line"),
    ("Ctrl-D", "leave"),
)


def help_(chat: Chat, argument: str) -> None:
    """Shows all commands and keys, or one command."""
    from persona_steering.cli.repl.commands import COMMANDS

    if argument:
        command = find(COMMANDS, argument)
        lines([(command.usage, command.help), *([("", command.details)] if command.details else [])])
        return
    lines([(command.usage, command.help) for command in COMMANDS.values()], title="Commands")
    lines(KEYS, title="Keys")
    lines([("//text", "sends /text")], title="Messages")


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
