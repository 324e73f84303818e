"""Server-sent events out of the feed: those of one job until it ends, and those of the whole server."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Any

from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from persona_steering.errors import PersonaSteeringError
from persona_steering.server.answers.sse import PING
from persona_steering.server.errors import ErrorBody, as_api_error, body_of
from persona_steering.server.feeds.feed import ConversationChange, News, Subscription
from persona_steering.server.model.slot import SlotStatus
from persona_steering.server.schemas.jobs import shown_event
from persona_steering.server.state import ServerState
from persona_steering.server.stores.jobs import JobStore

BATCH = 200  # events that are read at once
STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
SILENCE = b": ping\n\n"
_log = logging.getLogger("persona_steering.server")


class EventStream(StreamingResponse):
    """A response that leaves what it tells of however it ends, also when it never begins."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], source: AbstractContextManager[object]) -> None:
        super().__init__(_guarded(events), headers=STREAM_HEADERS)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._source:
            await super().__call__(scope, receive, send)


def streaming(*data: type[BaseModel], description: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route with events; `data` is what they carry, each of it named in `published.SENT`."""
    kinds = [{"$ref": f"#/components/schemas/{one.__name__}"} for one in data]
    carried = {
        "contentMediaType": "application/json",
        "contentSchema": kinds[0] if len(kinds) == 1 else {"anyOf": kinds},
    }
    # the form of OpenAPI 3.2, in which FastAPI tells of its own streams too
    item = {
        "type": "object",
        "required": ["event", "data"],
        "properties": {"event": {"type": "string"}, "id": {"type": "string"}, "data": {"type": "string", **carried}},
    }
    return {200: {"description": description, "content": {EventStream.media_type: {"itemSchema": item}}}}


def encode(event: str, data: BaseModel, *, id: int | None = None) -> bytes:
    """One event. `id` is what a client sends as Last-Event-ID when it comes back."""
    head = "" if id is None else f"id: {id}\n"
    return f"{head}event: {event}\ndata: {data.model_dump_json()}\n\n".encode()


async def follow_job(store: JobStore, job_id: str, after: int, news: Subscription) -> AsyncIterator[bytes]:
    """What happens in a job after event number `after`, until it has ended and all was told."""
    while not news.ended:
        news.take()
        job = await run_in_threadpool(store.get, job_id)  # before its events: they are all there once it has ended
        events = await run_in_threadpool(store.events, after, job_id=job_id, limit=BATCH)
        for event in events:
            after = event.seq
            yield encode(event.type, shown_event(event), id=after)
        if len(events) < BATCH and job.finished:
            return
        if not events and not await news.wait(PING):
            yield SILENCE


async def follow_server(state: ServerState, after: int | None, news: Subscription) -> AsyncIterator[bytes]:
    """The state of the model, then all news and, after event number `after` (None: from now on), those of jobs."""
    store = state.jobs.store
    after = store.last_seq if after is None else after
    yield encode("model", state.slot.status)
    while not news.ended:
        told = news.take()
        events = await run_in_threadpool(store.events, after, limit=BATCH)
        for event in events:
            after = event.seq
            yield encode("job", shown_event(event), id=after)
        for one in told:
            yield encode(_name(one), one)
        if not events and not await news.wait(PING):
            yield SILENCE


def _name(news: News) -> str:
    if isinstance(news, SlotStatus):
        return "model"
    return "conversation" if isinstance(news, ConversationChange) else "library"


async def _guarded(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The status is sent, so an event is the one way left to say what went wrong."""
    try:
        async for event in events:
            yield event
    except PersonaSteeringError as error:
        answer = as_api_error(error)
        if answer.status == 500:
            _log.error("a stream of events broke off", exc_info=error)
        yield encode("failure", ErrorBody.model_validate(body_of(answer)))
