"""Calls to a persona-steering server. Its refusals come back as the errors that they are made of.

Nothing is asked twice: a command that was sent may have been done. What streams can be left at any moment, and the
server then ends what it is doing for it.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

from persona_steering.engine.remote.refusals import refusal
from persona_steering.errors import BusyError, PersonaSteeringError, ServerError, UsageError

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
TIMEOUT = 60.0  # seconds without a sign
SILENCE = 60.0  # seconds that a stream may be silent; the server sends a comment every 15
HEALTH_TIMEOUT = 5.0
MAX_ANSWER = 64 * 1024 * 1024  # bytes
LOOK = 0.05  # seconds between two looks at whether a stream is to be left
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    type: str
    data: str
    id: str

    def json(self) -> Any:
        """Its data. Raises ServerError."""
        return _parsed(self.data)


class ApiClient:
    """Asks the server at `url`. Safe to share between threads."""

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = TIMEOUT) -> None:
        self.url = checked_url(url)
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        host = httpx2.URL(self.url).host
        # a proxy for the world outside does not know this machine's loopback
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "headers": headers,
            "timeout": timeout,
            "trust_env": host not in _LOCAL,
        }
        self._client = httpx2.Client(**self._options)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def is_alive(self) -> bool:
        """Whether a server answers there. Raises BusyError where one takes connections and says nothing."""
        try:
            return bool(self._client.get("/healthz", timeout=HEALTH_TIMEOUT).is_success)
        except httpx2.ReadTimeout as error:
            raise BusyError(
                f"the server at {self.url} does not answer.", hint="Wait for it; or load the model here with --local."
            ) from error
        except httpx2.TransportError:
            return False

    def get(self, path: str, **query: object) -> Any:
        """What is there, as JSON. None among the query is left out. Raises what the server refuses it with."""
        return self.send("GET", path, query=query)

    def send(
        self,
        method: Method,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """The answer as JSON; None where it is empty. Raises as `get`."""
        data = self.download(method, path, body, query=query, timeout=timeout)
        return _parsed(data) if data else None

    def download(
        self,
        method: Method,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """The answer as it is. Raises as `get`."""
        with self._explained(), self._client.stream(method, path, **_asked(method, body, query, timeout)) as response:
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > MAX_ANSWER:
                    raise ServerError(f"the server at {self.url} answered with more than {MAX_ANSWER} bytes.")
        if not response.is_success:
            raise refusal(response.status_code, bytes(data), response.headers, self.url)
        return bytes(data)

    def events(
        self,
        method: Method,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Event]:
        """The events of a stream until it ends, or until `cancelled` says so, within a moment. Raises as `get`."""
        reader = _Reader(self, method, path, _asked(method, body, query, SILENCE))
        with contextlib.closing(reader):
            yield from reader.events(cancelled)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise self.failure(error) from error

    def failure(self, error: Exception) -> PersonaSteeringError:
        """A connection's failure in words."""
        where = f"the server at {self.url}"
        if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
            return BusyError(f"{where} does not answer.", hint="Wait, then ask again.")
        if isinstance(error, (httpx2.ReadError, httpx2.RemoteProtocolError)):
            return ServerError(f"{where} broke off its answer.", hint="Does it still run? Its log has the reason.")
        reason = str(error).rstrip(".") or type(error).__name__
        return ServerError(
            f"{where} cannot be reached: {reason}.",
            hint="Is it running (persona-steer serve), and is its URL right? --local does without it.",
        )

    def open_alone(self) -> httpx2.Client:
        """A client with connections of its own, which can be cut without harm to others."""
        return httpx2.Client(**self._options)


class _Reader:
    """Reads a stream in a thread of its own, so that a silent server keeps nobody from leaving."""

    def __init__(self, api: ApiClient, method: Method, path: str, options: dict[str, Any]) -> None:
        self._api = api
        self._items: queue.SimpleQueue[Event | Exception | None] = queue.SimpleQueue()
        self._socket: socket.socket | None = None
        self._left = False
        extensions = {"trace": self._note_socket}
        arguments = (method, path, {**options, "extensions": extensions})
        threading.Thread(target=self._read, args=arguments, name="stream", daemon=True).start()

    def events(self, cancelled: Callable[[], bool] | None) -> Iterator[Event]:
        while not (cancelled is not None and cancelled()):
            try:
                item = self._items.get(timeout=None if cancelled is None else LOOK)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    def close(self) -> None:
        """Cuts the connection. The server notices at once."""
        self._left = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _note_socket(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._socket = info["return_value"].get_extra_info("socket")
        if self._left:  # before there was a connection to cut
            raise httpx2.ReadError("left")

    def _read(self, method: Method, path: str, options: dict[str, Any]) -> None:
        try:
            with self._api.open_alone() as client, client.stream(method, path, **options) as response:
                if not response.is_success:
                    self._items.put(refusal(response.status_code, response.read(), response.headers, self._api.url))
                    return
                for event in httpx2.EventSource(response):
                    self._items.put(Event(event.event, event.data, event.id))
            self._items.put(None)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            self._items.put(self._api.failure(error))
        except Exception as error:  # whoever waits must hear of it
            self._items.put(error)


def checked_url(text: str) -> str:
    """The address of a server, without a path. Raises UsageError."""
    try:
        url = httpx2.URL(text.strip())
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise UsageError(f"{text!r} is not the address of a server.", hint="Write for instance http://127.0.0.1:8642.")
    port = f":{url.port}" if url.port else ""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}{port}"


def _asked(
    method: Method, body: Mapping[str, object] | None, query: Mapping[str, object] | None, timeout: float | None
) -> dict[str, Any]:
    options: dict[str, Any] = {"params": {k: v for k, v in (query or {}).items() if v is not None}}
    if body is not None:
        options["json"] = dict(body)
    elif method in ("POST", "PUT", "PATCH"):  # the server takes nothing that a form could send, not even nothing
        options["headers"] = {"content-type": "application/json"}
    if timeout is not None:
        options["timeout"] = timeout
    return options


def _parsed(data: bytes | str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ServerError(
            "the server answered with something that is not JSON.", hint="Is it a persona-steering server?"
        ) from error
