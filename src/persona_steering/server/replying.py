"""Answers as HTTP answers: whole, or streamed; and ended at their next token when the client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TypeVar

from fastapi import Request, Response
from pydantic import BaseModel

from persona_steering.backends.base import Completion
from persona_steering.server.answering import Answers
from persona_steering.server.event_streams import EventStream
from persona_steering.server.running import RunningAnswers
from persona_steering.server.shapes import Head
from persona_steering.server.sse import PING, Stream

_MAX_NAMED = 32  # ignored fields that a header lists
Found = TypeVar("Found")


async def reply_whole(
    request: Request,
    running: RunningAnswers,
    head: Head,
    answers: Answers,
    shape: Callable[[Head, list[Completion]], BaseModel],
    headers: dict[str, str],
) -> Response:
    """All answers in one body of the given shape."""
    with running.holding(head, answers):
        done = await unless_left(request, answers, answers.completions())
    return Response(shape(head, done).model_dump_json(), media_type="application/json", headers=headers)


async def reply_streamed(
    request: Request, running: RunningAnswers, answers: Answers, stream: Stream, headers: dict[str, str]
) -> Response:
    """The answers' events. What is refused at once is refused with its status."""
    with ExitStack() as stack:
        stack.enter_context(running.holding(stream.head, answers))
        await unless_left(request, answers, answers.arrived(PING))
        response = EventStream(stream.events(answers), stack.pop_all())
    response.headers.update(headers)
    return response


async def unless_left(request: Request, answers: Answers, found: Awaitable[Found]) -> Found:
    """What is waited for. When the client leaves first, writing ends; nobody reads what is returned then."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        answers.cancel()

    watching = asyncio.create_task(left())
    try:
        return await found
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def headers_of(head: Head, ignored: dict[str, object] | None) -> dict[str, str]:
    """The recipe's hash, and which fields of the request were ignored."""
    headers = {"x-steering-hash": head.steered.recipe.hash} if head.steered.recipe else {}
    if names := sorted(ignored or {})[:_MAX_NAMED]:
        headers["x-ignored-fields"] = ", ".join(re.sub(r"[^\w.-]", "?", one, flags=re.ASCII)[:64] for one in names)
    return headers
