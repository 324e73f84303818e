"""How a line is read: with prompt_toolkit on a terminal that can, else plainly.

A message may have several lines: pasted, written with Alt-Enter, or between two \"\"\".
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from persona_steering.cli.repl.registry import Registry
    from persona_steering.cli.repl.state import Chat

BLOCK = '"""'


class Reader(Protocol):
    """Reads what the user writes."""

    def read(self) -> str:
        """The next message or command. Raises EOFError when the user leaves, KeyboardInterrupt on Ctrl-C."""


def make_reader(chat: Chat, commands: Registry, *, history: bool) -> Reader:
    """The best reader for this terminal. With `history` what is written is kept for the next chat."""
    if can_edit():
        from persona_steering.cli.repl.line_editor import LineEditor

        return LineEditor(chat, commands, history=history)
    return PlainReader(chat)


def can_edit() -> bool:
    """Whether there is a terminal that lines can be edited on."""
    try:
        os.ttyname(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):  # not a terminal, or not even a file
        return False
    shown = sys.stdout.isatty() or sys.stderr.isatty()
    return shown and os.environ.get("TERM", "dumb").lower() not in ("dumb", "unknown")


def is_unfinished(text: str) -> bool:
    """Whether a block was opened and not closed."""
    start = text.lstrip()
    return start.startswith(BLOCK) and BLOCK not in start[len(BLOCK) :]


def message_of(text: str) -> str:
    """What was written, without the marks of a block."""
    text = text.strip()
    if text.startswith(BLOCK) and text.endswith(BLOCK) and len(text) >= 2 * len(BLOCK):
        return text[len(BLOCK) : -len(BLOCK)].strip()
    return text


class PlainReader:
    """Lines as they come, for a terminal that cannot do more. The prompt goes where nobody looks for data."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    def read(self) -> str:
        text = self._line(self._chat.prompt)
        while is_unfinished(text):
            text += "\n" + self._line("… ")
        return message_of(text)

    def _line(self, prompt: str) -> str:
        (sys.stdout if sys.stdout.isatty() else sys.stderr).write(prompt)
        sys.stdout.flush()
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")
