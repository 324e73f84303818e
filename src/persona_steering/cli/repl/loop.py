"""The loop of a chat: a line is a command or a message. An error ends the turn, never the conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona_steering.cli.render import err, note, show_error
from persona_steering.cli.repl.commands import COMMANDS
from persona_steering.cli.repl.registry import as_message, dispatch, is_command
from persona_steering.cli.repl.terminal import make_reader
from persona_steering.cli.repl.turn import answer
from persona_steering.errors import CancelledError

if TYPE_CHECKING:
    from persona_steering.cli.repl.state import Chat
    from persona_steering.cli.repl.terminal import Reader


def converse(chat: Chat, *, history: bool = True) -> None:
    """Talks until the user leaves."""
    reader = make_reader(chat, COMMANDS, history=history)
    info = chat.service.model
    note(f"{info.id} on {info.device} · Ctrl-C stops an answer · Ctrl-D leaves · /help", quiet=chat.session.quiet)
    while not chat.leaving:
        line = read(reader)
        if line is None:
            break
        if line:
            take(chat, line)


def read(reader: Reader) -> str | None:
    """What the user wrote, "" after Ctrl-C, None when they leave."""
    try:
        return reader.read()
    except EOFError:
        err().print()
        return None
    except KeyboardInterrupt:
        note("Ctrl-D or /quit leaves.")
        return ""


def take(chat: Chat, line: str) -> None:
    """One line from the user. Whatever goes wrong is said."""
    from persona_steering.cli.main import translated

    try:
        if is_command(line):
            dispatch(COMMANDS, chat, line)
        else:
            answer(chat, as_message(line))
    except KeyboardInterrupt:
        show_error(CancelledError("stopped; nothing of it is kept."))
    except BrokenPipeError:
        raise
    except Exception as error:
        show_error(translated(error))
