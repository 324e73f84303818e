"""What a slash command is, and how a line becomes one. Help and completion are read from the same entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from persona_steering.cli.repl.state import Chat
from persona_steering.errors import UsageError, nearest

Words = Callable[[Chat, str], Iterable[str]]


def _no_words(chat: Chat, argument: str) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Command:
    """One slash command.

    `arguments` is how its argument is written: in brackets where it may be left out, empty where there is none.
    `words(chat, argument so far)` yields what may stand where the argument's last word begins.
    """

    name: str
    arguments: str
    help: str
    run: Callable[[Chat, str], None]
    words: Words = _no_words
    details: str = ""
    takes_path: bool = False

    @property
    def usage(self) -> str:
        """How it is written."""
        return f"/{self.name} {self.arguments}".rstrip()


Registry = Mapping[str, Command]


def registry(*groups: Iterable[Command]) -> Registry:
    """The commands of all groups by name, in their order."""
    return {command.name: command for group in groups for command in group}


def is_command(line: str) -> bool:
    """Whether a line is a command: it begins with one slash. Two begin a message with a slash."""
    return line.startswith("/") and not line.startswith("//")


def as_message(line: str) -> str:
    """The message that a line which is no command stands for."""
    return line.removeprefix("/") if line.startswith("//") else line


def dispatch(commands: Registry, chat: Chat, line: str) -> None:
    """Runs the command that a line names. Raises UsageError for an unknown one or a wrong argument."""
    name, _, argument = line.removeprefix("/").partition(" ")
    argument = argument.strip()
    command = find(commands, name)
    if argument and not command.arguments:
        raise UsageError(f"/{name} takes no argument.", hint=f"Write {command.usage}.")
    if not argument and command.arguments and not command.arguments.startswith("["):
        raise UsageError(f"/{name} needs an argument.", hint=f"Write {command.usage}.")
    command.run(chat, argument)


def find(commands: Registry, name: str) -> Command:
    """The command of that name, with or without its slash. Raises UsageError with the nearest names."""
    name = name.removeprefix("/")
    if name in commands:
        return commands[name]
    near = nearest(f"/{name}", [f"/{known}" for known in commands]) or "See /help."
    raise UsageError(f"unknown command /{name}.", hint=f"{near} To send it as a message, write //{name}.")


def on_or_off(command: str, argument: str) -> bool:
    """The choice that an argument makes. Raises UsageError."""
    if argument not in ("on", "off"):
        raise UsageError(f"{argument!r} is neither on nor off.", hint=f"Write /{command} on, or /{command} off.")
    return argument == "on"


def on_off_words(chat: Chat, argument: str) -> Iterable[str]:
    """What completes the argument of a switch."""
    return ("on", "off")
