"""Slash commands about what is said: again, back, anew, into a file and out of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from persona_steering.cli.render import note, out, printable
from persona_steering.cli.repl.registry import Command
from persona_steering.cli.repl.turn import answer
from persona_steering.engine.conversation import Conversation
from persona_steering.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from persona_steering.cli.repl.state import Chat


def retry(chat: Chat, argument: str) -> None:
    """Answers the last message once more."""
    answer(chat, chat.conversation.last.question, again=True)


def undo(chat: Chat, argument: str) -> None:
    """Takes the last turn back."""
    turn = chat.conversation.undo()
    note(f"Taken back: {_short(turn.question)}")


def edit(chat: Chat, argument: str) -> None:
    """Writes a message in the editor: a new one, or the last one anew."""
    from persona_steering.cli.editor import edit_text

    if argument not in ("", "last"):
        raise UsageError(f"/edit {argument} is not known.", hint="Write /edit, or /edit last.")
    old = chat.conversation.last.question if argument else ""
    text = edit_text(old, suffix=".md")
    if text is None or not text.strip():
        note("Nothing was written, so nothing is sent.")
        return
    out().print(printable(text.strip()), markup=False, style="dim")
    answer(chat, text.strip(), again=bool(argument))


def new(chat: Chat, argument: str) -> None:
    """Forgets the turns; steering, settings and system prompt stay."""
    chat.conversation = Conversation(model=chat.conversation.model, system=chat.conversation.system)
    note("A new conversation.")


def system(chat: Chat, argument: str) -> None:
    """Shows, sets or removes the system prompt."""
    if argument:
        chat.conversation.system = None if argument == "none" else argument
    text = chat.conversation.system
    note("No system prompt." if text is None else f"System prompt: {text}")


def save(chat: Chat, argument: str) -> None:
    """Writes the conversation to a file."""
    path = Path(argument).expanduser().absolute()
    if not chat.conversation.turns:
        raise UsageError("there is nothing to save yet.", hint="Ask something first.")
    if path.exists() and path not in chat.saved:
        raise UsageError(f"{path} exists already.", hint="Choose another name.")
    chat.conversation.save(path)
    chat.saved.add(path)
    count = len(chat.conversation.turns)
    note(f"Saved {count} turn{'s' if count != 1 else ''} to {path}")


def open_(chat: Chat, argument: str) -> None:
    """Goes on with a saved conversation."""
    path = Path(argument).expanduser().absolute()
    found = Conversation.load(path)
    count = len(found.turns)
    if found.model != chat.service.model.id:
        note(f"It was held with {found.model or 'another model'}.")
    chat.conversation = found.model_copy(update={"model": chat.service.model.id})
    chat.saved.add(path)
    note(f"Going on after {count} turn{'s' if count != 1 else ''}. Steering and settings are the present ones.")


def _short(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _last(chat: Chat, argument: str) -> Iterable[str]:
    return ("last",)


COMMANDS = (
    Command(
        "retry",
        "",
        "answer the last message once more",
        retry,
        details="With a fixed seed and nothing changed since, the next seed is taken; after a change, the same one.",
    ),
    Command("undo", "", "take the last message and its answer back", undo),
    Command(
        "edit",
        "[last]",
        "write a message in $EDITOR, or the last one anew",
        edit,
        _last,
    ),
    Command("new", "", "forget what was said, and nothing else", new),
    Command("system", "[TEXT]", 'set the system prompt; "none" removes it', system),
    Command(
        "save",
        "FILE",
        "save what was said: .json to open, .md to read",
        save,
        takes_path=True,
        details="A file that exists is left alone, unless this chat saved or opened it.",
    ),
    Command("open", "FILE", "go on with what was saved as .json", open_, takes_path=True),
)
