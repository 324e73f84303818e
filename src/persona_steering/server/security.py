"""The door: what is refused before any route is asked, because of where a request comes from or what it carries.

A page that somebody visits can send requests to this machine, and by DNS rebinding even under a name of its own. So
the Host must be one of an exact list, a browser's Origin must be this server, and bodies must be JSON, which no form
can send. Requests without an Origin (curl, libraries) pass.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from persona_steering.server.errors import ApiError, body_of, internal_error
from persona_steering.server.ids import new_id

MAX_BODY = 1024 * 1024
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
OPEN_PATHS = ("/healthz", "/readyz")  # a supervisor asks without a token; they tell nothing
_FETCHED_FROM = ("same-origin", "none")  # Sec-Fetch-Site of the server's own page, and of an address typed in
_log = logging.getLogger("persona_steering.server")

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
        "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class Door:
    """Who may come in. `hosts` are the names under which the server is asked; `api_key` None lets everybody in."""

    hosts: frozenset[str]
    api_key: str | None = None
    max_body: int = MAX_BODY

    @classmethod
    def at(cls, host: str, *, allowed: Iterable[str] = (), api_key: str | None = None) -> Door:
        """The door of a server bound to `host`: its own name, those of loopback, and `allowed` ones."""
        return cls(frozenset(map(_bare, (*LOOPBACK, host, *allowed))), api_key)

    def check(self, scope: Scope) -> None:
        """Raises ApiError: 403 for a foreign Host or Origin, 401 without the token, 415 for a body not JSON."""
        headers = Headers(scope=scope)
        self._check_host(headers)
        self._check_origin(headers)
        if self.api_key is not None and scope["path"] not in OPEN_PATHS:
            self._check_token(headers.get("authorization", ""), self.api_key)
        if scope["type"] == "http" and scope["method"] in ("POST", "PUT", "PATCH"):
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise ApiError(
                    415,
                    "invalid_request_error",
                    "unsupported_media_type",
                    "the body is not JSON.",
                    hint="Send it with: Content-Type: application/json",
                )

    def _check_host(self, headers: Headers) -> None:
        given = headers.getlist("host")
        if len(given) == 1 and host_of(given[0]) in self.hosts:
            return
        named = host_of(given[0])[:100] if given else ""
        raise ApiError(
            403,
            "permission_error",
            "host_not_allowed",
            f"this server is not asked under the name {named!r}.",
            hint="Start it with --allow-host NAME to allow that.",
        )

    def _check_origin(self, headers: Headers) -> None:
        origins, sites = headers.getlist("origin"), headers.getlist("sec-fetch-site")
        # a page's scheme is not known behind a proxy, its name and port are
        own = all(_is_web(origin) and urlsplit(origin).netloc == headers.get("host") for origin in origins)
        if own and all(site in _FETCHED_FROM for site in sites):
            return
        raise ApiError(403, "permission_error", "origin_not_allowed", "a page of another site may not use this server.")

    def _check_token(self, given: str, key: str) -> None:
        kind, _, token = given.partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), key.encode()):
            return
        raise ApiError(
            401,
            "authentication_error",
            "invalid_api_key",
            "the API key is missing or wrong.",
            hint="Send it with: Authorization: Bearer KEY",
            headers={"www-authenticate": "Bearer"},
        )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_of(value: str) -> str:
    """The name in a Host header, without its port."""
    return (value[: value.find("]") + 1] if value.startswith("[") else value.partition(":")[0]).lower()


def _bare(host: str) -> str:
    """A name as `host_of` gives it: an IPv6 address in brackets, no port."""
    return f"[{host}]".lower() if host.count(":") > 1 and not host.startswith("[") else host_of(host)


def _is_web(origin: str) -> bool:
    try:
        return urlsplit(origin).scheme in ("http", "https")
    except ValueError:
        return False


class Guard:
    """The middleware: asks the door, reads the body up to its limit, and puts headers on every answer.

    What a route does not catch becomes a 500 here, and its traceback a line of the log.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        try:
            self._door.check(scope)
            if scope["type"] == "websocket":
                await self._app(scope, receive, send)
                return
            await self._app(scope, await _read(scope, receive, self._door.max_body), exchange.send)
        except ApiError as error:
            await exchange.refuse(error)
        except Exception:
            _log.exception("%s failed", exchange.id)
            await exchange.refuse(internal_error())
        finally:
            exchange.log()


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.id = new_id("req")
        self._scope, self._send, self._status, self._began = scope, send, 0, time.monotonic()
        scope.setdefault("state", {})["request_id"] = self.id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in {**HEADERS, "x-request-id": self.id}.items():
                headers[name] = value
        await self._send(message)

    async def refuse(self, error: ApiError) -> None:
        """Answers with an error, unless an answer has begun: that one is broken off."""
        if self._scope["type"] == "websocket":
            await self._send({"type": "websocket.close", "code": 1008, "reason": error.code})
            return
        if self._status:
            raise ConnectionAbortedError(f"{self.id} was broken off")
        headers = {"content-type": "application/json", **error.headers}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": json.dumps(body_of(error)).encode()})

    def log(self) -> None:
        method, spent = self._scope.get("method", "WS"), time.monotonic() - self._began
        _log.info("%s %s %r %s %.3fs", self.id, method, self._scope["path"], self._status or "-", spent)


async def _read(scope: Scope, receive: Receive, limit: int) -> Receive:
    """Reads the whole body. Returns a `receive` that gives it again. Raises ApiError above `limit` bytes."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return receive
    length = Headers(scope=scope).get("content-length", "0")
    too_large = ApiError(413, "invalid_request_error", "body_too_large", f"the body has more than {limit} bytes.")
    if length.isdecimal() and int(length[:20]) > limit:
        raise too_large
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            raise too_large
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return again
