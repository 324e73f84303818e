"""A chat as a function: lines in, what was said after each of them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from tests.cli.conftest import Cli, Result, Terminal

from persona_steering.backends.base import Request
from persona_steering.backends.transformers.backend import TransformersBackend

SHORT = ("--max-new-tokens", "8", "--seed", "3")
PROMPT = " ❯ "


@dataclass(frozen=True)
class Spoken:
    """What a chat did: `prompts[i]` stood before line i, and `replies[i]` was said after it, on stderr."""

    result: Result
    prompts: list[str]
    replies: list[str]


Talk = Callable[..., Spoken]


@pytest.fixture
def talk(on_tiny: Cli) -> Talk:
    """A chat on a terminal that can only show lines; its answers go to stdout, all else to stderr."""

    def converse(*lines: str, options: tuple[str, ...] = SHORT) -> Spoken:
        result = on_tiny("chat", *options, stdin=Terminal("".join(f"{line}\n" for line in lines)))
        assert result.code == 0 and "Traceback" not in result.err, result.err
        first, *replies = result.err.split(PROMPT)
        prompts = [part.rpartition("\n")[2] for part in (first, *replies[:-1])]
        return Spoken(result, prompts, replies)

    return converse


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The requests that the model was sent."""
    seen: list[Request] = []
    stream, generate = TransformersBackend.stream, TransformersBackend.generate

    def spy_stream(self: TransformersBackend, request: Request, **options: object) -> Iterator[object]:
        seen.append(request)
        return stream(self, request, **options)  # type: ignore[arg-type]

    def spy_generate(self: TransformersBackend, requests: list[Request], **options: object) -> object:
        seen.extend(requests)
        return generate(self, requests, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(TransformersBackend, "stream", spy_stream)
    monkeypatch.setattr(TransformersBackend, "generate", spy_generate)
    return seen


def contents(request: Request) -> list[str]:
    """What a request says, as "role: text"."""
    return [f"{message.role}: {message.content}" for message in request.messages]
