"""Vectors made over HTTP: previewed, edited, estimated, made by a job, and used at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.authoring.conftest import Scripted
from tests.authoring.writers import good
from tests.backends.fake_server import Script, says, serving
from tests.engine.create_persona import EFFORT
from tests.server.api import Api, make_state, running

from persona_steering.engine.create import EFFORTS
from persona_steering.extraction.contrast import data_hash
from persona_steering.personas import load_library_trait
from persona_steering.personas.datasets import Datasets
from persona_steering.personas.manager import PersonaManager
from persona_steering.server.door.security import Door
from persona_steering.server.library import shipped

PROMPTS = ["You are a cook. You talk of soup.", "Speak as a cook. You talk of bread."]
COOK = {"name": "cook", "system_prompts": PROMPTS, "effort": "quick"}
QUESTIONS = [f"What do you hear at {hour} o'clock?" for hour in range(1, 13)]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EFFORTS, "quick", EFFORT.model_copy(update={"questions": 8, "prompts_per_question": 1}))
        with running(make_state(tmp_path_factory.mktemp("making")), Door.at("127.0.0.1")) as api:
            yield api


@pytest.fixture
def http(api: Api) -> Iterator[httpx2.Client]:
    with api.client() as client:
        yield client


@pytest.fixture(scope="module")
def cook(api: Api) -> dict[str, Any]:
    """The job that made the persona cook."""
    with api.client() as http:
        return done(api, http.post("/api/v1/personas", json=COOK))


def done(api: Api, reply: httpx2.Response) -> dict[str, Any]:
    """The job that was asked for, when it has succeeded."""
    assert reply.status_code == 202, reply.text
    job: dict[str, Any] = reply.json()
    assert reply.headers["location"] == f"/api/v1/jobs/{job['id']}"
    for _ in api.state.jobs.store.follow(job["id"]):
        pass
    with api.client() as http:
        ended: dict[str, Any] = http.get(reply.headers["location"]).json()
    assert ended["status"] == "succeeded", ended["error"]
    return ended


def batches(api: Api) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in api.state.config.runs_dir.rglob("*.safetensors")}


def test_a_made_persona_answers_at_once_and_shows_before_and_after(
    http: httpx2.Client, cook: dict[str, Any], api: Api
) -> None:
    card = http.get("/api/v1/personas/cook").json()
    assert card["status"] in ("ready", "weak") and card["calibration"]["num_questions"] > 0
    assert card["status"] == "ready" or card["status_reason"], "what fails its gate says why, and is not ready"
    assert card["system_prompts"] == PROMPTS
    examples = http.get("/api/v1/personas/cook/examples").json()
    assert (examples["source"], examples["strength"], examples["safe"]) == ("creation", 1.0, True)
    assert len(examples["data"]) == card["calibration"]["num_questions"]
    assert all(one["question"] and one["before"] != one["after"] for one in examples["data"])
    body = {"model": "persona-steer:cook", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    assert http.post("/v1/chat/completions", json=body).json()["steering"]["hash"]


def test_a_persona_that_is_there_is_not_made_again(http: httpx2.Client, cook: dict[str, Any]) -> None:
    reply = http.post("/api/v1/personas", json=COOK)
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "conflict")


def test_the_same_request_goes_on_from_the_answers_that_are_there(
    http: httpx2.Client, cook: dict[str, Any], api: Api
) -> None:
    first, before = http.get("/api/v1/personas/cook/vectors").json(), batches(api)
    assert http.delete("/api/v1/personas/cook").status_code == 204
    estimate = http.post("/api/v1/personas", json=COOK, params={"dry_run": True})
    assert estimate.status_code == 200 and estimate.json()["phases"]["persona"] == 0
    assert http.get("/api/v1/personas/cook").status_code == 404, "an estimate makes nothing"
    done(api, http.post("/api/v1/personas", json=COOK))
    assert batches(api) == before
    assert http.get("/api/v1/personas/cook/vectors").json() == first


def test_a_trait_is_made_of_edited_pairs_and_questions(http: httpx2.Client, cook: dict[str, Any], api: Api) -> None:
    pairs = http.post("/api/v1/traits/preview", json={"word": "silly"}).json()["pairs"][:2]
    body = {"word": "silly", "name": "sillier", "pairs": pairs, "questions": QUESTIONS, "effort": "quick"}
    done(api, http.post("/api/v1/traits", json=body))
    made = http.get("/api/v1/traits/sillier").json()
    assert made["system_prompts"] == [pair["positive"] for pair in pairs]
    assert (made["opposite"], made["source"]) == (load_library_trait("silly").opposite, "edited")
    manager = PersonaManager(api.state.config, model=api.serving.manager.model)
    assert manager.load("sillier").metadata.data_hashes["questions"] == data_hash(QUESTIONS)
    assert http.get("/api/v1/personas/sillier").status_code == 404


def test_a_persona_is_asked_ones_own_questions(http: httpx2.Client, cook: dict[str, Any], api: Api) -> None:
    done(api, http.post("/api/v1/personas", json={**COOK, "name": "chef", "questions": QUESTIONS}))
    made = http.get("/api/v1/personas/chef").json()
    assert made["kept"] + made["dropped"] == len(QUESTIONS)
    first = http.get("/api/v1/personas/cook/vectors").json()["digest"]
    assert http.get("/api/v1/personas/chef/vectors").json()["digest"] != first


def test_the_axes_are_made_by_a_job(http: httpx2.Client, cook: dict[str, Any], api: Api) -> None:
    ended = done(api, http.post("/api/v1/axes", json={"which": "safety", "effort": "quick"}))
    assert [axis["name"] for axis in ended["result"]["axes"]] == ["safety"]
    axes = {one["name"]: one for one in http.get("/api/v1/axes").json()["data"]}
    assert {"safety", "assistant-baseline"} <= set(axes) and axes["safety"]["status"] == "ready"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("personas", {"name": "new"}, "one of archetype"),
        ("personas", {"name": "../up", "archetype": "sage"}, "not a valid name"),
        ("personas", {"name": "new", "archetype": "sage", "prompt": 3}, "unknown field 'prompt'"),
        ("personas", {"name": "new", "system_prompts": ["short"]}, "system_prompts"),
        ("personas", {"name": "new", "system_prompts": PROMPTS, "questions": QUESTIONS[:2]}, "questions"),
        ("traits", {"word": "loud", "pairs": [{"positive": "Be loud.", "negative": "be loud."}]}, "the same"),
        ("traits", {"word": "loud", "pairs": [{"pos": "Be loud.", "neg": "Be quiet."}]}, "unknown field"),
        ("traits", {"word": "/etc/traits.json"}, "not a word"),
        ("axes", {"which": "safe"}, "which"),
        ("axes", {"questions": QUESTIONS}, "questions"),
    ],
)
def test_what_cannot_be_made_is_refused_at_once(
    path: str, body: dict[str, Any], said: str, http: httpx2.Client
) -> None:
    for params in ({}, {"dry_run": True}):
        reply = http.post(f"/api/v1/{path}", json=body, params=params)
        assert reply.status_code == 400 and said in reply.json()["error"]["message"], reply.text


def test_an_unknown_archetype_is_answered_with_the_nearest(http: httpx2.Client) -> None:
    reply = http.post("/api/v1/personas", json={"name": "new", "archetype": "saeg"})
    assert reply.status_code == 404 and "'sage'" in reply.json()["error"]["message"]


def test_questions_that_doses_are_measured_on_make_no_vector(http: httpx2.Client, api: Api) -> None:
    taken = Datasets(api.state.config.datasets_dir).calibration_questions()[0]
    for path, body in (("personas", {**COOK, "name": "new"}), ("traits", {"word": "loud"})):
        reply = http.post(f"/api/v1/{path}", json={**body, "questions": [*QUESTIONS, taken]})
        assert reply.status_code == 400 and "strengths are measured on" in reply.json()["error"]["message"]


# -- previews ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Script]]:
    """A writer on the last script in the list."""
    scripts: list[Script] = [good]
    with serving(lambda body, number: scripts[-1](body, number)) as server, Scripted(server) as writer:
        monkeypatch.setattr(shipped, "open_writer", lambda choice, config, local: writer)
        yield scripts


def test_a_description_is_previewed_and_goes_back_edited(http: httpx2.Client, written: list[Script], api: Api) -> None:
    asked = {"name": "wizard", "description": "a grumpy wizard", "prompts": 3, "questions": 4}
    found = http.post("/api/v1/personas/preview", json=asked).json()
    assert len(found["system_prompts"]) == 3 and len(found["questions"]) == 4
    assert all(prompt.startswith("You are a grumpy wizard") for prompt in found["system_prompts"][:1])
    assert not (api.state.config.datasets_dir / "personas" / "wizard.toml").exists(), "nothing is kept"
    edited = {"name": "wizard", "system_prompts": found["system_prompts"], "questions": found["questions"]}
    reply = http.post("/api/v1/personas", json={**edited, "effort": "quick"}, params={"dry_run": True})
    assert reply.status_code == 200 and reply.json()["phases"]["persona"] == len(found["questions"])


def test_a_trait_is_written_when_asked(http: httpx2.Client, written: list[Script]) -> None:
    asked = {"word": "confident", "opposite": "insecure", "write": True}
    found = http.post("/api/v1/traits/preview", json=asked).json()
    assert (found["source"], len(found["pairs"]), len(found["questions"])) == ("written", 5, 20)
    assert found["pairs"][0]["positive"].startswith("You are confident.")


def test_a_model_that_cannot_write_is_told_of(http: httpx2.Client, written: list[Script]) -> None:
    written.append(lambda body, number: says("I would rather not."))
    reply = http.post("/api/v1/personas/preview", json={"name": "wizard", "description": "a grumpy wizard"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "quality_not_met")


@pytest.mark.parametrize(
    "body", [{"name": "wizard", "description": ""}, {"name": "wizard", "description": "word " * 61}, {"name": "A"}]
)
def test_a_preview_of_nothing_is_refused(body: dict[str, Any], http: httpx2.Client, written: list[Script]) -> None:
    assert http.post("/api/v1/personas/preview", json=body).status_code == 400


def test_a_preview_that_goes_back_unchanged_makes_the_librarys_trait(http: httpx2.Client) -> None:
    found = http.post("/api/v1/traits/preview", json={"word": "humorous"}).json()
    body = {"word": "humorous", "pairs": found["pairs"], "effort": "quick"}
    job = http.post("/api/v1/traits", json=body, params={"dry_run": True})
    assert job.status_code == 200
    assert job.json()["phases"]["positive"] == len(load_library_trait("humorous").questions)


# -- without a model ---------------------------------------------------------------------------------------------------


def test_without_a_model_the_library_is_shown_and_nothing_is_made(tmp_path: Path) -> None:
    with running(make_state(tmp_path), Door.at("127.0.0.1")) as api, api.client() as http:
        api.state.unload_model()
        page = http.get("/api/v1/personas").json()
        assert {card["status"] for card in page["data"]} == {"other_model"}
        assert http.get("/api/v1/personas/sage").json()["name"] == "sage"
        assert http.get("/api/v1/archetypes").status_code == 200
        assert http.get("/api/v1/personas/sage/export").status_code == 200
        for path, body in (
            ("personas", COOK),
            ("traits", {"word": "loud"}),
            ("axes", {}),
            ("personas/preview", {"name": "wizard", "description": "a grumpy wizard"}),
        ):
            assert http.post(f"/api/v1/{path}", json=body).status_code == 503
        kind = {"content-type": "application/octet-stream"}
        assert http.post("/api/v1/import?filename=a.pt", content=b"x", headers=kind).status_code == 503
