"""The paths of the earlier web system, under which its clients go on."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request, WebSocket
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, TypeAdapter
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from persona_steering.backends.base import Completion
from persona_steering.errors import PersonaSteeringError
from persona_steering.server.answers.answering import Answers
from persona_steering.server.deps import REFERENCE_ERRORS, StateDep
from persona_steering.server.errors import as_api_error
from persona_steering.server.feeds.waiting import on_leaving
from persona_steering.server.limits import LIMITS
from persona_steering.server.live.sockets import Inbox, parse_frame
from persona_steering.server.page import is_built
from persona_steering.server.reference import web_system
from persona_steering.server.reference.aliases import deprecation
from persona_steering.server.schemas.reference import (
    ChunkFrame,
    CreatingReply,
    DeletedReply,
    DoneFrame,
    ErrorFrame,
    LoadReply,
    NewPersona,
    NewTrait,
    ScaleReply,
    ScaleRequest,
    StatusFrame,
    WebAnswer,
    WebChat,
    WebPersona,
    WebStatus,
    WebTrait,
)
from persona_steering.server.state import ServerState

router = APIRouter(tags=["earlier systems"], responses=REFERENCE_ERRORS, deprecated=True)
_CHAT = TypeAdapter(WebChat)
_log = logging.getLogger("persona_steering.server")


@router.get("/api/status", operation_id="getReferenceStatus")
def get_status(state: StateDep) -> WebStatus:
    """What is loaded, and what is being made."""
    return web_system.status(state)


@router.post("/api/load-model", operation_id="loadReferenceModel")
def load_model(state: StateDep) -> LoadReply:
    """Loads the configured model, unless one is there or on its way. Answers when it is there."""
    return web_system.load(state)


@router.get("/api/personas", operation_id="listReferencePersonas")
def list_personas(state: StateDep) -> list[WebPersona]:
    """The stored personas."""
    return web_system.personas(state)


@router.post("/api/personas", operation_id="createReferencePersona")
def create_persona(body: NewPersona, state: StateDep) -> CreatingReply:
    """Queues a job that makes a persona. The status names it until the job has ended."""
    return web_system.create_persona(state, body)


@router.delete("/api/personas/{name}", operation_id="deleteReferencePersona")
def delete_persona(name: str, state: StateDep) -> DeletedReply:
    """Removes a persona from disk and memory."""
    return web_system.delete(state, "persona", name)


@router.get("/api/traits", operation_id="listReferenceTraits")
def list_traits(state: StateDep) -> list[WebTrait]:
    """The stored traits."""
    return web_system.traits(state)


@router.post("/api/traits", operation_id="createReferenceTrait")
def create_trait(body: NewTrait, state: StateDep) -> CreatingReply:
    """Queues a job that makes a trait. The status names it until the job has ended."""
    return web_system.create_trait(state, body)


@router.delete("/api/traits/{name}", operation_id="deleteReferenceTrait")
def delete_trait(name: str, state: StateDep) -> DeletedReply:
    """Removes a trait from disk and memory."""
    return web_system.delete(state, "trait", name)


@router.post("/api/chat", operation_id="createReferenceAnswer")
async def chat(body: WebChat, request: Request, state: StateDep) -> WebAnswer:
    """Answers one message. With safety_enabled the floor on the safety axis holds, whatever else steers."""
    serving, asked = await run_in_threadpool(web_system.request_of, state, body)
    with Answers(serving, [asked]) as answers:
        async with on_leaving(request, answers.cancel):
            done = await answers.completions()
    return WebAnswer(response=done[0].text)


@router.post("/api/steering-scale", operation_id="setReferenceScale")
async def set_scale(body: ScaleRequest, state: StateDep) -> ScaleReply:
    """Multiplies the weights of these paths from now on. The server's process keeps it, no file does."""
    return ScaleReply(steering_scale=web_system.set_scale(state, body.scale))


@router.get(
    "/visualization",
    operation_id="openReferenceVisualization",
    response_class=RedirectResponse,
    responses={404: {"content": {"text/plain": {}}, "description": "the page was not built with this server"}},
)
async def visualization() -> Response:
    """Leads to the page's Lab, where sweeps are drawn."""
    if is_built():
        return RedirectResponse("/#/lab", 307)
    return PlainTextResponse("The page was not built with this server. Its sweeps are at /api/v1/sweeps.\n", 404)


@router.websocket("/ws/chat")
async def chat_socket(socket: WebSocket) -> None:
    """Answers one message after the other, piece by piece as they are written."""
    state: ServerState = socket.app.state.server
    headers = [(name.encode(), value.encode()) for name, value in deprecation("/ws/chat").items()]
    await socket.accept(headers=headers)
    async with Inbox(socket) as inbox:
        while (text := await inbox.next(LIMITS.idle_seconds)) is not None:
            await inbox.unless_left(_answer(socket, state, text))
        if inbox.is_open:
            await socket.close(1001, "idle")


async def _answer(socket: WebSocket, state: ServerState, text: str) -> None:
    """One answer, and whatever went wrong with it, as frames."""
    try:
        serving, asked = await run_in_threadpool(web_system.request_of, state, parse_frame(_CHAT, text))
        with Answers(serving, [asked]) as answers:
            await _send(socket, StatusFrame())
            while (arrived := await answers.next()) is not None:
                item = arrived[1]
                if isinstance(item, Completion):
                    break
                if item.text:
                    await _send(socket, ChunkFrame(content=item.text, done=False))
        await _send(socket, ChunkFrame(content="", done=True))
        await _send(socket, DoneFrame())
    except PersonaSteeringError as error:
        refusal = as_api_error(error)
        if refusal.status == 500:
            _log.error("an answer on /ws/chat failed", exc_info=error)
        await _send(socket, ErrorFrame(error=str(refusal)))


async def _send(socket: WebSocket, frame: BaseModel) -> None:
    await socket.send_text(frame.model_dump_json())
