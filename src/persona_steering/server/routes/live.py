"""The live WebSocket: answers that are steered while they are written."""

from __future__ import annotations

import contextlib

from fastapi import APIRouter, WebSocket
from pydantic import TypeAdapter
from starlette.websockets import WebSocketDisconnect

from persona_steering.server.errors import ApiError
from persona_steering.server.limits import LIMITS
from persona_steering.server.live.connection import Session
from persona_steering.server.live.sockets import Inbox, parse_frame
from persona_steering.server.schemas.live import Frame, LiveRequest
from persona_steering.server.state import ServerState

router = APIRouter(prefix="/api/v1", tags=["live"])
_FRAME = TypeAdapter(LiveRequest)


@router.websocket("/live")
async def live(socket: WebSocket) -> None:
    """Takes frames and answers them until the client leaves, or is silent for too long."""
    state: ServerState = socket.app.state.server

    async def send(frame: Frame) -> None:
        with contextlib.suppress(WebSocketDisconnect):  # the inbox hears of that too
            await socket.send_text(frame.model_dump_json())

    await socket.accept()
    async with Inbox(socket) as inbox, Session(state, send) as session:
        while inbox.is_open:
            text = await inbox.next(LIMITS.idle_seconds)
            if text is not None:
                await _take(session, text)
            elif inbox.is_open and not session.is_busy:
                await socket.close(1001, "idle")
                return


async def _take(session: Session, text: str) -> None:
    try:
        frame = parse_frame(_FRAME, text)
    except ApiError as error:
        await session.refuse(error)
        return
    await session.take(frame)
