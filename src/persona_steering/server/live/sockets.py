"""A WebSocket's incoming side: frames are read beside whatever else is done, so that leaving is noticed at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from persona_steering.server.invalid import as_refusal
from persona_steering.server.limits import LIMITS

AHEAD = 256  # frames that may lie unread, and
AHEAD_CHARACTERS = LIMITS.body_bytes  # how long they may be together
_POLICY_VIOLATION = 1008

Frame = TypeVar("Frame")


class Inbox:
    """The texts that come in on a WebSocket. Use it in an `async with` block, after `accept`.

    Who sends on and on without waiting for answers is let go: only by reading on is it heard that somebody left.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._texts: asyncio.Queue[str] = asyncio.Queue(AHEAD)
        self._unread = 0  # characters
        self._is_flooded = False
        self._reading = asyncio.create_task(self._read())

    async def next(self, timeout: float) -> str | None:
        """The next text; None when the other side left, or was silent for `timeout` seconds."""
        getting = asyncio.ensure_future(self._texts.get())
        try:
            await asyncio.wait({getting, self._reading}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            text = getting.result() if getting.done() else None
            self._unread -= len(text or "")
            return text
        finally:
            getting.cancel()

    async def unless_left(self, work: Coroutine[Any, Any, None]) -> None:
        """Does the work, or gives it up when the other side leaves."""
        working = asyncio.create_task(work)
        try:
            await asyncio.wait({working, self._reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect):
                await working

    @property
    def is_open(self) -> bool:
        """Whether the other side is there."""
        return not self._reading.done()

    async def _read(self) -> None:
        while (message := await self._socket.receive())["type"] != "websocket.disconnect":
            text = message.get("text") or ""  # bytes are no frame: refused as an empty text is
            self._is_flooded = self._texts.full() or self._unread + len(text) > AHEAD_CHARACTERS
            if self._is_flooded:
                return
            self._unread += len(text)
            self._texts.put_nowait(text)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        if self._is_flooded:
            await self._socket.close(_POLICY_VIOLATION, "too much at once")


def parse_frame(form: TypeAdapter[Frame], text: str) -> Frame:
    """A frame of the form. Raises ApiError 400 that names what is wrong, and never repeats what was sent."""
    try:
        return form.validate_json(text)
    except ValidationError as error:
        refusal = as_refusal(RequestValidationError(error.errors(include_url=False)))
        refusal.message = refusal.message.replace("the body", "the frame")
        raise refusal from None
