"""Taking turns on the one model: chats go before the next batch of a job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

import numpy as np

from persona_steering.backends.base import (
    Activations,
    Backend,
    Capabilities,
    Completion,
    Message,
    ModelInfo,
    Request,
    Text,
)
from persona_steering.backends.tokens import TokenChoice, TokenReadings, TokenScores, Trace
from persona_steering.extraction.run import BATCH

Item = TypeVar("Item")
Turn = Callable[[], AbstractContextManager[None]]


class Lane(Protocol):
    """Whoever owns the model and says when a job may use it."""

    def turn(self) -> AbstractContextManager[None]:
        """Waits until no chat wants the model; it is the caller's until the block ends. Never nested."""


class SoleLane:
    """The lane of a process in which whoever comes first is served first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._lock:
            yield


class LanedBackend(Backend):
    """A backend as a job sees it: whatever it is asked is done in turns of at most `batch` answers or texts.

    Raises what `turn` raises, and what the backend raises. Closing it leaves the model to its owner.
    """

    def __init__(self, backend: Backend, turn: Turn, *, batch: int = BATCH) -> None:
        self._backend, self._turn, self._batch = backend, turn, batch

    @property
    def info(self) -> ModelInfo:
        return self._backend.info

    @property
    def capabilities(self) -> Capabilities:
        return self._backend.capabilities

    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_done: Callable[[int, Completion], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Completion]:
        done: list[Completion] = []
        for part in self._parts(requests):
            with self._turn():
                done += self._backend.generate(part, on_done=_shifted(on_done, len(done)), cancelled=cancelled)
        return done

    def stream(self, request: Request, *, cancelled: Callable[[], bool] | None = None) -> Iterator[str | Completion]:
        with self._turn():
            yield from self._backend.stream(request, cancelled=cancelled)

    def capture(
        self, texts: Sequence[Text], *, layers: Sequence[int] | None = None, ends: bool = False
    ) -> list[Activations]:
        found: list[Activations] = []
        for part in self._parts(texts):
            with self._turn():
                found += self._backend.capture(part, layers=layers, ends=ends)
        return found

    def score(self, texts: Sequence[Text]) -> list[TokenScores]:
        found: list[TokenScores] = []
        for part in self._parts(texts):
            with self._turn():
                found += self._backend.score(part)
        return found

    def next_tokens(self, texts: Sequence[Text], *, top: int) -> list[tuple[TokenChoice, ...]]:
        found: list[tuple[TokenChoice, ...]] = []
        for part in self._parts(texts):
            with self._turn():
                found += self._backend.next_tokens(part, top=top)
        return found

    def readings(self, texts: Sequence[Text], traces: Sequence[Trace], *, prompt: bool = False) -> list[TokenReadings]:
        found: list[TokenReadings] = []
        for part in self._parts(texts):
            with self._turn():
                found += self._backend.readings(part, traces, prompt=prompt)
        return found

    def unembed(self, direction: np.ndarray, *, top: int) -> tuple[str, ...]:
        with self._turn():
            return self._backend.unembed(direction, top=top)

    def render(self, messages: Sequence[Message]) -> str:
        return self._backend.render(messages)

    def close(self) -> None:
        """Nothing: the model belongs to whoever owns the lane."""

    def _parts(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
        for start in range(0, len(items), self._batch):
            yield items[start : start + self._batch]


def _shifted(on_done: Callable[[int, Completion], None] | None, by: int) -> Callable[[int, Completion], None] | None:
    if on_done is None:
        return None
    return lambda index, completion: on_done(by + index, completion)
