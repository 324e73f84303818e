"""The paths of the two earlier systems, asked as their clients ask: the bodies of their interfaces as they stand."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from tests.backends.tiny import HIDDEN, LAYERS
from tests.engine.create_persona import EFFORT
from tests.server.api import MODEL, Api, make_state, running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from persona_steering.authoring.generator import DatasetGenerator
from persona_steering.backends.base import Message, Request, Sampling
from persona_steering.engine.create import EFFORTS
from persona_steering.interventions import Recipe
from persona_steering.personas import trait_from_word
from persona_steering.personas.datasets import Datasets
from persona_steering.server.door.security import Door
from persona_steering.server.stores.job_models import Job
from persona_steering.vectors.formats.legacy import read_json

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
    with connect(f"{api.url.replace('http', 'ws')}/ws/chat", **options) as opened:
        yield opened


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
    with running(state, Door.at("127.0.0.1")) as api, api.client() as http:
        status = http.get("/api/status").json()
        assert (status["model_loaded"], status["safety_floor"]) == (False, None)
        assert [one["name"] for one in http.get("/api/personas").json()] == ["pirate", "raw", "sage"]
        refused = http.post("/api/chat", json=SAID)
        assert (refused.status_code, list(refused.json())) == (503, ["detail"])
        asked = {"trait_name": "Lionheart", "positive_trait": "brave", "negative_trait": "timid"}
        unwritten = http.post("/api/traits/generate-custom", json=asked)
        assert (unwritten.status_code, unwritten.json()) == (503, refused.json()), unwritten.text
        assert http.post("/api/load-model").json() == {"status": "loaded"}
        assert http.get("/api/status").json()["model_loaded"] is True


def test_the_socket_streams_what_a_chat_answers(api: Api, http: httpx2.Client) -> None:
    with chatting(api) as socket:
        assert socket.response is not None
        assert socket.response.headers["deprecation"].startswith("@")
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


def test_who_sends_on_without_waiting_is_let_go_and_its_answer_ends(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = api.serving.config
    long = settings.generation.model_copy(update={"max_new_tokens": 1500})
    monkeypatch.setattr(api.serving, "config", settings.model_copy(update={"generation": long}))
    before = api.serving.scheduler.load
    with chatting(api) as socket, pytest.raises(ConnectionClosed) as closed:
        for _ in range(300):
            socket.send(json.dumps({"message": "hello"}))
        while True:
            socket.recv(timeout=30)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
    api.wait_until_idle()
    after = api.serving.scheduler.load
    assert after.answers - before.answers <= 1 and after.tokens - before.tokens < 1500


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


# -- the cross-model system --------------------------------------------------------------------------------------------


def test_health_says_who_answers(http: httpx2.Client) -> None:
    health = http.get("/api/health").json()
    assert (health["status"], health["service"], set(health)) == (
        "healthy",
        "persona-steering",
        {"status", "service", "version"},
    )


def test_the_model_is_listed_described_and_asked(http: httpx2.Client) -> None:
    assert http.get("/api/models").json() == {"models": [{"id": MODEL, "name": MODEL, "type": "llama"}]}
    facts = http.get(f"/api/models/{MODEL}/info").json()
    assert (facts["loaded"], facts["num_layers"], facts["hidden_size"]) == (True, LAYERS, HIDDEN)
    tested = http.post("/api/models/test", json={"model_id": MODEL, "prompt": "hello"}).json()
    assert (tested["success"], tested["response"]) == (True, answer(http, safety_enabled=False))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/models/test", {"model_id": "other/model", "prompt": "hello"}),
        ("POST", "/api/models/test", {"model_id": f"{MODEL}:sage", "prompt": "hello"}),
        ("GET", "/api/models/other/model/info", None),
        ("DELETE", "/api/models/other/unload", None),
        ("POST", "/api/vectors/generate", {"model_id": "other", "trait_id": "confident"}),
        ("GET", f"/api/vectors/{MODEL}/calmer", None),
        ("GET", f"/api/vectors/{MODEL}/sage", None),
        ("DELETE", f"/api/vectors/{MODEL}/sage", None),
        ("DELETE", "/api/traits/custom/nothing", None),
        ("POST", "/api/steering/test", {"model_id": MODEL, "trait_id": "calmer", "user_prompt": "hello"}),
    ],
)
def test_what_is_not_there_is_a_404_with_a_detail(
    method: str, path: str, body: dict[str, Any] | None, http: httpx2.Client
) -> None:
    reply = http.request(method, path, json=body)
    assert (reply.status_code, list(reply.json())) == (404, ["detail"])


@pytest.mark.parametrize(("coefficient", "direction"), [(1.0, "positive"), (-0.5, "negative"), (0, "none")])
def test_steering_is_tried_against_the_model_as_it_is(
    coefficient: float, direction: str, http: httpx2.Client, api: Api
) -> None:
    asked = {"model_id": MODEL, "trait_id": "calm", "coefficient": coefficient, "user_prompt": "hello"}
    found = http.post("/api/steering/test", json=asked).json()
    assert found["success"] is True
    assert found["baseline_response"] == engine_answer(api, {}, safety=False)
    assert found["steered_response"] == engine_answer(api, {"calm": coefficient}, safety=True)
    assert (found["coefficient"], found["direction"]) == (coefficient, direction)
    assert (found["layer"] is None) == (coefficient == 0)


def test_a_stored_vector_is_the_object_that_the_earlier_system_kept(
    http: httpx2.Client, api: Api, tmp_path: Path
) -> None:
    (row,) = http.get("/api/vectors").json()["vectors"]
    assert (row["trait_id"], row["num_layers"], row["effectiveness_scores"]) == ("calm", LAYERS, {})
    kept = http.get(f"/api/vectors/{MODEL}/calm").json()
    assert (kept["model_id"], kept["trait_id"]) == (MODEL, "calm")
    (tmp_path / "calm.json").write_text(json.dumps(kept))
    read = read_json(tmp_path / "calm.json", model=api.serving.manager.model)
    stored = api.serving.manager.load("calm")
    assert read.layers == stored.layers
    assert all((read.direction(layer) == stored.direction(layer)).all() for layer in stored.layers)


CUSTOM = trait_from_word("brave", "timid").model_copy(update={"name": "lionheart"})


def test_custom_traits_are_those_of_the_workspace(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    state.config = state.config.model_copy(
        update={"paths": state.config.paths.model_copy(update={"datasets": tmp_path / "datasets"})}
    )
    with running(state, Door.at("127.0.0.1")) as api, api.client() as http:
        empty = http.get("/api/traits/custom").json()
        assert (empty["success"], empty["traits"], empty["count"]) == (True, [], 0)
        Datasets(state.config.datasets_dir).save_trait(CUSTOM)
        (found,) = http.get("/api/traits/custom").json()["traits"]
        assert (found["id"], found["metadata"]) == ("lionheart", {"positive_trait": "brave", "negative_trait": "timid"})
        assert found["prompt_pairs"][0] == CUSTOM.pairs[0].model_dump()
        assert http.delete("/api/traits/custom/lionheart").json()["success"] is True
        assert http.delete("/api/traits/custom").json() == {"success": True, "message": "0 were deleted."}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"positive_trait": "no word at all, truly 7"}, "word"),
        ({"num_pairs": 9}, "num_pairs"),
        ({"temperature": 1.3}, "temperature"),
        ({"negative_trait": "brave"}, "same word"),
    ],
)
def test_a_custom_trait_that_cannot_be_written_is_refused(
    changes: dict[str, Any], named: str, http: httpx2.Client
) -> None:
    body = {"trait_name": "Lionheart", "positive_trait": "brave", "negative_trait": "timid", "num_pairs": 5}
    reply = http.post("/api/traits/generate-custom", json=body | {"temperature": 0.7} | changes)
    assert (reply.status_code, list(reply.json())) == (400, ["detail"])
    assert named in reply.json()["detail"]


def test_a_custom_trait_is_written_and_its_vector_made_while_the_client_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = make_state(tmp_path)
    paths = state.config.paths.model_copy(update={"datasets": tmp_path / "datasets"})
    state.config = state.jobs._config = state.config.model_copy(update={"paths": paths})
    monkeypatch.setitem(EFFORTS, "standard", EFFORT)
    monkeypatch.setattr(DatasetGenerator, "generate_trait", lambda _, word, opposite: trait_from_word(word, opposite))
    with running(state, Door.at("127.0.0.1")) as api, api.client() as http:
        http.timeout = 120
        asked = {"trait_name": "Lion Heart", "positive_trait": "brave", "negative_trait": "timid", "num_pairs": 3}
        written = http.post("/api/traits/generate-custom", json=asked).json()
        assert (written["trait_id"], written["trait_name"], written["num_custom_traits"]) == (
            "lion-heart",
            "Lion Heart",
            1,
        )
        assert len(written["prompt_pairs"]) == 3
        assert http.post("/api/traits/generate-custom", json=asked).status_code == 400
        made = http.post("/api/vectors/generate", json={"model_id": MODEL, "trait_id": "lion-heart"})
        assert made.status_code == 200, made.text
        facts = made.json()
        assert (facts["success"], facts["num_layers"], facts["effectiveness_scores"]) == (True, LAYERS, {})
        assert facts["generation_time"] > 0
        assert "lion-heart" in [one["name"] for one in http.get("/api/traits").json()]
        assert http.delete(f"/api/vectors/{MODEL}/lion-heart").json()["success"] is True


def test_a_vector_whose_job_is_cancelled_is_refused_with_the_reason(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    with running(state, Door.at("127.0.0.1")) as api, api.client() as http, ThreadPoolExecutor() as pool:
        with state.slot.turn():  # the job waits for its turn
            asked = pool.submit(http.post, "/api/vectors/generate", json={"model_id": MODEL, "trait_id": "confident"})
            state.jobs.cancel(waiting_job(api).id)
        reply = asked.result(30)
    assert (reply.status_code, list(reply.json())) == (409, ["detail"])
    assert "cancelled" in reply.json()["detail"]


def waiting_job(api: Api) -> Job:
    """The one job there is, once it is there."""
    for _ in range(1000):
        if jobs := api.state.jobs.store.unfinished():
            return jobs[0]
        time.sleep(0.01)
    raise AssertionError("there is no job")


def test_leaving_while_a_vector_is_made_cancels_the_job(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    with running(state, Door.at("127.0.0.1")) as api, state.slot.turn():  # the job waits for its turn
        address = urlsplit(api.url)
        body = json.dumps({"model_id": MODEL, "trait_id": "confident"}).encode()
        head = f"POST /api/vectors/generate HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((address.hostname, address.port)) as plain:  # type: ignore[arg-type]
            plain.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            job = waiting_job(api)
        for _ in range(1000):
            if state.jobs.store.get(job.id).cancel_requested:
                break
            time.sleep(0.01)
        assert state.jobs.store.get(job.id).cancel_requested
