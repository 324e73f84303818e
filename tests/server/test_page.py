"""The page's files: found by name alone, kept by browsers until they change, and never anybody else's."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from persona_steering.config import get_config
from persona_steering.server import page
from persona_steering.server.app import create_app
from persona_steering.server.door.security import HEADERS, Door
from persona_steering.server.model.slot import ModelSlot
from persona_steering.server.state import ServerState
from persona_steering.server.stores.database import Database, database_file

SCRIPT = "export const what = 'a script';\n" * 100


@pytest.fixture
def static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    built = tmp_path / "static"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text("<!doctype html><title>The page</title>")
    (built / "icon.svg").write_text("<svg/>")
    (built / "assets" / "index.js").write_text(SCRIPT)
    monkeypatch.setattr(page, "STATIC", built)
    return built


@pytest.fixture
def browser(static: Path, tmp_path: Path) -> Iterator[TestClient]:
    config = get_config(overrides={"paths.vectors": tmp_path / "vectors", "paths.runs": tmp_path / "runs"})
    state = ServerState(config, Database(database_file(tmp_path)), ModelSlot(config))
    with TestClient(create_app(state, Door.at("127.0.0.1")), base_url="http://localhost:8642") as client:
        yield client


def test_the_page_is_there_before_any_model_is(browser: TestClient) -> None:
    reply = browser.get("/")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<title>The page</title>" in reply.text
    assert reply.headers["content-security-policy"] == HEADERS["content-security-policy"]
    assert browser.head("/").status_code == 200


@pytest.mark.parametrize(("name", "kind"), [("assets/index.js", "text/javascript"), ("icon.svg", "image/svg+xml")])
def test_every_file_says_what_it_is(name: str, kind: str, browser: TestClient) -> None:
    reply = browser.get(f"/{name}")
    assert reply.status_code == 200 and reply.headers["content-type"].startswith(kind)


def test_scripts_are_packed_for_those_who_can_unpack_them(browser: TestClient) -> None:
    with browser.stream("GET", "/assets/index.js", headers={"accept-encoding": "br, gzip"}) as reply:
        packed = b"".join(reply.iter_raw())
    assert reply.headers["content-encoding"] == "gzip" and reply.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(packed).decode() == SCRIPT and len(packed) < len(SCRIPT) / 10
    plain = browser.get("/assets/index.js", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.text == SCRIPT


def test_a_browser_keeps_a_file_until_it_has_changed(browser: TestClient, static: Path) -> None:
    first = browser.get("/assets/index.js")
    assert first.headers["cache-control"] == "no-cache"
    known = {"if-none-match": f'W/"other", {first.headers["etag"]}'}
    again = browser.get("/assets/index.js", headers=known)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    (static / "assets" / "index.js").write_text("// the next version")
    changed = browser.get("/assets/index.js", headers=known)
    assert (changed.status_code, changed.text) == (200, "// the next version")


@pytest.mark.parametrize(
    "path", ["/assets/none.js", "/assets/..%2f..%2fpage.py", "/assets/%2e%2e/index.html", "/assets/..\\index.html"]
)
def test_no_name_leads_out_of_the_page(path: str, browser: TestClient, static: Path) -> None:
    reply = browser.get(path)
    assert reply.status_code == 404 and reply.json()["error"]["code"] == "not_found"


def test_a_server_without_the_page_says_how_to_build_it(browser: TestClient, static: Path) -> None:
    (static / "index.html").unlink()
    reply = browser.get("/")
    assert reply.status_code == 404 and "npm run build" in reply.text


def test_the_old_address_of_the_plots_leads_to_the_lab(browser: TestClient, static: Path) -> None:
    reply = browser.get("/visualization", follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (307, "/#/lab")
    (static / "index.html").unlink()
    assert browser.get("/visualization").status_code == 404
