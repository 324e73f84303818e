"""Models over HTTP: which there are, and the exchange of the one that is loaded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.server.api import MODEL, Api, make_state, running
from tests.server.listener import listening

from persona_steering.backends.available import available_models
from persona_steering.errors import UsageError
from persona_steering.server.door.security import Door
from persona_steering.server.model.choices import as_choice
from persona_steering.server.model.slot import ModelChoice

ASK = {"model": "persona-steer", "messages": [{"role": "user", "content": "hello"}]}
WANTING = (  # every kind of route that needs the model
    ("POST", "/v1/chat/completions", ASK),
    ("GET", "/v1/models", None),
    ("POST", "/api/v1/sweeps", {"name": "sage"}),
    ("POST", "/api/v1/similarities", {"names": ["sage", "pirate"]}),
    ("GET", "/readyz", None),
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(make_state(tmp_path_factory.mktemp("models")), Door.at("127.0.0.1")) as api:
        yield api


@pytest.fixture
def http(api: Api) -> Iterator[httpx2.Client]:
    with api.client() as client:
        yield client
        if api.state.slot.status.state != "ready":
            client.post("/api/v1/models/load", json={"name": MODEL})
        wait_until(client, "ready")


def wait_until(http: httpx2.Client, state: str) -> None:
    for _ in range(500):
        slot = http.get("/api/v1/models").json()["slot"]
        if slot["state"] == state:
            return
        assert slot["error"] is None or state == "empty", slot
        time.sleep(0.02)
    raise AssertionError(f"it never was {state}: {slot}")


def make_repository(hub: Path, name: str, *files: str) -> None:
    """A repository in a cache of the hub, as huggingface_hub lays it out."""
    folder = hub / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("a" * 40)
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    (folder / "blobs").mkdir()
    snapshot.mkdir(parents=True)
    for file in files:
        (folder / "blobs" / file).write_text("12345")
        (snapshot / file).symlink_to(folder / "blobs" / file)


def test_the_models_of_this_machine_are_listed_and_no_path_is(
    api: Api, http: httpx2.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    make_repository(hub, "owner/whole", "config.json", "model.safetensors")
    make_repository(hub, "owner/tokenizer-alone", "config.json", "tokenizer.json")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(hub), raising=False)
    answer = http.get("/api/v1/models")
    found = answer.json()
    first = found["available"][0]
    assert (first["id"], first["kind"], first["loaded"], first["configured"]) == (MODEL, "local", True, True)
    assert first["size_bytes"] > 1000
    kinds = {model["id"]: (model["kind"], model["size_bytes"], model["loaded"]) for model in found["available"]}
    assert kinds["owner/whole"] == ("cached", 10, False)
    assert "owner/tokenizer-alone" not in kinds
    assert str(tmp_path) not in answer.text and str(api.state.config.workspace) not in answer.text


def test_a_machine_without_any_cache_has_no_cached_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "none"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    assert [model for model in available_models(tmp_path) if model.kind == "cached"] == []


def test_a_model_is_freed_and_loaded_again_while_every_route_says_how_it_stands(http: httpx2.Client) -> None:
    freed = http.post("/api/v1/models/unload", json={})
    assert (freed.status_code, freed.json()["state"]) == (200, "empty")
    for method, path, body in WANTING:
        refused = http.request(method, path, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_model"), path
        assert refused.headers["x-should-retry"] == "false"
    system = http.get("/api/v1/system").json()
    assert (system["model"], system["queue"], system["slot"]["state"]) == (None, None, "empty")
    loading = http.post("/api/v1/models/load", json={"name": MODEL})
    assert (loading.status_code, loading.json()["model"]) == (202, MODEL)
    wait_until(http, "ready")
    assert http.post("/v1/chat/completions", json=ASK).status_code == 200


def test_while_a_model_is_loaded_every_route_says_when_to_come_back(
    api: Api, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.state.slot, "_state", "loading")
    for method, path, body in WANTING:
        refused = http.request(method, path, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_loading"), path
        assert int(refused.headers["retry-after"]) > 0


def test_an_answer_in_flight_ends_with_an_error_when_its_model_goes(api: Api, http: httpx2.Client) -> None:
    body = {**ASK, "max_tokens": 1500, "stream": True}
    with api.client() as other, other.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        assert http.post("/api/v1/models/unload", json={}).status_code == 200
        rest = [line for line in lines if line]
    assert '"code":"model_unloaded"' in rest[-2].replace('": "', '":"')
    assert rest[-1] == "data: [DONE]"


def test_a_job_that_wants_the_model_keeps_it(api: Api, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.state.jobs.store, "begin_next", lambda: None)
    job = http.post("/api/v1/similarities", json={"names": ["sage", "pirate"]}).json()["id"]
    for path, body in (("load", {"name": "embedded"}), ("unload", {})):
        refused = http.post(f"/api/v1/models/{path}", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
        assert job in refused.json()["error"]["message"]
    assert http.post(f"/api/v1/jobs/{job}/cancel", json={}).json()["status"] == "cancelled"


def test_a_load_that_fails_says_why_and_leaves_no_model(http: httpx2.Client, tmp_path: Path) -> None:
    assert http.post("/api/v1/models/load", json={"name": "hf:nobody/nothing-of-this-name"}).status_code == 202
    wait_until(http, "empty")
    slot = http.get("/api/v1/models").json()["slot"]
    assert slot["error"] and slot["model"] == "nobody/nothing-of-this-name"


@pytest.mark.parametrize("name", ["/etc", "../models/x", "hf:/etc/passwd", "a/b/c", "hf:../x", "openai:http://x#y"])
def test_a_request_names_no_folder_and_no_address(name: str, http: httpx2.Client) -> None:
    refused = http.post("/api/v1/models/load", json={"name": name})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")


def test_a_name_means_the_configured_model_an_embedded_one_or_one_of_the_hub(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = api.state.config
    assert as_choice(ModelChoice(name=MODEL), config).name == config.model.name
    assert as_choice(ModelChoice(name="embedded"), config).name == "embedded"
    assert as_choice(ModelChoice(name="owner/name", revision="v1"), config) == ModelChoice(
        name="hf:owner/name", revision="v1"
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    with pytest.raises(UsageError, match="names no model"):
        as_choice(ModelChoice(name="owner/name"), config)


def test_the_feed_tells_of_a_model_that_goes_and_comes(api: Api, http: httpx2.Client) -> None:
    with listening(api, "/api/v1/events") as events:
        assert next(events).data["state"] == "ready"
        http.post("/api/v1/models/unload", json={})
        assert next(events).data["state"] == "empty"
        http.post("/api/v1/models/load", json={"name": MODEL})
        states = [next(events).data["state"]]
        while states[-1] != "ready":
            states.append(next(events).data["state"])
        assert set(states) == {"loading", "ready"}
