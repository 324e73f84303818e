"""A chat answer as server-sent events, in the chunks that OpenAI's clients read."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from persona_steering.backends.base import Completion, Piece
from persona_steering.errors import PersonaSteeringError
from persona_steering.server.answering import Answers
from persona_steering.server.errors import ApiError, as_api_error, body_of, internal_error
from persona_steering.server.schemas.openai import Usage
from persona_steering.server.steering import Steered

PING = 15.0  # seconds of silence after which a comment keeps the connection open
FINISH = {"stop": "stop", "length": "length", "cancelled": "length", "filtered": "content_filter"}
_log = logging.getLogger("persona_steering.server")


@dataclass(frozen=True)
class Stream:
    """What all chunks of one answer share."""

    id: str
    created: int
    model: str
    seeds: Sequence[int]
    steered: Steered
    with_usage: bool = False
    done: list[Completion] = field(default_factory=list)

    async def events(self, answers: Answers) -> AsyncIterator[bytes]:
        """The stream. An error in the middle is an event of its own; the end is always [DONE]."""
        with answers:
            try:
                for place in range(len(self.seeds)):
                    yield self._first(place)
                while not answers.is_done:
                    arrived = await answers.next(PING)
                    if arrived is None:
                        yield b": ping\n\n"
                    elif not isinstance(arrived[1], Piece) or arrived[1].text:
                        yield self._event(*arrived)
                if self.with_usage:
                    yield self._chunk([], usage=usage_of(self.done).model_dump())
            except PersonaSteeringError as error:
                yield _failure(as_api_error(error), error, self.id)
            except Exception as error:  # the status is sent, so this is the one way left to say it
                yield _failure(internal_error(), error, self.id)
            yield b"data: [DONE]\n\n"

    def _first(self, place: int) -> bytes:
        applied = self.steered.echo()
        return self._chunk(
            [_choice(place, {"role": "assistant", "content": ""})],
            steering=applied and applied.model_dump(exclude={"caps_engaged"}),
            seed=self.seeds[place],
        )

    def _event(self, place: int, item: Piece | Completion) -> bytes:
        if isinstance(item, Piece):
            return self._chunk([_choice(place, {"content": item.text})])
        self.done.append(item)
        # the hash is of the recipe that was applied to the last
        steering = {"hash": item.recipe_hash, "caps_engaged": item.caps_engaged} if self.steered.recipe else None
        return self._chunk([_choice(place, {}, FINISH[item.finish_reason])], steering=steering)

    def _chunk(self, choices: list[dict[str, object]], **more: object) -> bytes:
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}
        return _data({**head, "choices": choices, **more})


def usage_of(done: Sequence[Completion]) -> Usage:
    """Tokens of several answers to one prompt, which was read once."""
    written = sum(len(completion.token_ids) for completion in done)
    read = max((completion.prompt_tokens for completion in done), default=0)
    return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


def _choice(place: int, delta: dict[str, str], finish: str | None = None) -> dict[str, object]:
    return {"index": place, "delta": delta, "finish_reason": finish, "logprobs": None}


def _failure(error: ApiError, cause: Exception, name: str) -> bytes:
    if error.status == 500:
        _log.error("%s broke off", name, exc_info=cause)
    return _data(body_of(error))


def _data(value: object) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
