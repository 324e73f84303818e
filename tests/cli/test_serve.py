"""`serve` in a process of its own: its address, a curl line that works, and how it stops."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from tests.cli.conftest import Cli
from tests.cli.test_main import SOURCE

from persona_steering.config import get_config
from persona_steering.engine.remote.presence import Presence
from persona_steering.errors import StorageError, UsageError
from persona_steering.server.door.keys import chosen_key
from persona_steering.server.listening import listen
from persona_steering.server.model.slot import ModelSlot
from persona_steering.server.state import ServerState
from persona_steering.server.stores.database import Database, database_file
from persona_steering.vectors import ModelIdentity, VectorStore


@pytest.mark.parametrize(
    ("number", "form", "logged"),
    [
        (signal.SIGINT, "plain", "POST '/v1/chat/completions' 200"),
        (signal.SIGTERM, "json", '"method": "POST", "path": "/v1/chat/completions", "status": 200'),
    ],
)
def test_it_says_where_it_is_and_stops_cleanly_at_a_signal(
    number: int, form: str, logged: str, tiny_model: ModelIdentity, stored: VectorStore, home: Path
) -> None:
    command = [sys.executable, "-m", "persona_steering.cli.main", "serve", "--model", tiny_model.id, "--port", "0"]
    command += ["--log-format", form]
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PERSONA_STEER_HOME": str(home), "PERSONA_STEER_API_KEY": "k3y"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        shown = ""
        while " -d '" not in shown:
            line = process.stderr.readline()
            assert line, shown
            shown += line
        found = re.search(r"curl (\S+) .*-d '(.*)'", shown, re.DOTALL)
        assert found is not None and "$PERSONA_STEER_API_KEY" in shown and "k3y" not in shown
        headers = {"authorization": "Bearer k3y", "content-type": "application/json"}
        reply = httpx2.post(found[1], content=found[2], headers=headers, timeout=60)
        assert (reply.status_code, reply.json()["steering"]["applied"][0]["name"]) == (200, "sage")
        (told,) = (home / "state").glob("server-*.json")
        assert Presence.model_validate_json(told.read_text()).key == "k3y"
        process.send_signal(number)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 0 and not told.exists()
    assert logged in rest and rest.rstrip().endswith("Stopped.")
    assert "Traceback" not in rest


def test_a_key_is_made_where_one_is_needed_and_none_is_given(tmp_path: Path) -> None:
    assert chosen_key(None, None, only_here=True, unsafe=False) is None
    assert chosen_key(None, None, only_here=False, unsafe=True) is None
    assert chosen_key("own", None, only_here=False, unsafe=False) == "own"
    made = {chosen_key(None, None, only_here=False, unsafe=False) for _ in range(5)}
    assert len(made) == 5 and all(key is not None and len(key) >= 32 for key in made)


def test_a_key_file_counts_only_while_nobody_else_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("of-a-file\n")
    file.chmod(0o644)
    with pytest.raises(UsageError, match="read by others") as refused:
        chosen_key(None, file, only_here=True, unsafe=False)
    assert "chmod 600" in refused.value.hint
    file.chmod(0o600)
    assert chosen_key(None, file, only_here=True, unsafe=False) == "of-a-file"


@pytest.mark.parametrize("content", [b"", b"\n", b"two lines\nof it", "schlüssel".encode()])
def test_a_key_file_without_a_key_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(UsageError):
        chosen_key(None, file, only_here=True, unsafe=False)


def test_a_port_that_is_taken_is_an_error_before_a_model_is_loaded(cli: Cli) -> None:
    with listen("127.0.0.1", 0) as taken:
        result = cli("serve", "--model", "nowhere", "--port", str(taken.getsockname()[1]))
    assert result.code == 75
    assert "is taken" in result.err and "--port" in result.err


def test_a_second_server_of_a_workspace_is_refused_before_it_loads_a_model(cli: Cli) -> None:
    first = Database(database_file(get_config().workspace))
    try:
        result = cli("serve", "--model", "nowhere", "--port", "0")
    finally:
        first.close()
    assert result.code == 75
    assert "another server has the workspace" in result.err and "use another workspace" in result.err


def test_a_server_that_cannot_start_is_no_success(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(state: ServerState) -> None:
        raise StorageError("the disk is full.")

    monkeypatch.setattr(ServerState, "start", refuse)
    monkeypatch.setattr(ModelSlot, "begin_loading", lambda slot, **options: None)
    result = cli("serve", "--model", "nowhere", "--port", "0")
    assert result.code == 5 and "could not start" in result.err and "Stopped." not in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--api-key", ""], 2, "API key"),
        (["--api-key", "schlüssel"], 2, "API key"),
        (["--port", "many"], 3, "server.port"),
        (["--host", "192.0.2.1", "--port", "0"], 2, "cannot listen"),
        (["--api-key-file", "/nowhere/key"], 2, "cannot be read"),
        (["--api-key", "a", "--api-key-file", "key"], 2, "--api-key-file"),
        (["--api-key", "a", "--unsafe-no-auth"], 2, "--unsafe-no-auth"),
        (["--cors-origin", "*"], 2, "not an origin"),
        (["--cors-origin", "https://app.example.org/page"], 2, "not an origin"),
    ],
)
def test_what_cannot_be_served_is_said(arguments: list[str], code: int, word: str, cli: Cli) -> None:
    result = cli("serve", *arguments)
    assert result.code == code and word in result.err
