"""Answers as HTTP answers: whole, or streamed; and ended at their next token when the client leaves."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack

from fastapi import Request, Response
from pydantic import BaseModel

from persona_steering.backends.base import Completion
from persona_steering.server.answers.answering import Answers
from persona_steering.server.answers.running import RunningAnswers
from persona_steering.server.answers.shapes import Head
from persona_steering.server.answers.sse import PING, Stream
from persona_steering.server.feeds.streams import EventStream
from persona_steering.server.feeds.waiting import on_leaving

_MAX_NAMED = 32  # ignored fields that a header lists


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
        async with on_leaving(request, answers.cancel):
            done = await answers.completions()
    return Response(shape(head, done).model_dump_json(), media_type="application/json", headers=headers)


async def reply_streamed(
    request: Request, running: RunningAnswers, answers: Answers, stream: Stream, headers: dict[str, str]
) -> Response:
    """The answers' events. What is refused at once is refused with its status."""
    with ExitStack() as stack:
        stack.enter_context(running.holding(stream.head, answers))
        async with on_leaving(request, answers.cancel):
            await answers.arrived(PING)
        response = EventStream(stream.events(answers), stack.pop_all())
    response.headers.update(headers)
    return response


def headers_of(head: Head, ignored: dict[str, object] | None) -> dict[str, str]:
    """The recipe's hash, and which fields of the request were ignored."""
    headers = {"x-steering-hash": head.steered.recipe.hash} if head.steered.recipe else {}
    if names := sorted(ignored or {})[:_MAX_NAMED]:
        headers["x-ignored-fields"] = ", ".join(re.sub(r"[^\w.-]", "?", one, flags=re.ASCII)[:64] for one in names)
    return headers
