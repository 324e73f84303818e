"""Slash commands about the personas and traits there are."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from persona_steering.cli.render import note, table
from persona_steering.cli.repl.registry import Command
from persona_steering.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from persona_steering.cli.repl.state import Chat


def list_(chat: Chat, argument: str) -> None:
    """Shows the personas and traits of the model."""
    from persona_steering.cli.personas import COLUMNS, NOTHING, all_entries

    names, loaded = set(chat.service.available()), set(chat.service.loaded())
    rows = []
    for entry in all_entries(chat.session):
        if entry.name in names and entry.card.kind in ("persona", "trait"):
            name, kind, _, *rest = entry.cells()
            rows.append((name, kind, "yes" if entry.name in loaded else "", *rest))
    for name in sorted(names - {row[0] for row in rows}):  # of a server with a store of its own
        rows.append((name, NOTHING, "yes" if name in loaded else "", *[NOTHING] * len(COLUMNS[3:])))
    if not rows:
        note("There is no persona yet. Make one: /create pirate --from-archetype pirate --quick")
        return
    table((*COLUMNS[:2], "in memory", *COLUMNS[3:]), rows)


def load(chat: Chat, argument: str) -> None:
    """Takes a vector into memory."""
    chat.service.load(argument)
    note(f"{argument!r} is in memory.")


def unload(chat: Chat, argument: str) -> None:
    """Drops a vector from memory."""
    if argument in chat.plan.blend:
        raise UsageError(f"{argument!r} is steering now.", hint="Write /none first, or /persona with another name.")
    chat.service.unload(argument)
    note(f"{argument!r} is no longer in memory. Its file stays.")


def create(chat: Chat, argument: str) -> None:
    """Makes a vector as the command line does, on the model that is loaded, and steers with it."""
    import click

    from persona_steering.cli.create import create as command
    from persona_steering.cli.main import translated

    try:
        words = shlex.split(argument)
    except ValueError as error:
        raise UsageError(f"the argument cannot be read: {error}.", hint="Close every quotation mark.") from error
    session, before = chat.session.nested(), set(chat.service.available())
    try:
        with command.make_context("/create", words, obj=session) as context:
            session.check_model_of(chat.session)
            command.invoke(context)
    except click.exceptions.Exit:  # --help
        return
    except click.ClickException as error:
        raise translated(error) from error
    made = [name for name in chat.service.available() if name not in before]  # none in a dry run
    if made:
        chat.steer(dict.fromkeys(made, chat.session.config.steering.default_strength))


def _available(chat: Chat, argument: str) -> Iterable[str]:
    return chat.service.available()


def _loaded(chat: Chat, argument: str) -> Iterable[str]:
    return chat.service.loaded()


def _create_words(chat: Chat, argument: str) -> Iterable[str]:
    """What the shell would complete, too."""
    from click.shell_completion import ShellComplete

    from persona_steering.cli.create import create as command

    *words, last = argument.split(" ")
    found = ShellComplete(command, {}, "create", "").get_completions(words, last)
    return [item.value for item in found if item.type == "plain"]


COMMANDS = (
    Command("list", "", "show the personas and traits there are", list_),
    Command("load", "NAME", "take a persona or trait into memory", load, _available),
    Command("unload", "NAME", "drop one from memory; its file stays", unload, _loaded),
    Command(
        "create",
        "NAME …",
        "make a persona, and steer with it",
        create,
        _create_words,
        details="For instance /create pirate --from-archetype pirate --quick. /create --help shows all arguments.",
    ),
)
