"""What Tab offers in a chat: commands, and what each of them says of its argument."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from persona_steering.cli.repl.registry import Registry, is_command
from persona_steering.errors import PersonaSteeringError

if TYPE_CHECKING:
    from persona_steering.cli.repl.state import Chat


class CommandCompleter(Completer):
    """Completes lines that are commands, and nothing else."""

    def __init__(self, chat: Chat, commands: Registry) -> None:
        self._chat = chat
        self._commands = commands
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if not is_command(text) or "\n" in text:
            return
        name, space, argument = text[1:].partition(" ")
        if not space:
            for command in self._commands.values():
                if command.name.startswith(name):
                    yield Completion(command.name, -len(name), display=command.usage, display_meta=command.help)
            return
        command_ = self._commands.get(name)
        if command_ is None:
            return
        if command_.takes_path:
            yield from self._paths.get_completions(Document(argument), complete_event)
            return
        begun = re.split(r"[ ,]", argument)[-1]
        try:
            words = list(command_.words(self._chat, argument))
        except PersonaSteeringError:  # what cannot be read is not offered; the command itself says why
            return
        for word in words:
            if word.startswith(begun):
                yield Completion(word, -len(begun))
