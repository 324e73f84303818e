"""What the server promises for bad days: it is killed, its disk is full, its file is held, its paths are abused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from tests.cli.test_main import SOURCE
from tests.server.api import MODEL, Api, make_state, make_workspace, running

from persona_steering.server.app import interface
from persona_steering.server.door.security import Door

PATIENCE = 60.0  # seconds until something has to have happened
SWEEP = {"name": "sage", "strengths": [0.0, 1.0], "questions": 20, "max_new_tokens": 12, "controls": 1}
Json = dict[str, Any]


@dataclass
class Served:
    """`persona-steer serve` in a process of its own."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    url: str = ""

    def read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.lines.append(line)

    def ask(self, method: str, path: str, body: Json | None = None) -> Any:
        reply = httpx2.request(method, f"{self.url}{path}", json=body, timeout=PATIENCE)
        assert reply.is_success, reply.text
        return reply.json()


def command(workspace: Path) -> list[str]:
    model = f"hf:{workspace / MODEL}"  # its name has a colon of its own
    return [sys.executable, "-m", "persona_steering.cli.main", "serve", "--model", model, "--port=0"]


def environment(workspace: Path) -> dict[str, str]:
    folders = {f"PERSONA_STEER_PATHS__{name.upper()}": str(workspace / name) for name in ("vectors", "runs")}
    return {**os.environ, "PYTHONPATH": SOURCE, "PERSONA_STEER_HOME": str(workspace), **folders}


@contextlib.contextmanager
def served(workspace: Path) -> Iterator[Served]:
    """The server, once its model is loaded."""
    process = subprocess.Popen(command(workspace), env=environment(workspace), stderr=subprocess.PIPE, text=True)
    server = Served(process)
    reader = threading.Thread(target=server.read)
    reader.start()
    try:
        _wait_until(lambda: any(line.startswith("Ready.") for line in server.lines) or process.poll() is not None)
        found = re.search(r"Ready\. .* at (\S+)/v1", "".join(server.lines))
        assert found is not None, "".join(server.lines)
        server.url = found[1]
        yield server
    finally:
        process.kill()
        process.wait()
        reader.join()


def _wait_until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_after_kill_9_a_job_goes_on_and_no_conversation_is_lost(tmp_path: Path) -> None:
    make_workspace(tmp_path)[1].close()
    with served(tmp_path) as first:
        talk = first.ask("POST", "/api/v1/conversations", {"title": "Survives"})
        path = f"/api/v1/conversations/{talk['id']}"
        ask = {"content": "Will you remember?", "steering": "sage:0.6", "sampling": {"max_tokens": 4}}
        kept = first.ask("POST", f"{path}/messages", ask)
        job = f"/api/v1/jobs/{first.ask('POST', '/api/v1/sweeps', SWEEP)['id']}"
        _wait_until(lambda: (first.ask("GET", job)["progress"] or {"done": 0})["done"] > 0)
        before = first.ask("GET", job)
        assert before["status"] == "running", before
        long = {"content": "Tell me more.", "sampling": {"max_tokens": 1500}, "stream": True}
        with httpx2.stream("POST", f"{first.url}{path}/messages", json=long, timeout=PATIENCE) as reply:
            lines = reply.iter_lines()
            assert next(lines) == "event: start"
            _wait_until(lambda: first.ask("GET", f"{path}/messages")["messages"][-1]["content"])
            first.process.send_signal(signal.SIGKILL)
            with contextlib.suppress(httpx2.TransportError):
                list(lines)
    with served(tmp_path) as second:
        _wait_until(lambda: second.ask("GET", job)["status"] not in ("queued", "running"))
        done = second.ask("GET", job)
        assert (done["status"], done["attempts"]) == ("succeeded", 2), done
        events = second.ask("GET", f"{job}/log?limit=1000")["data"]
        states = [event["data"]["status"] for event in events if event["type"] == "state"]
        assert "interrupted" in states
        messages = second.ask("GET", f"{path}/messages")["messages"]
    assert messages[:2] == [kept["user"], kept["answer"]]
    assert [(one["role"], one["status"]) for one in messages[2:]] == [
        ("user", "complete"),
        ("assistant", "interrupted"),
    ]
    assert messages[-1]["content"]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(make_state(tmp_path_factory.mktemp("proofs")), Door.at("127.0.0.1")) as api:
        yield api


def post(api: Api, path: str, body: Json) -> httpx2.Response:
    with api.client() as http:
        return http.post(path, json=body)


def test_a_full_disk_is_said_and_what_was_there_stays(api: Api) -> None:
    kept = post(api, "/api/v1/conversations", {"title": "before"}).json()
    with api.state.database.write() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    try:
        path = f"/api/v1/conversations/{kept['id']}/messages"
        refused = post(api, path, {"content": "x" * 200_000, "answer": False})
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "storage_failed")
        assert (
            "disk is full" in refused.json()["error"]["message"] and str(api.state.config.workspace) not in refused.text
        )
        with api.client() as http:
            assert http.get(path).json()["messages"] == []
        # what needs no disk is answered
        assert post(api, "/v1/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]})
    finally:
        with api.state.database.write() as connection:
            connection.execute("PRAGMA max_page_count = 1000000")
    assert post(api, path, {"content": "x" * 200_000, "answer": False}).status_code == 200


def test_a_database_that_another_program_holds_is_said(api: Api) -> None:
    with api.state.database.write() as connection:
        connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(api.state.database.file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        refused = post(api, "/api/v1/conversations", {"title": "held"})
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "database_held")
    assert "retry-after" in refused.headers
    assert "another program holds" in refused.json()["error"]["message"]
    assert str(api.state.database.file.parent) not in refused.text
    assert post(api, "/api/v1/conversations", {"title": "held"}).status_code == 201


PARAMETERS = [
    (method, path)
    for path, item in interface()["paths"].items()
    for method in ("get", "delete", "post", "patch")
    if method in item and "{" in path and not path.startswith("/v1/models")
]
HOSTILE = ["../../etc/passwd", "/etc/passwd", "a/../../b", "..\\..\\x", "\0", "con\n", "%2e%2e", "a" * 5000, "é"]


@pytest.mark.parametrize(("method", "path"), PARAMETERS)
def test_a_name_that_is_a_path_leads_nowhere(method: str, path: str, api: Api, tmp_path: Path) -> None:
    root = Path(api.state.config.vectors_dir).parent
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*") if file.suffix != ".sqlite3-wal"}
    with api.client() as http:
        for name in HOSTILE:
            asked = re.sub(r"\{[^}]*\}", quote(name, safe=""), path)
            body = {} if method in ("post", "patch") else None
            with http.stream(method.upper(), asked, json=body) as reply:
                text = reply.read().decode()
            assert 400 <= reply.status_code < 500, f"{asked}: {reply.status_code} {text[:200]}"
            assert "root:" not in text and str(root) not in text
            assert "error" in json.loads(text) or "detail" in json.loads(text)
    after = {file: file.stat().st_mtime_ns for file in root.rglob("*") if file.suffix != ".sqlite3-wal"}
    assert after == before
