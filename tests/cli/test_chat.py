"""`chat`: one answer without a terminal, a conversation with one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Terminal

from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.cli.repl.commands import COMMANDS
from persona_steering.engine.conversation import Conversation
from persona_steering.vectors import VectorStore

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
    assert "unknown command /quti." in result.err and "Did you mean '/quit'?" in result.err
    assert all(f"/{name} " in result.err for name in COMMANDS)


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
def test_ctrl_c_stops_the_answer_and_keeps_it(on_tiny: Cli, tmp_path: Path) -> None:
    result = on_tiny("generate", "hello", "--max-new-tokens", "300", "--json", "--seed", "3")
    assert result.code == 130
    assert result.data["finish_reason"] == "cancelled" and 0 < result.data["tokens"] < 300
    chat = on_tiny("chat", "--max-new-tokens", "300", "--seed", "3", stdin=Terminal("hello\n/save talk.json\n"))
    assert chat.code == 0 and "stopped" in chat.err
    (turn,) = Conversation.load(tmp_path / "talk.json").turns
    assert turn.stopped and f"{turn.answer}\n" == chat.out


def test_a_block_between_quotation_marks_is_one_message(on_tiny: Cli, asked: list[list[str]]) -> None:
    on_tiny("chat", *SHORT, stdin=Terminal('"""one\ntwo\n\nthree"""\n"""four"""\n"""never closed\n'))
    assert [turns[-1] for turns in asked] == ["user: one\ntwo\n\nthree", "user: four"]


def test_a_second_ctrl_c_ends_the_turn_and_not_the_conversation(
    on_tiny: Cli, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = TransformersBackend.stream

    def hang(self: TransformersBackend, request: object, **options: object) -> Iterator[object]:
        yield from stream(self, request, **options)  # type: ignore[arg-type]
        if len(asked) == 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(TransformersBackend, "stream", hang)
    result = on_tiny("chat", *SHORT, stdin=Terminal("one\ntwo\n"))
    assert result.code == 0 and "stopped; nothing of it is kept" in result.err
    assert asked[-1] == ["user: two"]


def test_help_loads_neither_a_model_library_nor_the_line_editor() -> None:
    code = (
        "import sys; from persona_steering.cli.main import run; run(['chat', '--help']); run(['compare', '--help']); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "prompt_toolkit"} & set(done.stderr.split())
