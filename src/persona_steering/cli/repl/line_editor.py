"""Lines with history, completion, several lines, an editor and a status line below: prompt_toolkit's home."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output
from prompt_toolkit.styles import Style

from persona_steering.cli.render import warn
from persona_steering.cli.repl.completion import CommandCompleter
from persona_steering.cli.repl.registry import Registry, is_command
from persona_steering.cli.repl.terminal import is_unfinished, message_of
from persona_steering.config import user_data_dir

if TYPE_CHECKING:
    from persona_steering.cli.repl.state import Chat

HISTORY_FILE = "chat_history"
MENU_LINES = 5
STYLE = Style([("bottom-toolbar", "noreverse fg:ansibrightblack"), ("prompt", "bold")])


class LineEditor:
    """A `Reader` for a terminal that lines can be edited on."""

    def __init__(self, chat: Chat, commands: Registry, *, history: bool) -> None:
        self._chat = chat
        self._prompt: PromptSession[str] = PromptSession(
            history=open_history() if history else InMemoryHistory(),
            completer=CommandCompleter(chat, commands),
            complete_while_typing=Condition(lambda: is_command(get_app().current_buffer.text)),
            key_bindings=key_bindings(),
            multiline=True,
            prompt_continuation=lambda width, number, wraps: "… ".rjust(width),
            bottom_toolbar=lambda: f" {chat.status_line}",
            reserve_space_for_menu=MENU_LINES,
            style=STYLE,
            output=create_output(always_prefer_tty=True),
        )

    def read(self) -> str:
        return message_of(self._prompt.prompt([("", "\n"), ("class:prompt", self._chat.prompt)]))


class PrivateHistory(FileHistory):
    """A file of former lines. A full disk costs a line its place in it, not the chat its life."""

    def store_string(self, string: str) -> None:
        with contextlib.suppress(OSError):
            super().store_string(string)


def open_history(path: Path | None = None) -> History:
    """What was written in earlier chats, from a file that its owner alone can read.

    Where it cannot be written that is said, and lines are remembered until this chat ends.
    """
    path = path or user_data_dir() / HISTORY_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        path.chmod(0o600)
    except OSError as error:
        warn(f"{path} cannot be written ({error.strerror}), so what is written here is not kept.")
        return InMemoryHistory()
    return PrivateHistory(str(path))


def key_bindings() -> KeyBindings:
    """Enter sends, Alt-Enter and Ctrl-J begin a line, Ctrl-G opens the editor, Ctrl-C clears or hints."""
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state and buffer.complete_state.current_completion:
            buffer.complete_state = None  # takes what the menu offers
        elif is_unfinished(buffer.text):
            buffer.insert_text("\n")
        elif buffer.text.strip():
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("c-j")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-g")
    def edit(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()

    @keys.add("c-c")
    def clear_or_hint(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    return keys
