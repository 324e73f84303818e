"""The registry of slash commands: how a line becomes a command, without any model."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from persona_steering.cli.repl.commands import COMMANDS
from persona_steering.cli.repl.registry import Command, as_message, dispatch, find, is_command, registry
from persona_steering.cli.repl.terminal import is_unfinished, message_of
from persona_steering.errors import UsageError

CHAT: Any = None  # the commands of these tests do not look at it


@pytest.fixture
def calls() -> list[str]:
    return []


def commands(calls: list[str]) -> dict[str, Command]:
    def run(chat: object, argument: str) -> None:
        calls.append(argument)

    return dict(
        registry(
            [Command("none", "", "takes nothing", run), Command("one", "NAME", "needs something", run)],
            [Command("maybe", "[NAME]", "takes what there is", run)],
        )
    )


def test_a_line_is_a_command_when_it_begins_with_one_slash() -> None:
    assert is_command("/quit") and is_command("/")
    assert not is_command("//quit") and not is_command("and/or") and not is_command(" /quit")
    assert as_message("//quit") == "/quit" and as_message("//") == "/" and as_message("and/or") == "and/or"


def test_the_argument_is_all_that_follows_the_name(calls: list[str]) -> None:
    for line in ("/one  a b ", "/maybe", "/maybe a\nb", "/none "):
        dispatch(commands(calls), CHAT, line)
    assert calls == ["a b", "", "a\nb", ""]


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("/none a", "/none takes no argument", "/none."),
        ("/one", "/one needs an argument", "/one NAME."),
        ("/oen a", "unknown command /oen", "'/one'"),
        ("/", "unknown command /", "write //"),
        ("/One a", "unknown command /One", "'/one'"),
    ],
)
def test_what_is_not_a_command_as_written_is_refused(calls: list[str], line: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        dispatch(commands(calls), CHAT, line)
    assert message in refused.value.message and hint in refused.value.hint and not calls


def test_a_command_is_found_with_and_without_its_slash() -> None:
    assert find(COMMANDS, "/seed") is find(COMMANDS, "seed")


def test_every_command_says_in_a_line_what_it_does() -> None:
    assert all(name == command.name for name, command in COMMANDS.items())
    for command in COMMANDS.values():
        assert cell_len(command.usage) <= 24 and command.help
        assert 24 + cell_len(command.help) < 78, f"/help wraps {command.name} on 80 columns"
        assert command.run.__doc__


def test_the_commands_are_those_that_are_promised() -> None:
    promised = (
        "persona strength blend none safety list load unload create status why compare retry undo seed set system save "
        "new help quit"
    )
    assert set(promised.split()) <= set(COMMANDS)


@pytest.mark.parametrize(
    ("text", "unfinished", "message"),
    [
        ("hello", False, "hello"),
        ('"""one', True, '"""one'),
        ('"""', True, '"""'),
        ('"""one\ntwo"""', False, "one\ntwo"),
        ('  """one\n\n two\n"""  ', False, "one\n\n two"),
        ('say """this"""', False, 'say """this"""'),
        ('""""""', False, ""),
    ],
)
def test_a_block_ends_where_it_is_closed(text: str, unfinished: bool, message: str) -> None:
    assert is_unfinished(text) is unfinished
    assert message_of(text) == message
