"""Slash commands about how an answer is sampled and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona_steering.cli.render import note
from persona_steering.cli.repl.registry import Command, on_off_words, on_or_off
from persona_steering.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from persona_steering.cli.repl.state import Chat


def seed(chat: Chat, argument: str) -> None:
    """Fixes or frees the seed."""
    chat.set("seed", argument)
    fixed = chat.generation.seed
    note("Every answer gets a seed of its own." if fixed is None else f"Seed {fixed} for every answer.")


def set_(chat: Chat, argument: str) -> None:
    """Shows the settings, or changes one."""
    if argument:
        key, _, value = argument.replace("=", " ", 1).partition(" ")
        if not value.strip():
            raise UsageError(f"/set {key} gives no value.", hint="Write /set temperature 0.7.")
        chat.set(key, value.strip())
    values = chat.generation.model_dump()
    note(" · ".join(f"{key} {'random' if value is None else value}" for key, value in values.items()))


def compare(chat: Chat, argument: str) -> None:
    """Answers every turn twice, or once."""
    chat.compare = on_or_off("compare", argument)
    if not chat.compare:
        note("Every turn is answered once.")
    elif chat.plan.blend:
        note("Every turn is answered by the base model too. The conversation goes on with the steered answers.")
    else:
        note("From when something is steered, every turn is answered by the base model too. See /persona.")


def _settings(chat: Chat, argument: str) -> Iterable[str]:
    return () if " " in argument else tuple(type(chat.generation).model_fields)


def _random(chat: Chat, argument: str) -> Iterable[str]:
    return ("random",)


COMMANDS = (
    Command("seed", "N", 'fix the seed; "random" frees it', seed, _random),
    Command("set", "[KEY VALUE]", "show or change the sampling", set_, _settings, "For instance /set temperature 0.7."),
    Command(
        "compare",
        "on|off",
        "answer every turn base and steered, with one seed",
        compare,
        on_off_words,
        details="Both answers see the same conversation, which goes on with the steered one.",
    ),
)
