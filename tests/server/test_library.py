"""The library over HTTP: what is there, what was measured on it, and files in and out."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from tests.backends.tiny import LAYERS
from tests.cli.conftest import make_calibration, make_vector
from tests.server.api import Api, make_state, running

from persona_steering.engine.examples import Examples, keep_examples
from persona_steering.personas import list_archetypes, load_archetype, load_library_trait
from persona_steering.personas.datasets import Datasets
from persona_steering.personas.manager import PersonaManager
from persona_steering.scoring.examples import Example
from persona_steering.server.door.security import Door
from persona_steering.vectors import ModelIdentity, SteeringVector
from persona_steering.vectors.formats import archive, safetensors, writing
from persona_steering.vectors.metadata import VectorKind

FORMATS = {
    "safetensors": "safetensors",
    "zip": "archive",
    "gguf": "gguf",
    "persona_vectors": "persona_vectors",
    "assistant-axis": "assistant-axis",
    "legacy-pt": "legacy-pt",
    "legacy-json": "legacy-json",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def api(root: Path) -> Iterator[Api]:
    with running(make_state(root), Door.at("127.0.0.1")) as api:
        yield api


@pytest.fixture
def http(api: Api, root: Path) -> Iterator[httpx2.Client]:
    """A client that fails the test when an answer tells where the workspace is."""

    def check(reply: httpx2.Response) -> None:
        reply.read()
        assert str(root).encode() not in reply.content, reply.text

    with api.client() as client:
        client.event_hooks = {"response": [check]}
        yield client


@pytest.fixture
def model(api: Api) -> ModelIdentity:
    return api.serving.manager.model


@pytest.fixture
def manager(api: Api, model: ModelIdentity) -> PersonaManager:
    """Another one than the server's own."""
    return PersonaManager(api.state.config, model=model)


def body_of(reply: httpx2.Response, status: int = 200) -> Any:
    assert reply.status_code == status, reply.text
    return reply.json() if reply.content else None


def refusal(reply: httpx2.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def upload(http: httpx2.Client, content: bytes, **query: Any) -> httpx2.Response:
    return http.post(
        "/api/v1/import", params=query, content=content, headers={"content-type": "application/octet-stream"}
    )


def names(page: Any) -> list[str]:
    return [card["id"] for card in page["data"]]


# -- what is there -----------------------------------------------------------------------------------------------------


def test_every_vector_has_a_card_with_its_status_and_what_was_measured(
    http: httpx2.Client, manager: PersonaManager, model: ModelIdentity
) -> None:
    manager.store.save(make_vector(model, "bland", calibration=make_calibration(weak_reason="persona score 0.12")))
    cards = {card["name"]: card for card in body_of(http.get("/api/v1/personas"))["data"]}
    assert {name: cards[name]["status"] for name in ("sage", "raw", "bland")} == {
        "sage": "ready",
        "raw": "uncalibrated",
        "bland": "weak",
    }
    assert cards["bland"]["status_reason"] == "persona score 0.12" and cards["bland"]["calibration"]["weak"]
    sage = cards["sage"]
    assert sage["calibration"]["persona_score"] == {"mean": 0.83, "low": 0.71, "high": 0.95}
    assert (sage["calibration"]["layers"], sage["calibration"]["safe"], sage["max_strength"]) == ([1, 2], None, 1.0)
    assert sage["model"] == {"id": "tiny:llama", "fingerprint": model.fingerprint}
    assert sage["size_bytes"] > 4 * model.hidden_size and sage["layers"] == list(range(LAYERS))
    assert cards["raw"]["calibration"] is None and cards["raw"]["max_strength"] is None
    manager.delete("bland")


def test_personas_traits_and_axes_are_listed_apart(http: httpx2.Client) -> None:
    assert names(body_of(http.get("/api/v1/personas"))) == ["pirate", "raw", "sage"]
    assert names(body_of(http.get("/api/v1/traits"))) == ["calm"]
    assert names(body_of(http.get("/api/v1/axes"))) == ["safety"]
    assert refusal(http.get("/api/v1/personas/calm")) == (404, "not_found")


def test_a_list_comes_in_pages_in_either_order(http: httpx2.Client) -> None:
    first = body_of(http.get("/api/v1/personas", params={"limit": 2}))
    assert (names(first), first["has_more"], first["last_id"]) == (["pirate", "raw"], True, "raw")
    rest = body_of(http.get("/api/v1/personas", params={"limit": 2, "after": "raw"}))
    assert (names(rest), rest["has_more"]) == (["sage"], False)
    assert names(body_of(http.get("/api/v1/personas", params={"order": "desc"}))) == ["sage", "raw", "pirate"]


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 1000}, {"order": "up"}, {"all_model": True}, {"limit": "x"}])
def test_a_page_that_there_cannot_be_is_refused(query: dict[str, Any], http: httpx2.Client) -> None:
    assert refusal(http.get("/api/v1/personas", params=query)) == (400, "invalid_value")


def test_vectors_of_other_models_are_shown_when_asked_for_under_ids_of_their_own(
    http: httpx2.Client, manager: PersonaManager
) -> None:
    other = ModelIdentity(id="hf:other/model", fingerprint="f" * 16, num_layers=2, hidden_size=4)
    manager.store.save(make_vector(other, "sage"))
    page = body_of(http.get("/api/v1/personas", params={"all_models": True}))
    assert names(page) == ["pirate", "raw", "sage", "sage@ffffffff"]
    assert (page["data"][3]["status"], page["data"][3]["model"]["id"]) == ("other_model", "other/model")
    assert body_of(http.get("/api/v1/personas/sage"))["id"] == "sage"
    assert body_of(http.delete("/api/v1/personas/sage@ffffffff"), 204) is None
    assert names(body_of(http.get("/api/v1/personas", params={"all_models": True}))) == ["pirate", "raw", "sage"]


def test_a_damaged_file_is_shown_as_broken_without_telling_where_it_is(
    http: httpx2.Client, manager: PersonaManager
) -> None:
    path = manager.store.path("persona", "torn", manager.model)
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    card = body_of(http.get("/api/v1/personas/torn"))
    assert (card["status"], card["model"], card["layers"]) == ("broken", None, [])
    assert card["status_reason"]
    assert refusal(http.get("/api/v1/personas/torn/vectors")) == (400, "invalid_vector")
    assert body_of(http.delete("/api/v1/personas/torn"), 204) is None
    assert not path.exists()


def test_one_vector_tells_what_it_was_made_from(
    http: httpx2.Client, manager: PersonaManager, model: ModelIdentity
) -> None:
    prompts = ("You are a cook. You talk of soup.",)
    manager.store.save(make_vector(model, "cook", system_prompts=prompts, counts={"kept": 9, "dropped": 1}))
    found = body_of(http.get("/api/v1/personas/cook"))
    assert (found["system_prompts"], found["kept"], found["dropped"]) == (list(prompts), 9, 1)
    assert (found["evidence"], found["forked_from"]) == (None, None)
    manager.delete("cook")


def test_an_unknown_name_is_answered_with_the_nearest(http: httpx2.Client) -> None:
    reply = http.get("/api/v1/personas/sgae")
    assert refusal(reply) == (404, "not_found")
    assert "'sage'" in reply.json()["error"]["hint"]


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "Sage", "a b", "%00", "x" * 80])
def test_what_is_no_name_is_refused(name: str, http: httpx2.Client) -> None:
    for path in ("", "/vectors", "/export", "/examples"):
        assert http.get(f"/api/v1/personas/{name}{path}").status_code in (400, 404)


def test_the_values_are_those_of_the_file(http: httpx2.Client, manager: PersonaManager) -> None:
    sage = manager.load("sage")
    short = body_of(http.get("/api/v1/personas/sage/vectors"))
    assert short["digest"] == sage.digest and short["hidden_size"] == sage.hidden_size
    assert [one["norm"] for one in short["layers"]] == pytest.approx(list(sage.norms.values()))
    assert {one["direction"] for one in short["layers"]} == {None}
    whole = body_of(http.get("/api/v1/personas/sage/vectors", params={"directions": True}))
    assert np.array_equal(np.float32(whole["layers"][1]["direction"]), sage.direction(1))


# -- changes -----------------------------------------------------------------------------------------------------------


def test_a_change_goes_into_the_file_and_is_meant_for_one_version(
    http: httpx2.Client, manager: PersonaManager, model: ModelIdentity
) -> None:
    manager.store.save(make_vector(model, "edited", calibration=make_calibration()))
    reply = http.get("/api/v1/personas/edited")
    tag, digest = reply.headers["etag"], manager.load("edited").digest
    changed = http.patch("/api/v1/personas/edited", json={"tags": ["calm", "calm", "old"]}, headers={"if-match": tag})
    assert body_of(changed)["tags"] == ["calm", "old"]
    assert changed.headers["etag"] != tag
    late = http.patch("/api/v1/personas/edited", json={"description": "late"}, headers={"if-match": tag})
    assert refusal(late) == (412, "precondition_failed")
    assert body_of(http.patch("/api/v1/personas/edited", json={"description": "Speaks."}))["tags"] == ["calm", "old"]
    about = manager.load("edited").metadata
    assert (about.description, about.tags, manager.load("edited").digest) == ("Speaks.", ("calm", "old"), digest)
    assert refusal(http.delete("/api/v1/personas/edited", headers={"if-match": tag}))[0] == 412
    assert http.delete("/api/v1/personas/edited", headers={"if-match": f'"{0}"'}).status_code == 412
    tag = http.get("/api/v1/personas/edited").headers["etag"]
    assert http.delete("/api/v1/personas/edited", headers={"if-match": tag}).status_code == 204
    assert http.get("/api/v1/personas/edited").status_code == 404


@pytest.mark.parametrize(
    "body", [{"name": "other"}, {"tags": [""]}, {"tags": ["x"] * 17}, {"description": "x" * 2001}, {"tags": "calm"}]
)
def test_a_change_that_cannot_be_made_is_refused(body: dict[str, Any], http: httpx2.Client) -> None:
    assert refusal(http.patch("/api/v1/personas/sage", json=body)) == (400, "invalid_value")


def test_a_copy_has_all_that_was_measured_and_knows_its_original(http: httpx2.Client, manager: PersonaManager) -> None:
    reply = http.post("/api/v1/personas/sage/fork", json={"name": "sage-2"})
    made = body_of(reply, 201)
    assert reply.headers["location"] == "/api/v1/personas/sage-2"
    assert (made["status"], made["forked_from"]) == ("ready", "sage")
    assert manager.load("sage-2").digest == manager.load("sage").digest
    assert refusal(http.post("/api/v1/personas/sage/fork", json={"name": "sage-2"})) == (409, "conflict")
    assert refusal(http.post("/api/v1/personas/sage/fork", json={"name": "calm"})) == (409, "conflict")
    assert http.post("/api/v1/personas/sage/fork", json={"name": "../up"}).status_code == 400
    assert http.delete("/api/v1/personas/sage-2").status_code == 204


def test_the_assistant_axis_goes_with_a_persona_that_it_was_made_of(
    http: httpx2.Client, manager: PersonaManager, model: ModelIdentity
) -> None:
    manager.store.save(make_vector(model, "brief"))
    manager.store.save(make_vector(model, "assistant", kind="axis"))
    assert names(body_of(http.get("/api/v1/axes"))) == ["assistant", "safety"]
    assert http.delete("/api/v1/personas/brief").status_code == 204
    assert names(body_of(http.get("/api/v1/axes"))) == ["safety"]
    assert http.delete("/api/v1/axes/safety").status_code == 405


def test_what_somebody_else_changes_on_disk_holds_for_the_next_answer(
    http: httpx2.Client, manager: PersonaManager, model: ModelIdentity
) -> None:
    def ask() -> httpx2.Response:
        body = {"model": "persona-steer:guest", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        return http.post("/v1/chat/completions", json=body)

    assert ask().status_code == 404
    manager.store.save(make_vector(model, "guest", calibration=make_calibration()))
    before = ask().headers["x-steering-hash"]
    replaced = make_vector(model, "another", calibration=make_calibration())
    manager.store.save(SteeringVector(replaced.directions, replaced.metadata.model_copy(update={"name": "guest"})))
    assert ask().headers["x-steering-hash"] != before
    manager.store.delete("persona", "guest", model)
    assert ask().status_code == 404


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_a_vector_goes_out_and_comes_back_in_every_format(
    format: str, http: httpx2.Client, manager: PersonaManager
) -> None:
    sent = http.get("/api/v1/personas/sage/export", params={"format": format})
    assert sent.status_code == 200 and sent.headers["content-type"] == "application/octet-stream"
    ending = writing.FORMATS[FORMATS[format]].suffix
    assert sent.headers["content-disposition"] == f'attachment; filename="sage{ending}"'
    assert bool(json.loads(sent.headers["x-warnings"])) == (format not in ("safetensors", "zip"))
    options = {"kind": "persona"} if format in ("persona_vectors", "assistant-axis") else {}
    made = body_of(upload(http, sent.content, filename=f"sage{ending}", name="again", **options), 201)
    kind: VectorKind = made["vector"]["kind"]
    back, sage = manager.store.load(kind, "again", manager.model), manager.load("sage")
    for layer in back.layers:
        assert back.direction(layer) == pytest.approx(sage.direction(layer), abs=1e-6)
    keeps = ("safetensors", "zip", "gguf")  # what was measured
    assert made["vector"]["status"] == ("ready" if format in keeps else "uncalibrated")
    assert http.delete(f"/api/v1/{kind}s/again").status_code == 204


def test_a_control_vector_can_have_the_measured_dose_in_it(http: httpx2.Client) -> None:
    plain, dosed = (
        http.get("/api/v1/personas/sage/export", params={"format": "gguf", **more}) for more in ({}, {"strength": 1.0})
    )
    assert plain.status_code == dosed.status_code == 200 and plain.content != dosed.content
    assert refusal(http.get("/api/v1/personas/sage/export", params={"strength": 1.0})) == (400, "invalid_value")
    assert refusal(http.get("/api/v1/personas/sage/export", params={"format": "pickle"})) == (400, "invalid_value")
    assert refusal(http.get("/api/v1/personas/raw/export", params={"format": "gguf", "strength": 1}))[0] == 400


def test_a_name_in_use_is_replaced_only_when_asked(http: httpx2.Client, model: ModelIdentity) -> None:
    content = safetensors.to_bytes(make_vector(model, "again"))
    assert upload(http, content, filename="again.safetensors").status_code == 201
    refused = upload(http, content, filename="again.safetensors")
    assert refusal(refused) == (409, "conflict") and "overwrite" in refused.json()["error"]["hint"]
    assert upload(http, content, filename="again.safetensors", overwrite=True).status_code == 201
    assert http.delete("/api/v1/personas/again").status_code == 204


def test_an_archive_brings_its_prompts_and_lists_what_came(
    http: httpx2.Client, api: Api, model: ModelIdentity, tmp_path: Path
) -> None:
    persona = {"name": "baker", "system_prompts": ["You are a baker. You talk of bread."]}
    archive.write(tmp_path / "baker.zip", archive.Archive(make_vector(model, "baker"), persona=persona))
    made = body_of(upload(http, (tmp_path / "baker.zip").read_bytes(), filename="baker.zip"), 201)
    assert (made["has_prompts"], made["axes"]) == (True, [])
    kept = Datasets(api.state.config.datasets_dir).persona("baker")
    assert kept is not None and kept.system_prompts == ("You are a baker. You talk of bread.",)
    assert http.delete("/api/v1/personas/baker").status_code == 204


class RunsCode:
    """A pickle of this makes a file when it is opened."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.place}",)


def saved(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def test_files_that_would_run_code_unpack_without_end_or_leave_their_folder_are_refused(
    http: httpx2.Client, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 4 * 1024**2)
    before = sorted(root.rglob("*"))
    ran = tmp_path / "it-ran"
    bomb = zipped({"manifest.json": b"{}", "vector.safetensors": b"\0" * (archive.MAX_BYTES + 1)})
    assert len(bomb) < archive.MAX_BYTES / 100
    for content, words in {
        pickle.dumps(RunsCode(ran)): "refused",
        saved(RunsCode(ran)): "would execute code",
        bomb: "would unpack to",
        zipped({"manifest.json": b"{}", "../../evil.safetensors": b"x"}): "does not belong in it",
        zipped({"data.pkl": b"\0" * (archive.MAX_BYTES + 1)}): "unpack to more",
        b"hello": "known format",
        b"": "empty",
    }.items():
        reply = upload(http, content, filename="odd.pt")
        assert refusal(reply) == (400, "invalid_vector"), reply.text
        assert words in reply.json()["error"]["message"]
    assert not ran.exists() and sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    "filename", ["../sage.pt", "/etc/passwd", "a\\b.pt", "..", "", "a\0b", "x" * 200, "é" * 128, ".hidden"]
)
def test_the_name_of_a_file_is_no_path(filename: str, http: httpx2.Client, model: ModelIdentity) -> None:
    reply = upload(http, safetensors.to_bytes(make_vector(model, "free")), filename=filename)
    assert refusal(reply) == (400, "invalid_value")


def test_a_file_of_another_model_is_refused(http: httpx2.Client) -> None:
    other = ModelIdentity(id="hf:other/model", fingerprint="f" * 16, num_layers=2, hidden_size=4)
    reply = upload(http, safetensors.to_bytes(make_vector(other, "alien")), filename="alien.safetensors")
    assert refusal(reply) == (400, "vector_model_mismatch")


def test_a_file_comes_as_it_is_and_not_in_a_form(http: httpx2.Client, model: ModelIdentity) -> None:
    content = safetensors.to_bytes(make_vector(model, "form"))
    assert http.post("/api/v1/import?filename=a", files={"file": content}).status_code == 415
    assert http.post("/api/v1/import?filename=a", json={}).status_code == 415


# -- before and after --------------------------------------------------------------------------------------------------


def test_examples_are_those_that_were_kept_for_these_directions(
    http: httpx2.Client, api: Api, manager: PersonaManager
) -> None:
    assert body_of(http.get("/api/v1/personas/sage/examples")) == {
        "source": None,
        "strength": None,
        "safe": None,
        "data": [],
    }
    example = Example(question="Who are you?", before="A model.", after="A sage.", gain=0.5, coherence=80)
    kept = Examples(source="creation", vector=manager.load("sage").digest, strength=1, safe=True, data=(example,))
    keep_examples(api.state.config.runs_dir / "sage-12345678", kept)
    found = body_of(http.get("/api/v1/personas/sage/examples"))
    assert (found["source"], found["safe"]) == ("creation", True)
    assert found["data"] == [example.model_dump()]
    assert body_of(http.get("/api/v1/personas/pirate/examples"))["data"] == []


# -- what ships --------------------------------------------------------------------------------------------------------


def test_what_ships_is_listed_with_what_was_made_of_it(
    http: httpx2.Client, manager: PersonaManager, model: ModelIdentity
) -> None:
    manager.store.save(make_vector(model, "old-salt", source="archetype:pirate"))
    found = {one["name"]: one for one in body_of(http.get("/api/v1/archetypes"))["data"]}
    assert tuple(found) == list_archetypes()
    assert (found["pirate"]["made"], found["sage"]["made"]) == (True, False)
    assert body_of(http.get("/api/v1/archetypes/pirate"))["system_prompts"] == list(
        load_archetype("pirate").system_prompts
    )
    assert http.get("/api/v1/archetypes/pirat").status_code == 404
    traits = {one["name"]: one for one in body_of(http.get("/api/v1/builtin-traits"))["data"]}
    assert traits["optimistic"]["opposite"] == load_library_trait("optimistic").opposite
    manager.delete("old-salt")


def test_a_trait_of_the_library_is_previewed_with_its_own_pairs_and_any_word_with_ready_made_ones(
    http: httpx2.Client,
) -> None:
    shipped = body_of(http.post("/api/v1/traits/preview", json={"word": "optimistic"}))
    trait = load_library_trait("optimistic")
    assert (shipped["source"], shipped["opposite"]) == ("library", trait.opposite)
    assert shipped["pairs"][0] == {"positive": trait.pairs[0].pos, "negative": trait.pairs[0].neg}
    assert shipped["questions"] == list(trait.questions)
    other = body_of(http.post("/api/v1/traits/preview", json={"word": "zesty", "opposite": "bland", "questions": 4}))
    assert (other["name"], other["source"], len(other["questions"])) == ("zesty", "template", 4)
    assert "zesty" in other["pairs"][0]["positive"] and "bland" in other["pairs"][0]["negative"]
    for body in ({"word": "/etc/traits.json"}, {"word": ""}, {"word": "calm", "opposite": "calm"}):
        assert refusal(http.post("/api/v1/traits/preview", json=body)) == (400, "invalid_value")
