"""A writer behind a real HTTP server, on a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from tests.backends.fake_server import FakeServer, Script, serving

from persona_steering.backends.openai import OpenAIBackend


class Scripted(OpenAIBackend):
    """The remote backend with its server at hand, which never really waits."""

    def __init__(self, server: FakeServer) -> None:
        super().__init__(server.url, "writer", concurrency=1, max_retries=2, sleep=lambda seconds: None, timeout=5)
        self.server = server


@pytest.fixture
def writer() -> Iterator[Callable[[Script], Scripted]]:
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(Scripted(stack.enter_context(serving(script))))
