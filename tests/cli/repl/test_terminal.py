"""The chat in a pseudo-terminal: keys go in, and the screen is read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.repl.terminal import Window

from persona_steering.cli.repl.line_editor import PrivateHistory, open_history
from persona_steering.engine.conversation import Conversation
from persona_steering.vectors import ModelIdentity

LONG = ("--seed", "12", "--max-new-tokens", "700")  # a seed whose first answer is long enough to be stopped


@pytest.fixture
def window(stored: object, tiny_model: ModelIdentity, home: Path) -> Iterator[Window]:
    with Window("chat", "--model", tiny_model.id, *LONG, home=home, columns=100, rows=40) as window:
        window.wait_for("base ❯")
        yield window


def test_a_chat_from_the_first_line_to_the_last(window: Window, tmp_path: Path, home: Path) -> None:
    assert "Ctrl-D leaves" in window.text
    window.wait_for("llama · seed 12 · context 0/1024")

    # an answer that is stopped is kept
    window.type("hello\r")
    window.wait_until(lambda shown: shown.partition("hello\n")[2].strip() != "", "no answer")
    window.type("\x03")
    window.wait_for("· stopped")
    window.wait_for("tokens/s · context ")
    assert "^C" not in window.text and "context 0/" not in window.last_line

    # persona, strength, blend, safety
    window.say("/set max_new_tokens 12", "max_new_tokens 12 · seed 12")
    window.say("/persona sage", "sage 1 ❯")
    window.say("/strength 0.6", "sage 0.6 ❯")
    window.say("/blend sage:0.5,calm:-0.3", "sage 0.5 · calm −0.3 ❯")
    window.say("/safety off", "Safety is off")
    window.wait_for("· safety off")
    window.say("/persona sgae", "Did you mean 'sage'?")
    window.say("/persnoa sage", "Did you mean '/persona'")
    window.say("/persona sage 0.6", "sage 0.6 ❯")

    # several lines are one message: with Ctrl-J, pasted, and between quotation marks
    window.type("one\ntwo")
    window.type("\x1b[200~\nthree\x1b[201~")
    window.say("", "tokens · seed 12")
    window.type('"""four\rfive')
    window.say('"""', "tokens · seed 12")

    window.say("/compare on", "answered by the base model too")
    shown = window.say("six", "sage:0.6")
    assert "─ base ─" in shown
    assert any(line.count("╭") == 2 for line in shown.splitlines())  # beside each other at 100 columns
    window.say("/undo", "Taken back: six")
    window.say("/retry", "tokens · seed 13")

    # Ctrl-C on a filled line clears it, on an empty one it says how to leave
    window.type("never sent")
    window.wait_for("❯ never sent")
    window.type("\x03")
    window.wait_until(lambda shown: "never sent" not in shown, "'never sent'")
    window.type("\x03")
    window.wait_for("Ctrl-D or /quit leaves.")

    window.say("/save talk.json", "Saved 3 turns")
    window.type("\x04")
    assert window.exit_code() == 0
    assert "Traceback" not in window.text
    assert not re.search(r"\x1b\[[\d;]*\b(3|4|9|10)[0-7]\b", window.written)  # NO_COLOR is set

    turns = Conversation.load(tmp_path / "talk.json").turns
    assert [turn.question for turn in turns] == ["hello", "one\ntwo\nthree", "four\nfive"]
    assert [turn.stopped for turn in turns] == [True, False, False]
    assert [(turn.steering, turn.safety) for turn in turns] == [
        ("base", False),
        ("sage:0.6", False),
        ("sage:0.6", False),
    ]
    assert turns[2].base is not None  # answered once more while comparing
    history = home / "data" / "chat_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "+hello\n" in history.read_text()


def test_tab_completes_commands_names_and_paths(stored: object, tiny_model: ModelIdentity, home: Path) -> None:
    with Window("chat", "--model", tiny_model.id, "--no-history", home=home, columns=100) as window:
        window.wait_for("random seed · context 0/1024")
        complete(window)
        window.type("\x15/quit\r")
        assert window.exit_code() == 0
    assert not (home / "data" / "chat_history").exists()


def complete(window: Window) -> None:
    window.type("/st")
    window.wait_for("/strength [NAME] X")
    window.wait_for("/status")
    for begun, completed in (
        ("/pers", "/persona"),
        (" sa", "/persona sage"),
        ("/blend sage:0.5,ca", "/blend sage:0.5,calm:"),
        ("/create x --from-archetype pira", "/create x --from-archetype pirate"),
        ("/open home/da", "/open home/data"),
    ):
        window.type(("" if begun.startswith(" ") else "\x15") + begun)
        window.wait_for(begun)
        window.type("\t")
        window.wait_for(f"❯ {completed}")
    window.type("\x15/help set\r")
    window.wait_for("For instance /set temperature 0.7.")


def test_the_history_is_private_also_when_it_was_not(tmp_path: Path) -> None:
    file = tmp_path / "new" / "history"
    open_history(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    history = open_history(file)
    history.append_string("one\ntwo")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(open_history(file).load_history_strings()) == ["one\ntwo"]


def test_a_history_that_cannot_be_written_is_said_and_costs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    history = open_history(tmp_path / "file" / "history")
    assert "what is written here is not kept" in capsys.readouterr().err
    history.append_string("one")
    full = PrivateHistory("/dev/full")
    if os.path.exists("/dev/full"):
        full.append_string("one")
        assert full.get_strings() == ["one"]


def test_a_simple_terminal_gets_simple_lines_and_no_colour(
    stored: object, tiny_model: ModelIdentity, home: Path
) -> None:
    options = ("--model", tiny_model.id, "--seed", "3", "--max-new-tokens", "8", "--persona", "sage")
    with Window("chat", *options, home=home, TERM="dumb") as window:
        window.wait_for("sage 1 ❯")
        window.type("hello\n/help quit\n")
        window.wait_for("leave, as Ctrl-D does")
        window.type("/quit\n")
        assert window.exit_code() == 0
        assert "context" not in window.text
    assert not (home / "data" / "chat_history").exists()
