"""The middleware around everything: asks the door, bounds what comes in, and puts headers on every answer.

What a route does not catch becomes a 500 here, and its traceback a line of the log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from persona_steering.server.door.keys import SOCKET_PREFIX
from persona_steering.server.door.security import HEADERS, Door, is_upload, most_bytes
from persona_steering.server.errors import RETRY_AFTER, ApiError, internal_error
from persona_steering.server.ids import new_id
from persona_steering.server.limits import LIMITS
from persona_steering.server.logs import FIELDS, REQUEST_ID
from persona_steering.server.metrics import OTHER
from persona_steering.server.reference.aliases import body_at, deprecation

_log = logging.getLogger("persona_steering.server")
_LOCKED = """\
This server asks for a key. Open the link that `persona-steer serve` has printed, or add ?token=KEY to the address.
"""
_POLICY_VIOLATION, _INTERNAL = 1008, 1011  # why a WebSocket is closed


class Guard:
    """Whoever the door lets in is handed on to `app`.

    `on_answer` is called with the method, the route's path, the status and the seconds of every request.
    """

    def __init__(
        self, app: ASGIApp, door: Door, on_answer: Callable[[str, str, int, float], None] = lambda *facts: None
    ) -> None:
        self._app, self._door, self._on_answer = app, door, on_answer
        self._sockets = 0  # open ones

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._door)
        inside = REQUEST_ID.set(exchange.id)
        try:
            self._door.check_sender(scope)
            if (reply := self._door.reply(scope)) is not None:
                await exchange.answer(reply.status, dict(reply.headers))
                return
            self._door.check_request(scope)
            if scope["type"] == "websocket":
                await self._connect(scope, receive, exchange)
            else:
                await self._app(scope, await _bounded(scope, receive), exchange.send)
        except ApiError as error:
            await exchange.refuse(error)
        except (ClientDisconnect, WebSocketDisconnect):
            _log.info("%s: the client left", exchange.id)
        except Exception:
            _log.exception("%s failed", exchange.id)
            await exchange.refuse(internal_error())
        finally:
            exchange.log(self._on_answer)
            REQUEST_ID.reset(inside)

    async def _connect(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        if self._sockets >= LIMITS.sockets:
            raise ApiError(
                429,
                "rate_limit_error",
                "too_many_sockets",
                f"{LIMITS.sockets} WebSockets are open already.",
                headers={"retry-after": str(RETRY_AFTER)},
            )
        self._sockets += 1
        try:
            # the key is no protocol, and nobody behind the door has to see it
            scope["subprotocols"] = [one for one in scope["subprotocols"] if not one.startswith(SOCKET_PREFIX)]
            await self._app(scope, receive, exchange.send)
        finally:
            self._sockets -= 1


class _Exchange:
    """One request and its answer, or one WebSocket."""

    def __init__(self, scope: Scope, send: Send, door: Door) -> None:
        self.id = new_id("req")
        self._scope, self._send, self._door = scope, send, door
        self._offered: list[str] = list(scope.get("subprotocols", []))
        self._status, self._began = 0, time.monotonic()
        scope.setdefault("state", {})["request_id"] = self.id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._add_headers(message)
        elif message["type"] == "websocket.accept":
            self._status = 101
            # a browser closes a connection on which none of those is taken that it offered; the key is the last choice
            if message.get("subprotocol") is None and self._offered:
                message["subprotocol"] = min(self._offered, key=lambda one: one.startswith(SOCKET_PREFIX))
        await self._send(message)

    async def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        """An answer of the guard's own."""
        prefix = "websocket.http.response" if self._scope["type"] == "websocket" else "http.response"
        start: Message = {
            "type": f"{prefix}.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        self._status = status
        self._add_headers(start)
        await self._send(start)
        await self._send({"type": f"{prefix}.body", "body": body})

    async def refuse(self, error: ApiError) -> None:
        """Answers with an error, unless an answer has begun: that one is broken off."""
        if self._scope["type"] == "websocket" and not self._can_refuse():
            code = _INTERNAL if error.status == 500 else _POLICY_VIOLATION
            with contextlib.suppress(RuntimeError):  # it is closed already
                await self._send({"type": "websocket.close", "code": code, "reason": error.code})
            return
        if self._status:
            raise ConnectionAbortedError(f"{self.id} was broken off")
        if error.status == 401 and self._shows_pages():
            await self.answer(401, {"content-type": "text/plain; charset=utf-8", **error.headers}, _LOCKED.encode())
            return
        headers = {"content-type": "application/json", **error.headers}
        body = body_at(self._scope["path"], error, self.id)
        await self.answer(error.status, headers, json.dumps(body).encode())

    def _shows_pages(self) -> bool:
        """Whether a person's browser asks for something to look at."""
        return self._scope.get("method") == "GET" and "text/html" in Headers(scope=self._scope).get("accept", "")

    def _can_refuse(self) -> bool:
        """Whether a WebSocket can still be answered as a request is."""
        return not self._status and "websocket.http.response" in (self._scope.get("extensions") or {})

    def _add_headers(self, start: Message) -> None:
        headers = MutableHeaders(scope=start)
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        own = self._door.headers_for(self._scope) | deprecation(self._scope["path"])
        for name, value in {**own, "x-request-id": self.id}.items():
            headers[name] = value
        if self._door.origins:
            headers.add_vary_header("Origin")

    def log(self, on_answer: Callable[[str, str, int, float], None]) -> None:
        """Says what came of it."""
        method, path, spent = self._scope.get("method", "WS"), self._scope["path"], time.monotonic() - self._began
        fields = {"method": method, "path": path, "status": self._status, "seconds": round(spent, 4)}
        line = (self.id, method, path, self._status or "-", spent)
        _log.info("%s %s %r %s %.3fs", *line, extra={FIELDS: fields})
        on_answer(method, getattr(self._scope.get("route"), "path", OTHER), self._status, spent)


async def _bounded(scope: Scope, receive: Receive) -> Receive:
    """What gives the body, up to its limit: JSON is read whole, a file as it comes. Raises ApiError beyond it."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return receive
    limit = most_bytes(scope)
    length = Headers(scope=scope).get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > limit:
        raise _too_large(limit)
    counted = _counted(receive, limit)
    return counted if is_upload(scope) else await _whole(counted)


def _counted(receive: Receive, limit: int) -> Receive:
    taken = 0

    async def count() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise _too_large(limit)
        return message

    return count


async def _whole(receive: Receive) -> Receive:
    """Reads the whole body, and gives it again."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return again


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "invalid_request_error", "body_too_large", f"the body has more than {limit} bytes.")
