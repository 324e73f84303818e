"""`chat`: one answer without a terminal, a conversation with one."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Terminal

import persona_steering
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.vectors import ModelIdentity, VectorStore

SHORT = ("--max-new-tokens", "8", "--seed", "3")


def test_without_a_terminal_one_answer_is_written(stored: VectorStore, on_tiny: Cli) -> None:
    chatted = on_tiny("chat", "--persona", "sage", *SHORT, stdin="hello\n")
    generated = on_tiny("generate", "hello", "--persona", "sage", *SHORT)
    assert chatted.code == 0 and chatted.out == generated.out


def test_without_a_terminal_an_empty_prompt_is_refused(on_tiny: Cli) -> None:
    assert on_tiny("chat").code == 2


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The conversations that the model was sent, as "role: text"."""
    seen: list[list[str]] = []
    stream = TransformersBackend.stream

    def spy(self: TransformersBackend, request: object, **options: object) -> object:
        seen.append([f"{m.role}: {m.content}" for m in request.messages])  # type: ignore[attr-defined]
        return stream(self, request, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(TransformersBackend, "stream", spy)
    return seen


def test_a_conversation_remembers_its_turns(on_tiny: Cli, asked: list[list[str]]) -> None:
    typed = "hello\n\n//slash\n/new\nagain\n/quit\nnever\n"
    result = on_tiny("chat", "--system", "Be kind.", *SHORT, stdin=Terminal(typed))
    assert result.code == 0
    first, second, third = asked
    assert first == ["system: Be kind.", "user: hello"]
    assert second[:2] == first and second[2].startswith("assistant: ") and second[3] == "user: /slash"
    assert third == ["system: Be kind.", "user: again"]
    assert len(result.out.splitlines()) >= 3 and ">" not in result.err.splitlines()[0]


def test_an_unknown_command_suggests_the_nearest(on_tiny: Cli, asked: list[list[str]]) -> None:
    result = on_tiny("chat", stdin=Terminal("/quti\n/help\n"))
    assert result.code == 0 and not asked
    assert "unknown command /quti. Did you mean '/quit'?" in result.err
    assert "start over" in result.err


def test_an_error_ends_the_turn_and_not_the_conversation(on_tiny: Cli, asked: list[list[str]]) -> None:
    result = on_tiny("chat", *SHORT, stdin=Terminal("hi " * 2000 + "\nhello\n"))
    assert result.code == 0
    assert "context" in result.err
    assert asked[-1] == ["user: hello"]


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Presses Ctrl-C after the first token."""
    stream = TransformersBackend.stream

    def press(self: TransformersBackend, request: object, **options: object) -> Iterator[object]:
        for i, piece in enumerate(stream(self, request, **options)):  # type: ignore[arg-type]
            if i == 0:
                os.kill(os.getpid(), signal.SIGINT)
            yield piece

    monkeypatch.setattr(TransformersBackend, "stream", press)


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_stops_the_answer_and_keeps_it(on_tiny: Cli) -> None:
    result = on_tiny("generate", "hello", "--max-new-tokens", "300", "--json", "--seed", "3")
    assert result.code == 130
    assert result.data["finish_reason"] == "cancelled" and 0 < result.data["tokens"] < 300
    chat = on_tiny("chat", "--max-new-tokens", "300", "--seed", "3", stdin=Terminal("hello\n/quit\n"))
    assert chat.code == 0 and "stopped" in chat.err


def test_a_chat_in_a_real_terminal_streams_stops_and_leaves(tiny_model: ModelIdentity, home: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(persona_steering.__file__).parents[1]),
        "PERSONA_STEER_HOME": str(home),
        "TERM": "xterm",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "persona_steering.cli.main", "chat", "--model", tiny_model.id, "--seed", "3"]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*command, "--max-new-tokens", "900"],
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        shown = read_until(master, r"base > ")
        os.write(master, b"hello\n")
        shown += read_until(master, r"hello\r\n.{20,}")
        process.send_signal(signal.SIGINT)
        shown += read_until(master, r"stopped.*base > ")
        os.write(master, b"\x04")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert "Traceback" not in shown


def read_until(terminal: int, pattern: str, seconds: float = 40) -> str:
    """What the terminal shows until it matches."""
    text, end = "", time.monotonic() + seconds
    while not re.search(pattern, text, re.DOTALL):
        assert time.monotonic() < end, f"no {pattern!r} in {text!r}"
        if select.select([terminal], [], [], 0.2)[0]:
            text += os.read(terminal, 65536).decode("utf-8", "replace")
    return text
