"""The surface that OpenAI's clients know. Personas are models too: MODEL:sage, or MODEL:sage@0.4; and presets."""

from __future__ import annotations

import time
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from persona_steering.server.answers.answering import Answers
from persona_steering.server.answers.asked import chat_requests, text_requests
from persona_steering.server.answers.model_list import model_entries, model_entry
from persona_steering.server.answers.replying import headers_of, reply_streamed, reply_whole
from persona_steering.server.answers.shapes import Head, chat_completion, text_completion
from persona_steering.server.answers.sse import ChatStream, TextStream
from persona_steering.server.answers.steering import resolve
from persona_steering.server.deps import ERRORS, ServingDep, StateDep
from persona_steering.server.feeds.streams import streaming
from persona_steering.server.ids import new_id
from persona_steering.server.schemas.openai import (
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    CompletionRequest,
    ControlAnswer,
    ControlRequest,
    ModelEntry,
    ModelList,
    TextChunk,
    TextCompletion,
)

router = APIRouter(prefix="/v1", tags=["openai"], responses=ERRORS)


@router.get("/models", operation_id="listModels")
def list_models(state: StateDep, serving: ServingDep) -> ModelList:
    """The model, then every persona that was measured to steer it, then the presets."""
    return ModelList(data=model_entries(serving, state.presets))


@router.get("/models/{model_id:path}", operation_id="getModel")
def get_model(model_id: str, state: StateDep, serving: ServingDep) -> ModelEntry:
    """One model id, also one that is not listed, such as a trait or a persona at another strength."""
    return model_entry(model_id, serving, state.presets)


@router.post(
    "/chat/completions",
    operation_id="createChatCompletion",
    response_model=ChatCompletion,
    responses=streaming(ChatChunk, description="the answer, or with stream its pieces"),
)
async def create_chat_completion(body: ChatRequest, request: Request, state: StateDep, serving: ServingDep) -> Response:
    """Answers a conversation, steered by the model id, by `steering`, or not at all."""
    steered = await run_in_threadpool(resolve, body.steering, serving, state.presets, model=body.model)
    asked = chat_requests(body, steered, serving)
    seeds = [one.sampling.seed for one in asked]
    head = Head(
        new_id("chatcmpl"), int(time.time()), body.model, steered, seeds, wants_logprobs=asked[0].logprobs is not None
    )
    headers, answers = headers_of(head, body.model_extra), Answers(serving, asked)
    if not body.stream:
        return await reply_whole(request, state.answers, head, answers, chat_completion, headers)
    stream = ChatStream(head, with_usage=body.wants_usage)
    return await reply_streamed(request, state.answers, answers, stream, headers)


@router.post("/chat/completions/control", operation_id="controlChatCompletion")
async def control_chat_completion(body: ControlRequest, state: StateDep, serving: ServingDep) -> ControlAnswer:
    """Gives an answer that is being written another steering from its next token on, or ends it there."""
    running = state.answers.get(body.id)
    if body.action == "stop":
        running.answers.cancel()
        return ControlAnswer(id=body.id, action="stop", change=None)
    model = running.head.model
    steered = await run_in_threadpool(resolve, body.steering, serving, state.presets, model=model)
    change = await run_in_threadpool(running.steer, steered)
    return ControlAnswer(id=body.id, action="steer", change=change)


@router.post(
    "/completions",
    operation_id="createCompletion",
    response_model=TextCompletion,
    responses=streaming(TextChunk, description="the continuation, or with stream its pieces"),
)
async def create_completion(
    body: CompletionRequest, request: Request, state: StateDep, serving: ServingDep
) -> Response:
    """Goes on from a text, or from several, without a chat template."""
    steered = await run_in_threadpool(resolve, body.steering, serving, state.presets, model=body.model)
    asked = text_requests(body, steered, serving)
    seeds = [one.sampling.seed for one in asked[: body.n or 1]]
    head = Head(new_id("cmpl"), int(time.time()), body.model, steered, seeds, body.prompt, body.logprobs is not None)
    headers, answers = headers_of(head, body.model_extra), Answers(serving, asked)
    if not body.stream:
        shape = partial(text_completion, echo=body.echo)
        return await reply_whole(request, state.answers, head, answers, shape, headers)
    stream = TextStream(head, with_usage=body.wants_usage, echo=body.echo)
    return await reply_streamed(request, state.answers, answers, stream, headers)
