"""Answers as server-sent events, in the chunks that OpenAI's clients read."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

from persona_steering.backends.base import Completion, Piece
from persona_steering.backends.tokens import TokenLogprob as Likelihood
from persona_steering.errors import PersonaSteeringError
from persona_steering.server.answers.answering import Answers
from persona_steering.server.answers.shapes import FINISH, Head, Tracing, chat_logprobs, text_logprobs
from persona_steering.server.errors import ApiError, as_api_error, body_of, internal_error
from persona_steering.server.schemas.openai import (
    ChatChunk,
    Chunk,
    ChunkChoice,
    Delta,
    FinishReason,
    TextChoice,
    TextChunk,
)

PING = 15.0  # seconds of silence after which a comment keeps the connection open
_log = logging.getLogger("persona_steering.server")


class Stream(ABC):
    """One request's answers on their way."""

    kind: ClassVar[type[Chunk]]

    def __init__(self, head: Head, *, with_usage: bool) -> None:
        self.head, self._with_usage = head, with_usage
        self._done: dict[int, Completion] = {}
        self._tracing = [Tracing() for _ in range(head.count)]

    async def events(self, answers: Answers) -> AsyncIterator[bytes]:
        """The stream. An error in the middle is an event of its own; the end is always [DONE]."""
        try:
            for place in range(self.head.count):
                yield _event(self._first(place))
            while not answers.is_done:
                arrived = await answers.next(PING)
                if arrived is None:
                    yield b": ping\n\n"
                elif (chunk := self._chunk_of(*arrived)) is not None:
                    yield _event(chunk)
            if self._with_usage:
                done = [self._done[place] for place in sorted(self._done)]
                yield _event(self._made(usage=self.head.usage(done)))
        except PersonaSteeringError as error:
            yield _failure(as_api_error(error), error, self.head.id)
        except Exception as error:  # the status is sent, so this is the one way left to say it
            yield _failure(internal_error(), error, self.head.id)
        yield b"data: [DONE]\n\n"

    def _chunk_of(self, place: int, item: Piece | Completion) -> Chunk | None:
        """None where a token has shown nothing yet."""
        if isinstance(item, Completion):
            self._done[place] = item
            return self._made(
                self._choice(place, "", FINISH[item.finish_reason]),
                steering=self.head.echo([item]),
                changes=self.head.changes,
            )
        trace = self._tracing[place].feed(item) if self.head.steered.readings else []
        if not (item.text or item.logprobs or trace):
            return None
        choice = self._choice(place, item.text, None, item.logprobs)
        return self._made(choice.model_copy(update={"trace": trace}) if trace else choice)

    def _first(self, place: int) -> Chunk:
        steered = self.head.steered
        return self._made(
            self._opening(place), seed=self.head.seed_of(place), steering=steered.echo(), traces=steered.traces
        )

    def _made(self, *choices: ChunkChoice | TextChoice, **more: Any) -> Chunk:
        head = self.head
        # what is unset is left out of the event
        return self.kind.model_construct(
            id=head.id,
            object=self.kind.model_fields["object"].default,
            created=head.created,
            model=head.model,
            choices=list(choices),
            **more,
        )

    @abstractmethod
    def _opening(self, place: int) -> ChunkChoice | TextChoice:
        """The choice of an answer's first chunk."""

    @abstractmethod
    def _choice(
        self, place: int, text: str, finish: FinishReason | None, found: Sequence[Likelihood] = ()
    ) -> ChunkChoice | TextChoice:
        """The choice of any other chunk; `found` are its tokens' log-probabilities."""


class ChatStream(Stream):
    """In the chunks of /v1/chat/completions."""

    kind = ChatChunk

    def _opening(self, place: int) -> ChunkChoice:
        delta = Delta(role="assistant", content="")
        return ChunkChoice(index=place, delta=delta, finish_reason=None, logprobs=None)

    def _choice(
        self, place: int, text: str, finish: FinishReason | None, found: Sequence[Likelihood] = ()
    ) -> ChunkChoice:
        logprobs = chat_logprobs(found) if found else None
        delta = Delta(content=text) if finish is None else Delta()
        return ChunkChoice(index=place, delta=delta, finish_reason=finish, logprobs=logprobs)


class TextStream(Stream):
    """In the chunks of /v1/completions; with `echo` the first has the prompt."""

    kind = TextChunk

    def __init__(self, head: Head, *, with_usage: bool, echo: bool) -> None:
        super().__init__(head, with_usage=with_usage)
        self._prompts = [head.prompt_of(place) if echo else "" for place in range(head.count)]
        self._ends = [len(prompt) for prompt in self._prompts]  # where the next token begins in the text

    def _opening(self, place: int) -> TextChoice:
        return self._choice(place, self._prompts[place], None)

    def _choice(
        self, place: int, text: str, finish: FinishReason | None, found: Sequence[Likelihood] = ()
    ) -> TextChoice:
        logprobs = text_logprobs(found, self._ends[place]) if found else None
        self._ends[place] += sum(len(one.text) for one in found)
        return TextChoice(index=place, text=text, finish_reason=finish, logprobs=logprobs)


def _event(chunk: Chunk) -> bytes:
    return f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n".encode()


def _failure(error: ApiError, cause: Exception, name: str) -> bytes:
    if error.status == 500:
        _log.error("%s broke off", name, exc_info=cause)
    return f"data: {json.dumps(body_of(error))}\n\n".encode()
