"""The ways in: a browser by a link, pages of named sites, WebSockets, and files of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from persona_steering.errors import UsageError
from persona_steering.server.door import guard
from persona_steering.server.door.guard import Guard
from persona_steering.server.door.keys import Keyring
from persona_steering.server.door.security import CONVERSATIONS, HEADERS, REPORT_POLICY, UPLOADS, Door
from persona_steering.server.limits import LIMITS, Limits

KEY = "a-secret-of-this-test"
SITE = "https://app.example.org"
HOST = {"host": "localhost:8642"}
BEARER = {"authorization": f"Bearer {KEY}"}


async def page(request: Request) -> Response:
    return HTMLResponse("the page", headers={"vary": "Accept-Encoding"})


async def report(request: Request) -> Response:
    return HTMLResponse("a report", headers={"content-security-policy": REPORT_POLICY})


async def take(request: Request) -> Response:
    """Says how many pieces a body came in, and how long it is."""
    pieces = [len(piece) async for piece in request.stream() if piece]
    return Response(f"{len(pieces)} {sum(pieces)}")


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_json({"subprotocols": socket.scope["subprotocols"]})
    while (text := await socket.receive_text()) != "break":
        await socket.send_text(text)
    raise KeyError("/secret/path")


def behind(door: Door) -> TestClient:
    routes = [
        Route("/", page),
        Route("/report", report),
        Route("/take", take, methods=["POST", "DELETE"]),
        Route(UPLOADS[0], take, methods=["POST"]),
        Route(CONVERSATIONS, take, methods=["POST"]),
        WebSocketRoute("/socket", echo),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(Guard, door=door)
    return TestClient(app, base_url="http://localhost:8642", headers=HOST, follow_redirects=False)


@pytest.fixture
def closed() -> Iterator[tuple[TestClient, Door]]:
    door = Door.at("127.0.0.1", api_key=KEY, origins=[SITE])
    with behind(door) as client:
        yield client, door


@pytest.fixture
def opened() -> Iterator[TestClient]:
    with behind(Door.at("127.0.0.1")) as client:
        yield client


def code_of(reply: httpx2.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def keyring(door: Door) -> Keyring:
    assert door.keyring is not None
    return door.keyring


def test_a_link_lets_one_browser_in_once_and_its_address_does_not_stay(closed: tuple[TestClient, Door]) -> None:
    client, door = closed
    link = keyring(door).link("http://localhost:8642")
    assert KEY not in link
    reply = client.get(link)
    assert (reply.status_code, reply.headers["location"], reply.text) == (303, "/", "")
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and KEY not in cookie
    assert client.get("/").text == "the page"  # with the cookie that the client now has
    client.cookies.clear()
    assert code_of(client.get(link)) == (401, "invalid_api_key")
    assert code_of(client.get("/")) == (401, "invalid_api_key")


def test_after_a_link_was_used_another_can_be_had(closed: tuple[TestClient, Door]) -> None:
    client, door = closed
    first, again = (keyring(door).link("") for _ in range(2))
    assert first == again
    assert client.get(first).status_code == 303
    client.cookies.clear()
    assert client.get(keyring(door).link("")).status_code == 303


def test_the_key_itself_opens_a_browser_too(closed: tuple[TestClient, Door]) -> None:
    client, _ = closed
    reply = client.get("/", params={"token": KEY})
    assert reply.status_code == 303 and KEY not in str(reply.headers)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/?token=wrong"), ("GET", "/report?token={key}"), ("POST", "/?token={key}")]
)
def test_no_other_address_takes_a_token(method: str, path: str, closed: tuple[TestClient, Door]) -> None:
    client, _ = closed
    assert code_of(client.request(method, path.format(key=KEY)))[0] == 401


def test_a_page_of_another_site_cannot_use_a_link_or_the_cookie(closed: tuple[TestClient, Door]) -> None:
    client, door = closed
    link = keyring(door).link("")
    foreign = {"sec-fetch-site": "cross-site"}
    assert code_of(client.get(link, headers=foreign)) == (403, "origin_not_allowed")
    assert client.get(link).status_code == 303
    assert code_of(client.get("/", headers=foreign)) == (403, "origin_not_allowed")


@pytest.mark.parametrize("cookie", ["{name}=wrong", "{name}=", "other={value}", ";;;=", "{name}", "\xff={value}"])
def test_a_cookie_that_is_not_the_servers_own_opens_nothing(cookie: str, closed: tuple[TestClient, Door]) -> None:
    client, door = closed
    name, _, value = client.get(keyring(door).link("")).headers["set-cookie"].partition(";")[0].partition("=")
    client.cookies.clear()
    sent = cookie.format(name=name, value=value).encode("latin-1")
    assert code_of(client.get("/", headers={b"cookie": sent, **_bytes(HOST)}))[0] == 401  # type: ignore[arg-type]


def _bytes(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in headers.items()}


def test_a_person_without_a_key_is_told_in_words_where_to_get_in(closed: tuple[TestClient, Door]) -> None:
    client, _ = closed
    found = client.get("/", headers={"accept": "text/html,*/*"})
    assert (found.status_code, found.headers["content-type"]) == (401, "text/plain; charset=utf-8")
    assert "persona-steer serve" in found.text and "?token=KEY" in found.text


def test_where_no_key_is_asked_for_a_token_means_nothing(opened: TestClient) -> None:
    reply = opened.get("/?token=anything")
    assert reply.text == "the page" and "set-cookie" not in reply.headers


def test_a_named_site_may_ask_and_read_but_not_by_cookies(closed: tuple[TestClient, Door]) -> None:
    client, door = closed
    asked = {"origin": SITE, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    preflight = client.options("/take", headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == SITE
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    site = {"origin": SITE, "sec-fetch-site": "cross-site"}
    answer = client.post("/take", json={}, headers={**site, **BEARER})
    assert answer.text == "1 2" and answer.headers["access-control-allow-origin"] == SITE
    cookie = client.get(keyring(door).link("")).headers["set-cookie"].partition(";")[0]
    refused = client.post("/take", json={}, headers={**site, "cookie": cookie})
    assert code_of(refused)[0] == 401 and refused.headers["access-control-allow-origin"] == SITE
    for reply in (preflight, answer, refused):
        assert "access-control-allow-credentials" not in reply.headers
        assert reply.headers["vary"] == "Origin"
    assert client.get("/", headers=BEARER).headers["vary"] == "Accept-Encoding, Origin"


@pytest.mark.parametrize("origin", ["https://evil.example", f"{SITE}.evil.example", f"{SITE}:444", "null", "*"])
def test_a_site_that_was_not_named_is_refused_in_its_preflight_already(
    origin: str, closed: tuple[TestClient, Door]
) -> None:
    client, _ = closed
    reply = client.options("/take", headers={"origin": origin, "access-control-request-method": "POST"})
    assert code_of(reply) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("origin", ["*", "", "app.example.org", "https://*.example.org", f"{SITE}/", "ftp://a", "null"])
def test_what_is_no_single_site_cannot_be_named(origin: str) -> None:
    with pytest.raises(UsageError, match="not an origin"):
        Door.at("127.0.0.1", origins=[origin])


def test_a_websocket_comes_in_by_the_key_in_a_header_in_a_subprotocol_or_by_cookie(
    closed: tuple[TestClient, Door],
) -> None:
    client, door = closed
    with client.websocket_connect("/socket", headers=BEARER) as socket:
        assert socket.receive_json() == {"subprotocols": []}
    with client.websocket_connect("/socket", subprotocols=["persona-steer", f"bearer.{KEY}"]) as socket:
        assert socket.accepted_subprotocol == "persona-steer"
        assert socket.receive_json() == {"subprotocols": ["persona-steer"]}
        socket.send_text("hello")
        assert socket.receive_text() == "hello"
    with client.websocket_connect("/socket", subprotocols=[f"bearer.{KEY}", "persona-steer"]) as socket:
        assert socket.accepted_subprotocol == "persona-steer", "whichever comes first, the key is not said again"
    with client.websocket_connect("/socket", subprotocols=[f"bearer.{KEY}"]) as socket:
        assert socket.accepted_subprotocol == f"bearer.{KEY}"
    cookie = client.get(keyring(door).link("")).headers["set-cookie"].partition(";")[0]
    with client.websocket_connect("/socket", headers={"origin": "http://localhost:8642", "cookie": cookie}) as socket:
        assert socket.receive_json() == {"subprotocols": []}


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({}, (401, "invalid_api_key")),
        ({"sec-websocket-protocol": "bearer.wrong"}, (401, "invalid_api_key")),
        ({**BEARER, "origin": "https://evil.example"}, (403, "origin_not_allowed")),
        ({**BEARER, "host": "evil.example"}, (403, "host_not_allowed")),
        ({**BEARER, "sec-fetch-site": "cross-site"}, (403, "origin_not_allowed")),
    ],
)
def test_a_websocket_is_refused_before_it_is_accepted(
    headers: dict[str, str], refusal: tuple[int, str], closed: tuple[TestClient, Door]
) -> None:
    client, _ = closed
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/socket", headers=headers):
        pass
    assert code_of(refused.value) == refusal


def test_a_websocket_that_breaks_is_closed_and_says_nothing_of_the_machine(opened: TestClient) -> None:
    with opened.websocket_connect("/socket") as socket:
        socket.receive_json()
        socket.send_text("break")
        with pytest.raises(WebSocketDisconnect) as ended:
            socket.receive_text()
    assert (ended.value.code, ended.value.reason) == (1011, "internal_error")


def test_there_are_only_so_many_websockets_and_one_that_leaves_makes_room(
    opened: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LIMITS", Limits(sockets=1))
    with opened.websocket_connect("/socket") as first:
        first.receive_json()
        with pytest.raises(WebSocketDenialResponse) as refused, opened.websocket_connect("/socket"):
            pass
        assert code_of(refused.value) == (429, "too_many_sockets")
    with opened.websocket_connect("/socket") as another:
        assert another.receive_json()


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        (UPLOADS[0], "application/octet-stream", 200),
        (UPLOADS[0], "application/json", 415),
        (UPLOADS[0], "multipart/form-data", 415),
        ("/take", "application/octet-stream", 415),
        (UPLOADS[0] + "/", "application/octet-stream", 415),
    ],
)
def test_files_come_in_by_the_import_path_alone(path: str, kind: str, status: int, opened: TestClient) -> None:
    assert opened.post(path, content=b"xyz", headers={"content-type": kind}).status_code == status


@pytest.mark.parametrize("announced", [False, True])
def test_a_file_is_read_as_it_comes_and_refused_once_it_is_too_large(
    announced: bool, opened: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_steering.server.door.security.LIMITS", Limits(upload_bytes=1000, body_bytes=10))
    kind = {"content-type": "application/octet-stream"}

    def pieces(count: int) -> Iterator[bytes]:
        yield from [b"x" * 100] * count

    fits = b"x" * 1000 if announced else pieces(10)
    assert opened.post(UPLOADS[0], content=fits, headers=kind).text.endswith(" 1000")
    larger = b"x" * 1001 if announced else pieces(11)
    assert code_of(opened.post(UPLOADS[0], content=larger, headers=kind)) == (413, "body_too_large")


def test_a_conversation_may_be_longer_than_other_bodies(opened: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_steering.server.door.security.LIMITS", Limits(conversation_bytes=1000, body_bytes=10))
    kind = {"content-type": "application/json"}
    assert opened.post(CONVERSATIONS, content=b"x" * 1000, headers=kind).text.endswith(" 1000")
    for path, size in ((CONVERSATIONS, 1001), ("/take", 11)):
        assert code_of(opened.post(path, content=b"x" * size, headers=kind)) == (413, "body_too_large")


def test_an_empty_body_need_not_say_what_it_is(opened: TestClient) -> None:
    assert opened.post("/take").text == "0 0"
    assert code_of(opened.post("/take", headers={"content-type": "text/plain"}))[0] == 415


def test_our_own_reports_have_a_sandbox_and_everything_else_the_strict_policy(opened: TestClient) -> None:
    assert opened.get("/report").headers["content-security-policy"] == REPORT_POLICY
    assert "sandbox" in REPORT_POLICY and "allow-same-origin" not in REPORT_POLICY
    policy = opened.get("/").headers["content-security-policy"]
    assert policy == HEADERS["content-security-policy"]
    assert "script-src" not in policy and "default-src 'self'" in policy


def test_the_bounds_are_those_that_are_told() -> None:
    told = LIMITS.model_dump()
    assert told["body_bytes"] == 1024**2 and told["messages"] == 256 and told["waiting"] == 16
    assert all(field.description for field in Limits.model_fields.values())
