"""The door: what is refused before any route is asked, because of where a request comes from or what it carries.

A page that somebody visits can send requests to this machine, and by DNS rebinding even under a name of its own. So
the Host must be one of an exact list, a browser's Origin must be this server or one that was named, and bodies must
be JSON, which no form can send. Requests without an Origin (curl, libraries) pass. All this holds for WebSockets too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from persona_steering.errors import UsageError
from persona_steering.server.door.keys import Keyring
from persona_steering.server.errors import ApiError
from persona_steering.server.limits import LIMITS

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
OPEN_PATHS = ("/healthz", "/readyz")  # a supervisor asks without a token; they tell nothing
UPLOADS = ("/api/v1/import",)  # paths that take a file instead of JSON
CONVERSATIONS = "/api/v1/conversations/import"  # takes what is written over days
_FETCHED_FROM = ("same-origin", "none")  # Sec-Fetch-Site of the server's own page, and of an address typed in

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
# For our own self-contained pages: their scripts run without the rights of this server's origin. A route sends it
# as its content-security-policy, and the guard leaves it.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_READABLE = "etag, location, retry-after, x-ignored-fields, x-request-id, x-steering-hash"
_SENDABLE = "authorization, content-type, idempotency-key, if-match, last-event-id"


@dataclass(frozen=True)
class Reply:
    """An answer of the door itself, without a body."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Door:
    """Who may come in. `hosts` are the names under which the server is asked; `api_key` None lets everybody in.

    `origins` are pages of other sites that may use it; they have to send the key where there is one.
    """

    hosts: frozenset[str]
    api_key: str | None = None
    origins: frozenset[str] = frozenset()

    @classmethod
    def at(
        cls, host: str, *, allowed: Iterable[str] = (), api_key: str | None = None, origins: Iterable[str] = ()
    ) -> Door:
        """The door of a server bound to `host`: its own name, those of loopback, and `allowed` ones.

        Raises UsageError for an origin that is none.
        """
        hosts = frozenset(map(_bare, (*LOOPBACK, host, *allowed)))
        return cls(hosts, api_key, frozenset(map(_checked_origin, origins)))

    @cached_property
    def keyring(self) -> Keyring | None:
        """What knows the key, where there is one."""
        return None if self.api_key is None else Keyring(self.api_key)

    def check_sender(self, scope: Scope) -> None:
        """Raises ApiError 403 for a foreign Host or Origin."""
        headers = Headers(scope=scope)
        self._check_host(headers)
        self._check_origin(headers)

    def check_request(self, scope: Scope) -> None:
        """Raises ApiError: 401 without the key, 415 for a body of another kind than the path takes."""
        headers = Headers(scope=scope)
        if self.keyring is not None and scope["path"] not in OPEN_PATHS:
            self._check_key(headers, scope, self.keyring)
        if scope["type"] == "http" and scope["method"] in ("POST", "PUT", "PATCH"):
            _check_kind(headers, "application/octet-stream" if is_upload(scope) else "application/json")

    def reply(self, scope: Scope) -> Reply | None:
        """The door's own answer: to a named origin's preflight, and to the link that lets a browser in.

        Raises ApiError 401 for a link that is not good (any more).
        """
        if scope["type"] != "http":
            return None
        headers = Headers(scope=scope)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers and self.origins:
            allowed = {"access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE"}
            return Reply(204, allowed | {"access-control-allow-headers": _SENDABLE, "access-control-max-age": "600"})
        tokens = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if self.keyring is None or not tokens or (scope["method"], scope["path"]) != ("GET", "/"):
            return None
        cookie = self.keyring.exchange(tokens[0], secure=scope["scheme"] == "https")
        if cookie is None:
            raise _unknown_key("the link is used up or wrong.", "Open /?token=KEY with the key of the server.")
        return Reply(303, {"location": "/", "set-cookie": cookie, "cache-control": "no-store"})

    def headers_for(self, scope: Scope) -> dict[str, str]:
        """What the answer needs so that a named origin's page may read it."""
        origin = Headers(scope=scope).get("origin", "")
        if origin not in self.origins:
            return {}
        return {"access-control-allow-origin": origin, "access-control-expose-headers": _READABLE}

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
        if len(origins) == 1 and origins[0] in self.origins:
            return
        if _is_own(headers) and all(site in _FETCHED_FROM for site in sites):
            return
        raise ApiError(
            403,
            "permission_error",
            "origin_not_allowed",
            "a page of another site may not use this server.",
            hint="Start it with --cors-origin ORIGIN to allow that.",
        )

    def _check_key(self, headers: Headers, scope: Scope, keyring: Keyring) -> None:
        given = headers.get("authorization", "")
        # the cookie is for the server's own page alone
        cookies = headers.getlist("cookie") if _is_own(headers) else []
        if keyring.fits(given, cookies, scope.get("subprotocols", ())):
            return
        raise _unknown_key("the API key is missing or wrong.", "Send it with: Authorization: Bearer KEY")


def is_upload(scope: Scope) -> bool:
    """Whether the body is a file, which is read as it comes."""
    return scope["path"] in UPLOADS


def most_bytes(scope: Scope) -> int:
    """How large a body may be."""
    if scope["path"] == CONVERSATIONS:
        return LIMITS.conversation_bytes
    return LIMITS.upload_bytes if is_upload(scope) else LIMITS.body_bytes


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


def _checked_origin(origin: str) -> str:
    """As browsers send it: scheme, name and port, nothing else. Raises UsageError, also for "*"."""
    if _is_web(origin):
        parts = urlsplit(origin)
        if parts.hostname and "*" not in origin and origin.lower() == f"{parts.scheme}://{parts.netloc}".lower():
            return origin.lower()
    raise UsageError(
        f"{origin!r} is not an origin.", hint="Name each site in full, such as --cors-origin https://app.example.org"
    )


def _is_own(headers: Headers) -> bool:
    """Whether no page of another origin asks. A page's scheme is not known behind a proxy, its name and port are."""
    return all(
        _is_web(origin) and urlsplit(origin).netloc == headers.get("host") for origin in headers.getlist("origin")
    )


def _is_web(origin: str) -> bool:
    try:
        return urlsplit(origin).scheme in ("http", "https")
    except ValueError:
        return False


def _check_kind(headers: Headers, wanted: str) -> None:
    """A body says what it is, so that no form of another site can send it; an empty one need not."""
    is_empty = "transfer-encoding" not in headers and headers.get("content-length", "0").strip() == "0"
    if is_empty and "content-type" not in headers:
        return
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != wanted:
        raise ApiError(
            415,
            "invalid_request_error",
            "unsupported_media_type",
            f"the body is not {'JSON' if wanted == 'application/json' else 'a file'}.",
            hint=f"Send it with: Content-Type: {wanted}",
        )


def _unknown_key(message: str, hint: str) -> ApiError:
    return ApiError(
        401, "authentication_error", "invalid_api_key", message, hint=hint, headers={"www-authenticate": "Bearer"}
    )
