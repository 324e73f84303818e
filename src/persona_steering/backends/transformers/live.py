"""A batch that never closes: requests come and go between two tokens, each with its own recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from persona_steering.backends.base import Arrival, LiveBatch, Piece, Request
from persona_steering.backends.transformers.batching import memory_error
from persona_steering.backends.transformers.decoding import DecodingBatch
from persona_steering.backends.transformers.prompts import PromptEncoder
from persona_steering.backends.transformers.streaming import AnswerStream
from persona_steering.errors import NotFoundError
from persona_steering.interventions import Recipe

Open = Callable[[Sequence[tuple[int, Request]]], DecodingBatch]


class RollingBatch(LiveBatch):
    """Newcomers' prompts are computed on their own, and then their rows join those that are already writing.

    `open_batch` checks requests and makes a batch of them. Models whose cache cannot be joined (with a state beside
    keys and values) write in several batches that take turns.
    """

    def __init__(self, open_batch: Open, encoder: PromptEncoder) -> None:
        self._open, self._encoder = open_batch, encoder
        self._batches: list[DecodingBatch] = []
        self._answers: dict[int, AnswerStream] = {}

    def __len__(self) -> int:
        return sum(len(batch.rows) for batch in self._batches)

    def admit(self, arrivals: Sequence[Arrival]) -> None:
        batch = self._open([(arrival.key, arrival.request) for arrival in arrivals])
        with memory_error(f"{len(arrivals)} new requests beside {len(self)}"):
            batch.start()
        self._answers |= {row.index: AnswerStream(row, self._encoder) for row in batch.rows}
        if self._batches and batch.can_join and self._batches[0].can_join:
            self._batches[0].join(batch)
        else:
            self._batches.append(batch)

    def advance(self) -> list[Piece]:
        pieces = []
        for batch in self._batches:
            with memory_error(f"{len(self)} answers at once"):
                writing = [row for row in batch.advance() if row.finish is None]
            pieces += [self._answers[row.index].piece(row) for row in writing]
            for key, completion in batch.done.items():
                pieces.append(replace(self._answers.pop(key).end(completion), error=batch.failed.pop(key, None)))
            batch.done.clear()
        self._batches = [batch for batch in self._batches if batch.rows]
        return pieces

    def steer(self, key: int, recipe: Recipe) -> int:
        return self._holder(key).steer(key, recipe)

    def stop(self, key: int) -> None:
        self._holder(key).stop(key)

    def _holder(self, key: int) -> DecodingBatch:
        for batch in self._batches:
            if any(row.index == key for row in batch.rows):
                return batch
        raise NotFoundError(f"no answer with the key {key} is being written.", hint="It may have ended.")
