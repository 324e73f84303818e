"""The surface that OpenAI's clients know. Personas are models too: MODEL:sage, or MODEL:sage@0.4."""

from __future__ import annotations

import asyncio
import re
import time

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from persona_steering.backends.base import Completion
from persona_steering.server.answering import Answers
from persona_steering.server.asked import requests_of
from persona_steering.server.deps import ERRORS, ServingDep, StateDep
from persona_steering.server.ids import new_id
from persona_steering.server.schemas.openai import (
    AnswerMessage,
    ChatCompletion,
    ChatRequest,
    Choice,
    ModelEntry,
    ModelList,
)
from persona_steering.server.serving import Serving, created
from persona_steering.server.sse import FINISH, PING, Stream, usage_of
from persona_steering.server.steering import Steered, resolve
from persona_steering.vectors.card import Card

router = APIRouter(prefix="/v1", tags=["openai"], responses=ERRORS)
_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_MAX_NAMED = 32  # ignored fields that a header lists


@router.get("/models", operation_id="listModels")
def list_models(serving: ServingDep) -> ModelList:
    """The model, then every persona that was measured to steer it."""
    base = ModelEntry(id=serving.model_id, created=serving.started, root=serving.model_id)
    return ModelList(data=[base, *(_persona_entry(card, serving) for card in serving.ready_personas())])


@router.get("/models/{model_id:path}", operation_id="getModel")
def get_model(model_id: str, serving: ServingDep) -> ModelEntry:
    """One model id, also one that is not listed, such as a trait or a persona at another strength."""
    name, strength = serving.variant_of(model_id)
    for card in serving.ready_personas():
        if strength is not None and name == card.name:
            return _persona_entry(card, serving).model_copy(update={"id": model_id})
    parent = serving.model_id if name else None
    return ModelEntry(id=model_id, created=serving.started, root=serving.model_id, parent=parent)


def _persona_entry(card: Card, serving: Serving) -> ModelEntry:
    found = card.calibration
    coherence = found.coherence.mean if found and found.coherence else None
    return ModelEntry(
        id=f"{serving.model_id}:{card.name}",
        created=created(card, serving.started),
        root=serving.model_id,
        parent=serving.model_id,
        steering={
            "kind": card.kind,
            "default_coefficient": serving.config.steering.default_strength,
            "layers": list(found.layers) if found else [],
            "coherence_at_1": coherence,
        },
    )


@router.post(
    "/chat/completions",
    operation_id="createChatCompletion",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": {}}, "description": "the answer, or with stream its pieces"}},
)
async def create_chat_completion(body: ChatRequest, request: Request, state: StateDep, serving: ServingDep) -> Response:
    """Answers a conversation, steered by the model id, by `steering`, or not at all."""
    steered = await run_in_threadpool(resolve, body.steering, serving, state.presets, model=body.model)
    asked = requests_of(body, steered, serving)
    headers = _headers(body, steered)
    name, seeds, now = new_id("chatcmpl"), [one.sampling.seed for one in asked], int(time.time())
    answers = Answers(serving, asked)
    if not body.stream:
        with answers:
            done = await _unless_left(answers, request)
        whole = _whole(name, now, body.model, done, steered, seeds[0])
        return JSONResponse(whole.model_dump(), headers=headers)
    try:
        await answers.arrived(PING)  # so that what is refused at once is refused with its status
    except BaseException:
        answers.cancel()
        raise
    usage = body.stream_options is not None and body.stream_options.include_usage
    stream = Stream(name, now, body.model, seeds, steered, usage)
    return StreamingResponse(
        stream.events(answers), media_type="text/event-stream", headers={**headers, **_STREAM_HEADERS}
    )


async def _unless_left(answers: Answers, request: Request) -> list[Completion]:
    """The whole answers. When the client leaves first, writing ends; nobody reads what is returned then."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        answers.cancel()

    watching = asyncio.create_task(left())
    try:
        return await answers.completions()
    finally:
        watching.cancel()


def _whole(
    name: str,
    now: int,
    model: str,
    done: list[Completion],
    steered: Steered,
    seed: int,
) -> ChatCompletion:
    choices = [
        Choice(index=place, message=AnswerMessage(content=one.text), finish_reason=FINISH[one.finish_reason])
        for place, one in enumerate(done)
    ]
    applied = steered.echo(caps_engaged=sum(one.caps_engaged for one in done))
    return ChatCompletion(
        id=name, created=now, model=model, choices=choices, usage=usage_of(done), seed=seed, steering=applied
    )


def _headers(body: ChatRequest, steered: Steered) -> dict[str, str]:
    headers = {"x-steering-hash": steered.recipe.hash} if steered.recipe else {}
    if ignored := sorted(body.model_extra or {})[:_MAX_NAMED]:
        headers["x-ignored-fields"] = ", ".join(re.sub(r"[^\w.-]", "?", one, flags=re.ASCII)[:64] for one in ignored)
    return headers
