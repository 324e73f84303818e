"""The paths of the two earlier systems, asked as their clients ask: the bodies of their interfaces as they stand."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.server.api import Api, make_state, running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from persona_steering.backends.base import Message, Request, Sampling
from persona_steering.interventions import Recipe
from persona_steering.server.security import Door

SAID = {"message": "hello", "personas": {}, "traits": {}, "safety_enabled": True, "safety_strength": 1.0}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    state = make_state(tmp_path_factory.mktemp("reference"))
    # the same answer every time, so that answers can be compared
    changed = state.config.model_copy(
        update={"generation": state.config.generation.model_copy(update={"temperature": 0.0})}
    )
    state.slot.serving.config = changed
    with running(state, Door.at("127.0.0.1")) as api:
        yield api


@pytest.fixture
def http(api: Api) -> Iterator[httpx2.Client]:
    with api.client() as client:
        yield client


@pytest.fixture(autouse=True)
def usual_scale(api: Api) -> Iterator[None]:
    yield
    api.state.reference_scale = 1.0


@contextmanager
def chatting(api: Api, **options: Any) -> Iterator[ClientConnection]:
    with connect(f"{api.url.replace('http', 'ws')}/ws/chat", **options) as socket:
        yield socket


def frames(socket: ClientConnection) -> list[dict[str, Any]]:
    """Those of one answer."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["type"] not in ("done", "error"):
        found.append(json.loads(socket.recv(timeout=30)))
    return found


def text_of(found: list[dict[str, Any]]) -> str:
    return "".join(frame["content"] for frame in found if frame["type"] == "chunk")


def answer(http: httpx2.Client, **changes: Any) -> str:
    reply = http.post("/api/chat", json=SAID | changes)
    assert reply.status_code == 200, reply.text
    assert set(reply.json()) == {"response"}
    return str(reply.json()["response"])


def engine_answer(api: Api, blend: dict[str, float], *, safety: bool) -> str:
    """What the engine says to the same, with the same recipe."""
    serving = api.serving
    steering = serving.steering(blend, safety=safety, layers={})
    asked = Request(
        (Message("user", "hello"),), recipe=steering.recipe, sampling=Sampling.configured(serving.config.generation)
    )
    return serving._engine.model.backend.generate([asked])[0].text


def test_the_status_has_the_fields_that_clients_poll(http: httpx2.Client) -> None:
    status = http.get("/api/status").json()
    assert status == {
        "model_loaded": True,
        "model_loading": False,
        "model_name": "tiny:llama",
        "safety_axis_available": True,
        "safety_floor": -0.5,
        "creating_persona": None,
        "creating_trait": None,
        "steering_scale": 1.0,
    }


def test_every_answer_says_that_the_path_is_deprecated_and_what_follows_it(http: httpx2.Client) -> None:
    for reply in (http.get("/api/personas"), http.delete("/api/personas/nobody"), http.post("/api/chat", json={})):
        assert re.fullmatch(r"@\d+", reply.headers["deprecation"])
        assert re.fullmatch(r'<(/\S+)>; rel="successor-version"', reply.headers["link"])
    assert "deprecation" not in http.get("/v1/models").headers


def test_a_loaded_model_is_not_loaded_again(http: httpx2.Client) -> None:
    assert http.post("/api/load-model").json() == {"status": "already_loaded"}


def test_personas_and_traits_are_lists(http: httpx2.Client) -> None:
    personas = http.get("/api/personas").json()
    assert [one["name"] for one in personas] == ["pirate", "raw", "sage"]
    assert set(personas[0]) == {"name", "source", "description", "traits", "loaded"}
    assert http.get("/api/traits").json() == [{"name": "calm", "opposite": "", "loaded": False}]


def test_a_chat_without_weights_is_the_model_under_the_floor(http: httpx2.Client, api: Api) -> None:
    floor = api.serving.safety_floor()
    asked = Request((Message("user", "hello"),), sampling=Sampling.configured(api.serving.config.generation))
    backend = api.serving._engine.model.backend
    plain = backend.generate([asked])[0].text
    capped = backend.generate([replace(asked, recipe=Recipe((floor,)))])[0].text
    assert answer(http) == capped
    assert answer(http, safety_enabled=False) == plain


@pytest.mark.parametrize("safety", [True, False])
def test_a_chat_is_steered_by_the_same_recipe_as_the_engine_and_keeps_its_floor(
    safety: bool, http: httpx2.Client, api: Api
) -> None:
    said = answer(http, personas={"sage": 0.6, "pirate": 0}, traits={"calm": -0.3}, safety_enabled=safety)
    assert said == engine_answer(api, {"sage": 0.6, "calm": -0.3}, safety=safety)


def test_the_scale_multiplies_weights_here_and_is_held_to_its_bounds(http: httpx2.Client, api: Api) -> None:
    assert http.post("/api/steering-scale", json={"scale": 0.5}).json() == {"status": "ok", "steering_scale": 0.5}
    assert http.get("/api/status").json()["steering_scale"] == 0.5
    assert answer(http, personas={"sage": 0.8}) == engine_answer(api, {"sage": 0.4}, safety=True)
    for asked, held in ((0, 0.01), (7, 2.0)):
        assert http.post("/api/steering-scale", json={"scale": asked}).json()["steering_scale"] == held


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"message": ""}, 400, "message"),
        ({"message": " "}, 400, "prompt is empty"),
        ({"message": "\ud800"}, 400, "message"),
        ({"personas": {"sages": 0.5}}, 404, "sage"),
        ({"personas": {"calm": 0.5}}, 404, "is a trait"),
        ({"personas": {"sage": 9}}, 400, "personas"),
        ({"personas": {"../etc": 1}}, 400, "not a valid name"),
        ({"safety_strength": 0.5}, 400, "safety_strength"),
        ({"temperature": 1}, 400, "temperature"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_a_detail(
    body: dict[str, Any], status: int, named: str, http: httpx2.Client
) -> None:
    reply = http.post("/api/chat", content=json.dumps(SAID | body), headers={"content-type": "application/json"})
    assert (reply.status_code, list(reply.json())) == (status, ["detail"])
    assert named in reply.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/personas", {"name": "grumpy wizard", "description": "a grumpy wizard who is tired of apprentices"}),
        ("/api/personas", {"name": "sage", "description": "a calm sage who answers with a question"}),
        ("/api/personas", {"name": "../up", "description": "a calm sage who answers with a question"}),
        ("/api/personas", {"name": "monk", "description": "a monk", "use_judge": True}),
        ("/api/personas", {"name": "monk"}),
        ("/api/traits", {"word": "calm", "opposite": None}),
        ("/api/traits", {"word": "x" * 99, "opposite": None}),
    ],
)
def test_what_cannot_be_made_is_a_400_at_once(path: str, body: dict[str, Any], http: httpx2.Client, api: Api) -> None:
    reply = http.post(path, json=body)
    assert (reply.status_code, list(reply.json())) == (400, ["detail"])
    assert api.state.jobs.store.unfinished() == []


def test_making_is_a_job_whose_name_the_status_tells(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    with running(state, Door.at("127.0.0.1")) as api, api.client() as http, state.slot.turn():  # the job waits
        body = {"name": "monk", "description": "a silent monk who loves his garden", "num_prompts": 2}
        full = body | {"num_questions": 16, "batch_size": 8, "use_judge": False}
        reply = http.post("/api/personas", json=full)
        assert reply.json() == {"status": "creating", "name": "monk"}
        assert http.get("/api/status").json()["creating_persona"] == "monk"
        assert http.post("/api/personas", json=full).status_code == 400
        made = http.post("/api/traits", json={"word": "Bold", "opposite": "shy", "num_questions": 16, "batch_size": 8})
        assert made.json() == {"status": "creating", "name": "bold"}
        assert http.get("/api/status").json()["creating_trait"] == "bold"
        for job in reversed(state.jobs.store.unfinished()):
            state.jobs.cancel(job.id)


def test_deleting_takes_it_away_and_knows_personas_from_traits(tmp_path: Path) -> None:
    with running(make_state(tmp_path), Door.at("127.0.0.1")) as api, api.client() as http:
        assert http.delete("/api/traits/sage").status_code == 404
        assert http.delete("/api/personas/sage").json() == {"status": "deleted", "name": "sage"}
        assert http.delete("/api/personas/sage").status_code == 404
        assert http.delete("/api/traits/calm").json() == {"status": "deleted", "name": "calm"}
        assert [one["name"] for one in http.get("/api/personas").json()] == ["pirate", "raw"]
        assert http.post("/api/chat", json=SAID | {"personas": {"sage": 1}}).status_code == 404


def test_without_a_model_the_status_says_so_and_chat_says_what_to_do(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    state.slot.unload()
    model = state.config.model  # its folder's name has a colon, so that the engine has to be said
    state.slot._config = state.config.model_copy(
        update={"model": model.model_copy(update={"name": f"hf:{model.name}"})}
    )
    with running(state, Door.at("127.0.0.1")) as api, api.client() as http:
        status = http.get("/api/status").json()
        assert (status["model_loaded"], status["safety_floor"]) == (False, None)
        assert [one["name"] for one in http.get("/api/personas").json()] == ["pirate", "raw", "sage"]
        refused = http.post("/api/chat", json=SAID)
        assert (refused.status_code, list(refused.json())) == (503, ["detail"])
        assert http.post("/api/load-model").json() == {"status": "loaded"}
        assert http.get("/api/status").json()["model_loaded"] is True


def test_the_socket_streams_what_a_chat_answers(api: Api, http: httpx2.Client) -> None:
    with chatting(api) as socket:
        for weights in ({"sage": 0.6}, {}):
            body = {"message": "hello", "personas": weights, "traits": {}, "safety_enabled": True}
            socket.send(json.dumps(body))
            found = frames(socket)
            assert found[0] == {"type": "status", "status": "generating"}
            assert found[-1] == {"type": "done"}
            chunks = [frame for frame in found if frame["type"] == "chunk"]
            assert [chunk["done"] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
            assert len(chunks) > 2, "piece by piece"
            assert text_of(found) == answer(http, personas=weights)


def test_a_bad_message_on_the_socket_is_an_error_and_the_next_is_answered(api: Api) -> None:
    with chatting(api) as socket:
        bad: list[str | bytes] = ["no json", b"\x00", "[]", "{}", json.dumps({"message": "hi", "personas": {"sag": 1}})]
        for text in bad:
            socket.send(text)
            (error,) = frames(socket)
            assert (error["type"], set(error)) == ("error", {"type", "error"})
        assert "sage" in error["error"]
        socket.send(json.dumps({"message": "hello"}))
        assert frames(socket)[-1] == {"type": "done"}


def test_leaving_the_socket_ends_its_answer(api: Api) -> None:
    with chatting(api) as socket:
        before = api.serving.scheduler.load.tokens
        settings = api.serving.config
        api.serving.config = settings.model_copy(
            update={"generation": settings.generation.model_copy(update={"max_new_tokens": 1500})}
        )
        try:
            socket.send(json.dumps({"message": "hello"}))
            while json.loads(socket.recv(timeout=30))["type"] != "chunk":
                pass
        finally:
            api.serving.config = settings
    api.wait_until_idle()
    assert api.serving.scheduler.load.tokens - before < 1500


def test_a_foreign_page_gets_no_socket(api: Api) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        with pytest.raises(InvalidStatus) as refused, chatting(api, additional_headers=headers):
            pass
        assert refused.value.response.status_code == 403


def test_a_frame_beyond_the_limit_closes_the_socket(api: Api) -> None:
    with chatting(api) as socket:
        socket.send(json.dumps({"message": "x" * 300_000}))
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=30)


def test_the_visualization_says_where_it_is(http: httpx2.Client) -> None:
    reply = http.get("/visualization")
    found = (reply.status_code, reply.headers.get("location", ""))
    assert found in [(307, "/#/lab"), (404, "")]


def test_several_clients_of_the_socket_are_answered_at_once(api: Api) -> None:
    texts: list[str] = []

    def ask() -> None:
        with chatting(api) as socket:
            socket.send(json.dumps({"message": "hello", "personas": {"sage": 0.6}}))
            texts.append(text_of(frames(socket)))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert texts == [engine_answer(api, {"sage": 0.6}, safety=True)] * 3
