"""The door of the server: who is let in, and what they may bring."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import openai
import pytest
from tests.server.api import MODEL, Api, make_state, running

from persona_steering.errors import BusyError, UsageError
from persona_steering.server.door.security import Door, is_loopback
from persona_steering.server.errors import without_paths
from persona_steering.server.limits import LIMITS
from persona_steering.server.listening import listen

KEY = "a-secret-of-this-test"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    door = Door.at("127.0.0.1", allowed=["models.example.org"], api_key=KEY)
    with running(make_state(tmp_path_factory.mktemp("security")), door) as api:
        yield api


def send(api: Api, method: str = "GET", path: str = "/v1/models", **headers: str) -> httpx2.Response:
    given = {"authorization": f"Bearer {KEY}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    with api.client() as http:
        return http.request(method, path, headers=given)


def code_of(reply: httpx2.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8642", "[::1]:80", "LOCALHOST", "models.example.org"])
def test_the_names_of_the_server_are_let_in(host: str, api: Api) -> None:
    assert send(api, host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "evil.example:8642", "sub.models.example.org"],
)
@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/nothing"])
def test_a_foreign_host_is_refused_everywhere(host: str, path: str, api: Api) -> None:
    reply = send(api, path=path, host=host)
    assert code_of(reply) == (403, "host_not_allowed")
    assert "--allow-host" in reply.json()["error"]["message"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://", "http://["])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_page_of_another_origin_is_refused_with_every_method(method: str, origin: str, api: Api) -> None:
    reply = send(api, method, "/v1/chat/completions", origin=origin)
    assert code_of(reply) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_fetch_metadata_is_believed(site: str, status: int, api: Api) -> None:
    assert send(api, sec_fetch_site=site).status_code == status


def test_the_servers_own_page_is_let_in(api: Api) -> None:
    assert send(api, origin=api.url).status_code == 200


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x"])
def test_without_the_token_nothing_is_answered_but_health(given: str, api: Api) -> None:
    reply = send(api, authorization=given)
    assert code_of(reply) == (401, "invalid_api_key")
    assert reply.headers["www-authenticate"] == "Bearer" and KEY not in reply.text
    assert send(api, path="/healthz", authorization=given).json() == {"status": "ok"}
    assert send(api, path="/readyz", authorization=given).json() == {"status": "ready"}


def test_the_official_client_is_let_in_with_its_key_and_not_without(api: Api) -> None:
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key=KEY) as client:
        assert client.models.list().data
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key="other") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_a_body_that_does_not_say_it_is_json_is_refused(kind: str | None, api: Api) -> None:
    headers = {"authorization": f"Bearer {KEY}"} | ({"content-type": kind} if kind else {})
    with api.client() as http:
        reply = http.post("/v1/chat/completions", content=b"{}", headers=headers)
    assert code_of(reply) == (415, "unsupported_media_type")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit_is_refused(chunked: bool, api: Api) -> None:
    pieces = [b" " * 65536] * (LIMITS.body_bytes // 65536) + [b" "]
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    with api.client() as http:
        reply = http.post(
            "/v1/chat/completions", content=iter(pieces) if chunked else b"".join(pieces), headers=headers
        )
    assert code_of(reply) == (413, "body_too_large")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"model": 1}', b"[" * 100_000])
def test_a_body_that_is_no_request_is_a_400(body: bytes, api: Api) -> None:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    with api.client() as http:
        reply = http.post("/v1/chat/completions", content=body, headers=headers)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")


def test_every_answer_carries_the_headers_that_keep_pages_apart(api: Api) -> None:
    for reply in (send(api), send(api, path="/nothing"), send(api, host="evil.example")):
        assert "default-src 'self'" in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-request-id"].startswith("req_")
        assert "server" not in reply.headers


def test_an_unknown_path_or_method_has_the_same_envelope(api: Api) -> None:
    assert code_of(send(api, path="/v1/nothing")) == (404, "not_found")
    assert code_of(send(api, "DELETE", "/v1/models"))[0] == 405


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_only_loopback_is_this_machine_alone(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here


def test_a_port_that_is_taken_is_said_and_so_is_an_address_of_another_machine() -> None:
    with listen("127.0.0.1", 0) as first, pytest.raises(BusyError, match="taken"):
        listen("127.0.0.1", first.getsockname()[1])
    with pytest.raises(UsageError, match="cannot listen"):
        listen("192.0.2.1", 0)


def test_messages_lose_their_folders_and_keep_their_words() -> None:
    text = "no room in /home/ann/models/x.bin, or C:\\Users\\ann\\x for hf:Qwen/Qwen2 at GET /v1."
    assert without_paths(text) == "no room in x.bin, or x for hf:Qwen/Qwen2 at GET v1."
    assert without_paths("Load one: POST /api/v1/models/load") == "Load one: POST /api/v1/models/load"
