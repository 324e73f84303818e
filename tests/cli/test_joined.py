"""Commands beside a running server: which one they use, what they say of it, and that they answer as it does."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Terminal, make_calibration, make_vector
from tests.server.api import MODEL, Api
from tests.server.found import KEY, found_server

from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.engine.remote.presence import Presence, find_presence, state_file
from persona_steering.errors import ModelError
from persona_steering.vectors import ModelIdentity

SHORT = ("--max-new-tokens", "8", "--seed", "3")
ASK = ("generate", "hello", "--persona", "sage", *SHORT)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with found_server(tmp_path_factory.mktemp("served")) as api:
        prompts = ("You are a bard who rhymes.", "Speak in verses, as a bard does.")
        vector = make_vector(api.serving.manager.model, "bard", calibration=make_calibration(), system_prompts=prompts)
        api.state.manager().store.save(vector)
        yield api


@pytest.fixture(autouse=True)
def home(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home whose workspace is served."""
    served = api.state.config.vectors_dir.parent.parent
    monkeypatch.setenv("PERSONA_STEER_HOME", str(served))
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("PERSONA_STEER_DEBUG", "PERSONA_STEER_SERVER", "PERSONA_STEER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return served


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is loaded here fails the test."""

    def refuse(*arguments: object) -> None:
        raise ModelError("a model was loaded here.")

    monkeypatch.setattr(ModelWrapper, "__init__", refuse)


def presence(api: Api, **changes: object) -> Presence:
    found = find_presence(api.state.config)
    assert found is not None
    return found.model_copy(update=changes)


# -- which server -----------------------------------------------------------------------------------------------------


def test_the_state_file_is_private_and_says_which_model_there_is(api: Api) -> None:
    path = state_file(api.state.config.workspace)
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["model"] == api.state.config.model.name
    assert presence(api).url == api.url and presence(api).pid == os.getpid()


@pytest.mark.usefixtures("nothing_loads")
def test_the_running_server_is_used_and_named(cli: Cli, api: Api) -> None:
    result = cli(*ASK)
    assert result.code == 0, result.err
    assert result.err.count(f"Using the server at {api.url}") == 1 and MODEL in result.err
    assert "sage:1 · 8 tokens · seed 3" in result.err
    asked = cli(*ASK, "--model", api.state.config.model.name, "-q")
    assert (asked.code, asked.out, asked.err) == (0, result.out, "")


def test_local_loads_the_model_here(cli: Cli, api: Api) -> None:
    result = cli(*ASK, "--local", "--model", api.state.config.model.name)
    assert result.code == 0, result.err
    assert "server" not in result.err


def test_another_model_is_never_replaced_by_the_servers(cli: Cli, tiny_model: ModelIdentity) -> None:
    result = cli("generate", "hello", *SHORT, "--model", tiny_model.id, "--json")
    assert result.code == 0, result.err
    assert "is not used, since it has" in result.err
    assert result.data["model"]["fingerprint"] == tiny_model.fingerprint


def test_what_no_request_carries_is_done_here(cli: Cli, api: Api) -> None:
    result = cli(*ASK, "--model", api.state.config.model.name, "--device", "cpu")
    assert result.code == 0 and "it cannot be told model.device=cpu" in result.err


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--api-key", "wrong"), 5, "API key"),
        (("--local", "--server", "http://127.0.0.1:1"), 2, "both given"),
        (("--server", "nowhere"), 2, "address of a server"),
        (("--server", "http://127.0.0.1:1"), 5, "cannot be reached"),
    ],
)
def test_a_server_that_cannot_be_asked_is_an_error(options: tuple[str, ...], code: int, words: str, cli: Cli) -> None:
    result = cli(*ASK, *options)
    assert result.code == code and words in result.err


@pytest.mark.usefixtures("nothing_loads")
def test_a_named_server_is_used_or_refused_and_never_passed_over(
    cli: Cli, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONA_STEER_HOME", str(Path.cwd() / "elsewhere"))
    refused = cli(*ASK, "--server", api.url)
    assert refused.code == 5 and "--api-key" in refused.err
    monkeypatch.setenv("PERSONA_STEER_API_KEY", KEY)
    monkeypatch.setenv("PERSONA_STEER_SERVER", api.url)
    assert cli(*ASK).code == 0
    other = cli(*ASK, "--model", "another")
    assert other.code == 2 and f"has '{MODEL}', and not 'another'" in other.err
    untold = cli(*ASK, "--set", "steering.steering_scale=0.5")
    assert untold.code == 2 and "steering.steering_scale=0.5" in untold.err


@pytest.mark.parametrize("stale", ["gone", "silent", "damaged", "another"])
def test_a_stale_state_file_is_ignored(stale: str, cli: Cli, api: Api) -> None:
    path = state_file(api.state.config.workspace)
    kept = path.read_bytes()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        changes: dict[str, dict[str, object]] = {
            "gone": {"pid": 2**22 + 1},
            "silent": {"url": f"http://127.0.0.1:{free.getsockname()[1]}"},
            "another": {"workspace": Path("/somewhere/else")},
        }
        text = presence(api, **changes[stale]).model_dump_json() if stale in changes else "{"
        try:
            path.write_text(text)
            result = cli("jobs", "list")
        finally:
            path.write_bytes(kept)
    # without the server the workspace's own list is read, which the server holds
    assert result.code == 75 and "another server has the workspace" in result.err


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_loads")
def test_an_answer_as_json_says_what_was_applied_there(cli: Cli, api: Api) -> None:
    result = cli(*ASK, "--json")
    assert result.code == 0, result.err
    assert result.data["recipe_hash"] == api.serving.steering({"sage": 1.0}, safety=True, layers={}).recipe.hash
    assert result.data["tokens"] == 8 and result.data["model"]["id"] == MODEL


@pytest.mark.usefixtures("nothing_loads")
def test_an_unknown_name_is_the_same_error_as_here(cli: Cli) -> None:
    result = cli("generate", "hello", "--persona", "sgae")
    assert result.code == 4 and "'sgae'" in result.err and "Did you mean 'sage'?" in result.err


@pytest.mark.usefixtures("nothing_loads")
def test_compare_asks_the_server_for_every_lane(cli: Cli) -> None:
    result = cli("compare", "hello", "--with", "sage:0.6", "--with", "calm:-0.5", *SHORT, "--json")
    assert result.code == 0, result.err
    assert [lane["name"] for lane in result.data["lanes"]] == ["base", "sage:0.6", "calm:-0.5"]
    alone = cli("generate", "hello", "--blend", "sage:0.6", *SHORT, "--json")
    assert result.data["lanes"][1]["text"] == alone.data["text"]


@pytest.mark.usefixtures("nothing_loads")
def test_a_chat_talks_with_the_server(cli: Cli, api: Api) -> None:
    typed = "hello\n/persona calm 0.5\n/status\n/list\nagain\n/load raw\n/unload raw\n/quit\n"
    result = cli("chat", "--persona", "sage", *SHORT, stdin=Terminal(typed))
    assert result.code == 0 and "Traceback" not in result.err, result.err
    assert result.err.count("Using the server at") == 1 and "calm:0.5" in result.err
    assert "'raw' is no longer in memory" in result.err and "bard" in result.out


@pytest.mark.usefixtures("nothing_loads")
def test_load_and_unload_act_on_the_memory_of_the_server(cli: Cli, api: Api) -> None:
    assert cli("load", "raw", "pirate", "-q").code == 0
    assert {"raw", "pirate"} <= set(api.serving.loaded())
    listed = cli("list", "--loaded", "--json")
    assert {"raw", "pirate"} <= {entry["name"] for entry in listed.data}
    assert cli("list", "--server", api.url).code == 2
    gone = cli("unload", "--all", "--json")
    assert gone.data == {"model": MODEL, "loaded": []} and api.serving.loaded() == []
    assert cli("unload", "raw").code == 4
    assert cli("load", "raw", "--local", "--model", api.state.config.model.name, "--json").data["loaded"] == ["raw"]
    assert api.serving.loaded() == []


@pytest.mark.usefixtures("nothing_loads")
def test_a_server_without_a_model_says_so(cli: Cli, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_steering.engine.remote.client.ApiClient.get", lambda *a, **k: {"model": None})
    result = cli(*ASK)
    assert result.code == 5 and "has no model" in result.err
