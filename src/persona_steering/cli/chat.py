"""`chat`: a conversation, streaming. Without a terminal: one answer to what stdin holds."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from persona_steering.cli.context import Session, answer_options, model_options, pass_session
from persona_steering.errors import PersonaSteeringError, nearest

if TYPE_CHECKING:
    from persona_steering.backends.base import Message
    from persona_steering.engine.steering import Steering

COMMANDS = {
    "/quit": "leave (as Ctrl-D does)",
    "/new": "start over",
    "/help": "show this; a message that starts with a slash is written with two",
}


@click.command()
@answer_options
@model_options
@pass_session
def chat(session: Session) -> None:
    """Talk with the model. Ctrl-C stops an answer and keeps it; Ctrl-D or /quit leaves.

    Without a terminal, one answer to what stdin holds is written.

    \b
    Examples:
      persona-steer chat --persona pirate --strength 0.8
      echo "What is courage?" | persona-steer chat --blend sage:0.5,pirate:0.4
    """
    if sys.stdin.isatty():
        converse(session)
        return
    from persona_steering.cli.generate import answer_once, read_stdin

    answer_once(session, read_stdin())


def converse(session: Session) -> None:
    """The loop: one turn after the other until the user leaves. An error ends a turn, not the conversation."""
    from persona_steering.backends.base import Message
    from persona_steering.cli.render import note, warn

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # its import gives input() line editing and history
    blend = session.blend()
    steering = session.engine.steering(blend)
    for text in steering.warnings:
        warn(text)
    note(f"{session.model.identity.id} · {steering.describe()} · /help", quiet=session.quiet)
    opening = [Message("system", session.system)] if session.system else []
    messages = list(opening)
    while (line := read_line(f"{steering.describe()} > ")) is not None:
        if line == "/quit":
            break
        if line == "/new":
            messages = list(opening)
            note("A new conversation.", quiet=session.quiet)
        elif line.startswith("/") and not line.startswith("//"):
            note(command_help(line))
        elif line:
            messages = take_turn(session, steering, messages, line.removeprefix("/"))


def take_turn(session: Session, steering: Steering, messages: list[Message], text: str) -> list[Message]:
    """The conversation with `text` and its answer added, or as it was when that failed."""
    from persona_steering.backends.base import Message
    from persona_steering.cli.generate import applied
    from persona_steering.cli.interrupts import stoppable
    from persona_steering.cli.render import note, stream_answer, warn

    asked = [*messages, Message("user", text)]
    sampling = session.model.sampling()
    try:
        with stoppable() as stopped:
            done = stream_answer(session.engine.stream(asked, steering, sampling=sampling, cancelled=stopped))
    except PersonaSteeringError as error:
        warn(str(error))
        return messages
    note(applied(done, steering, sampling), quiet=session.quiet)
    return [*asked, Message("assistant", done.text)]


def read_line(prompt: str) -> str | None:
    """What the user writes, stripped; None when they leave. Ctrl-C drops the line."""
    from persona_steering.cli.render import err, note

    try:
        if sys.stdout.isatty():
            return input(prompt).strip()
        err().print(prompt, end="", markup=False)  # stdout is for data
        return input().strip()
    except EOFError:
        err().print()
        return None
    except KeyboardInterrupt:
        err().print()
        note("Ctrl-D or /quit leaves.")
        return ""


def command_help(line: str) -> str:
    """The slash commands; for an unknown one, the nearest."""
    word = line.split()[0]
    known = "\n".join(f"  {name:<7}{meaning}" for name, meaning in COMMANDS.items())
    return known if word == "/help" else f"unknown command {word}. {nearest(word, COMMANDS)}"
