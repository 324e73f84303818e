"""Answers of the native routes as server-sent events: `start`, `token`s, `done`, or `error`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from persona_steering.errors import PersonaSteeringError
from persona_steering.server.answers.conversing import Reply
from persona_steering.server.answers.lanes import Lanes
from persona_steering.server.answers.sse import PING
from persona_steering.server.errors import ApiError, ErrorBody, as_api_error, body_of
from persona_steering.server.feeds.streams import SILENCE, encode
from persona_steering.server.schemas.conversations import Failed, Finished, WrittenToken
from persona_steering.server.stores.conversation_models import MessageNode


async def reply_events(reply: Reply) -> AsyncIterator[bytes]:
    """An answer that is written into a conversation."""
    yield encode("start", reply.started)
    while True:
        event = await reply.next(PING)
        if event is None:
            yield SILENCE
        elif isinstance(event, WrittenToken):
            yield encode("token", event)
        else:
            yield encode("done", event) if isinstance(event, Finished) else _failed(event.error, event.answer)
            return


async def lane_events(lanes: Lanes) -> AsyncIterator[bytes]:
    """A comparison: every token says of which lane it is, and every lane has its `done`."""
    yield encode("start", lanes.started)
    try:
        while not lanes.is_done:
            event = await lanes.next(PING)
            if event is None:
                yield SILENCE
            else:
                yield encode("token" if isinstance(event, WrittenToken) else "done", event)
    except PersonaSteeringError as error:
        yield _failed(as_api_error(error))


def _failed(error: ApiError, answer: MessageNode | None = None) -> bytes:
    return encode("error", Failed(error=ErrorBody.model_validate(body_of(error)).error, answer=answer))
