"""Calls to an OpenAI-compatible server: bounded in time and size, retried, with errors that say what to do.

Retried are connection errors, time-outs, answers that are cut off or no JSON, and the statuses of a server that is
busy or ill; the wait doubles, and a server's own Retry-After is honoured. What a server says is shown in errors; a
key never is.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2

from persona_steering.errors import CancelledError, ServerError, ServerRefusalError, UsageError

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
FIRST_WAIT = 0.5  # seconds; doubled with every attempt
LONGEST_WAIT = 60.0  # a server that asks for more is not waited for
MAX_ANSWER = 16 * 1024 * 1024  # bytes
_SHOWN = 300  # characters of what a server says
_Result = TypeVar("_Result")


class _GarbledError(Exception):
    """An answer with a good status that is not a JSON object. The text is what the server said, shortened."""


_Failure = httpx2.TransportError | ServerRefusalError | _GarbledError


class HttpClient:
    """Posts JSON below one base URL. Safe to share between threads.

    timeout: seconds for one attempt as a whole, so that a server which hangs or drips is given up.
    max_retries: further attempts after the first. sleep: how to wait between them.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 120.0,
        max_retries: int = 4,
        connections: int = 8,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        url = _checked_url(base_url)
        self.address = _shown_address(url)
        self._key = (api_key or "").strip()
        self._timeout, self._max_retries, self._sleep = timeout, max_retries, sleep
        self._client = httpx2.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=timeout,
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def post(self, path: str, body: dict[str, Any], *, cancelled: Callable[[], bool] | None = None) -> dict[str, Any]:
        """The JSON object that the server answers with.

        `cancelled` is asked before every attempt. Raises ServerError, its kind RefusedError for a status that says
        no, and CancelledError.
        """
        return self._retried(lambda: self._post_once(path, body), cancelled)

    def stream(
        self, path: str, body: dict[str, Any], *, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The JSON objects of a stream of server-sent events, until "[DONE]" or the stream's end.

        Only what comes before the first of them is retried, since what was shown cannot be taken back. `timeout`
        then bounds every wait for more. Raises as `post`.
        """
        opened = self._retried(lambda: self._open_stream(path, body), cancelled)
        return self._events(*opened)

    def _retried(self, attempt: Callable[[], _Result], cancelled: Callable[[], bool] | None) -> _Result:
        tried = 0
        while True:
            if cancelled is not None and cancelled():
                raise CancelledError("stopped.")
            tried += 1
            try:
                return attempt()
            except (httpx2.TransportError, ServerRefusalError, _GarbledError) as error:
                wait = _wait(error, tried)
                if wait is None or tried > self._max_retries:
                    raise self._final(error, tried) from error
            self._sleep(wait)

    def _post_once(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout
        with self._client.stream("POST", path, json=body) as response:
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if time.monotonic() > deadline:
                    raise httpx2.ReadTimeout("the answer did not end in time")
                if len(data) > MAX_ANSWER:
                    raise ServerError(f"{self.address} answered with more than {MAX_ANSWER} bytes.")
        self._check_status(response, bytes(data))
        return self._json_object(bytes(data))

    def _open_stream(self, path: str, body: dict[str, Any]) -> tuple[ExitStack, httpx2.Response]:
        with ExitStack() as stack:
            response = stack.enter_context(self._client.stream("POST", path, json=body))
            if not response.is_success:
                self._check_status(response, response.read())
            return stack.pop_all(), response

    def _events(self, opened: ExitStack, response: httpx2.Response) -> Iterator[dict[str, Any]]:
        with opened:
            try:
                for event in httpx2.EventSource(response):
                    if event.data.strip() == "[DONE]":
                        return
                    yield self._json_object(event.data.encode())
            except (httpx2.TransportError, _GarbledError) as error:
                raise self._final(error, 1) from error

    def _json_object(self, data: bytes) -> dict[str, Any]:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise _GarbledError(self._shown(data.decode(errors="replace")))
        if value.get("error"):
            raise ServerError(f"{self.address} reports an error: {self._shown(_error_text(value))}.")
        return value

    def _check_status(self, response: httpx2.Response, data: bytes) -> None:
        status = response.status_code
        if 200 <= status < 300:
            return
        said = self._shown(_error_text(data))
        raise ServerRefusalError(
            f"{self.address} answered with status {status}{f': {said}' if said else ''}.",
            status=status,
            said=said,
            retry_after=_retry_after(response.headers.get("retry-after")),
            hint=_hint(status),
        )

    def _final(self, error: _Failure, attempts: int) -> ServerError:
        """The error of the last attempt, which says how many there were."""
        times = f" after {attempts} attempts" if attempts > 1 else ""
        if isinstance(error, ServerRefusalError):
            asked = error.retry_after or 0.0
            later = f"; it asks to wait {asked:.0f} s" if asked > LONGEST_WAIT else ""
            text = f"{error.message.rstrip('.')}{times}{later}."
            return ServerRefusalError(
                text, status=error.status, said=error.said, retry_after=error.retry_after, hint=error.hint
            )
        if isinstance(error, httpx2.TimeoutException):
            return ServerError(
                f"{self.address} did not answer within {self._timeout:g} s{times}.",
                hint="Is the server busy loading its model? Ask again later, or for shorter answers.",
            )
        if isinstance(error, _GarbledError):
            return ServerError(
                f"{self.address} answered with something that is not JSON{times}: {str(error)!r}.",
                hint="Is this an OpenAI-compatible server, and does its URL end in /v1?",
            )
        if isinstance(error, (httpx2.ReadError, httpx2.RemoteProtocolError)):
            return ServerError(f"{self.address} broke off its answer{times}: {_reason(error)}.", hint="Ask again.")
        return ServerError(
            f"{self.address} cannot be reached{times}: {_reason(error)}.",
            hint="Is the server running, and is its URL right?",
        )

    def _shown(self, text: str) -> str:
        """What a server says, in one short line and without the key, which some servers repeat."""
        if self._key:
            text = text.replace(self._key, "***")
        line = " ".join(text.split()).rstrip(".")
        return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} …"


def _wait(error: _Failure, tried: int) -> float | None:
    """Seconds until the next attempt; None where another would be of no use."""
    if isinstance(error, ServerRefusalError):
        if error.status not in RETRIED:
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= LONGEST_WAIT else None
    elif isinstance(error, (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)):
        return None
    # a little chance, so that parallel requests do not come back all at once
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tried - 1) * (1 + 0.25 * random.random())))


def _checked_url(base_url: str) -> httpx2.URL:
    try:
        url = httpx2.URL(base_url.strip())
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(
            f"{base_url!r} is not the URL of a server.", hint="Write for instance http://localhost:11434/v1."
        )
    return url


def _shown_address(url: httpx2.URL) -> str:
    """The URL without a name and password that may stand in it."""
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.host}{port}{url.path}".rstrip("/")


def _error_text(body: bytes | dict[str, Any]) -> str:
    """What a server says went wrong, in the usual places, else the body itself."""
    value: Any = body
    if isinstance(body, bytes):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return body.decode(errors="replace")
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(key):
            value = value[key]
    return value if isinstance(value, str) else json.dumps(value)


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _hint(status: int) -> str:
    if status in (401, 403):
        return "Check the key: api_key_env, of the generator or judge, names the environment variable that holds it."
    if status == 404:
        return "Check the URL (it mostly ends in /v1) and the model's name."
    if status == 429:
        return "Wait a while, or ask for less at once."
    return "Try again later." if status >= 500 else "See what the server says."


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait: a number of them, or a date. None for anything else."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
