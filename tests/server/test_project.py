"""Given texts read token by token over HTTP, against the engine's own activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from tests.backends.tiny import LAYERS
from tests.server.api import Api, make_state, running

from persona_steering.backends.base import Message, Text
from persona_steering.server.answers import projecting
from persona_steering.server.door.security import Door

URL = "/api/v1/project"
TALK = [
    {"role": "system", "content": "user"},
    {"role": "user", "content": "  Say 🧙\n"},
    {"role": "assistant", "content": "Ja. 🧙‍♂️ Nein."},
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(make_state(tmp_path_factory.mktemp("project")), Door.at("127.0.0.1")) as api:
        yield api


@pytest.fixture(scope="module")
def http(api: Api) -> Iterator[httpx2.Client]:
    with api.client() as client:
        yield client


def project(http: httpx2.Client, **body: Any) -> Any:
    return http.post(URL, json={"axes": ["sage"], **body}).raise_for_status().json()


def refused(http: httpx2.Client, status: int, code: str, **body: Any) -> str:
    response = http.post(URL, json={"axes": ["sage"], **body})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    return str(response.json()["error"]["message"])


def test_the_mean_over_an_answer_is_the_projection_of_its_mean_activation(api: Api, http: httpx2.Client) -> None:
    found = project(http, messages=TALK, axes=["sage", "safety"], layers=[0, 2])
    backend = api.state.slot.open_backend()
    text = Text(tuple(Message(one["role"], one["content"]) for one in TALK[:2]), TALK[2]["content"])
    mean = backend.capture([text], layers=[0, 2])[0].mean
    answer = [token["readings"] for token in found["tokens"] if token["message"] == 2]
    for axis in ("sage", "safety"):
        for layer in (0, 2):
            unit = api.serving.find_axis(axis).unit(layer)
            read = np.mean([readings[axis][str(layer)][0] for readings in answer])
            assert read == pytest.approx(float(mean[layer] @ unit), abs=1e-4)
    assert found["steering"] is None
    assert all(pre == post for readings in answer for pre, post in readings["sage"].values())


def test_tokens_join_to_what_the_model_read_and_say_whose_they_are(api: Api, http: httpx2.Client) -> None:
    tokens = project(http, messages=TALK)["tokens"]
    prompt = api.state.slot.open_backend().render([Message(one["role"], one["content"]) for one in TALK[:2]])
    assert "".join(token["text"] for token in tokens) == prompt + TALK[2]["content"]
    for place, message in enumerate(TALK):
        places = [token["i"] for token in tokens if token["message"] == place]
        assert places == list(range(places[0], places[-1] + 1)), "parts of a character belong to its message too"
        own = "".join(tokens[i]["text"] for i in places)
        assert own.strip() == message["content"].strip(), "also where a text is a word of the template"
        assert {token["role"] for token in tokens if token["message"] == place} == {message["role"]}
    assert any(token["message"] is None and token["role"] is None for token in tokens), "the template's own"


def test_a_conversation_without_an_answer_is_read_up_to_where_one_would_begin(api: Api, http: httpx2.Client) -> None:
    tokens = project(http, messages=TALK[:2])["tokens"]
    prompt = api.state.slot.open_backend().render([Message(one["role"], one["content"]) for one in TALK[:2]])
    assert "".join(token["text"] for token in tokens) == prompt


def test_a_bare_text_is_read_as_it_stands(http: httpx2.Client) -> None:
    found = project(http, text="<b>pasted</b> 🧙")
    assert "".join(token["text"] for token in found["tokens"]) == "<b>pasted</b> 🧙"
    assert {token["message"] for token in found["tokens"]} == {None}


def test_steering_shows_after_it_has_acted_and_from_the_answer_on(http: httpx2.Client) -> None:
    found = project(http, messages=TALK, steering={"personas": {"sage": 1}, "safety": False}, layers=[1])
    assert found["steering"]["short"] == "sage:1"
    pairs = [(token["message"], token["readings"]["sage"]["1"]) for token in found["tokens"]]
    layers = found["steering"]["applied"][0]["layers"]
    assert 1 in layers
    assert all(pre == post for owner, (pre, post) in pairs if owner in (0, 1))
    assert all(post > pre for owner, (pre, post) in pairs if owner == 2)


def test_an_axis_is_read_at_its_own_layer_unless_others_are_named(api: Api, http: httpx2.Client) -> None:
    own = api.serving.reading("sage")[1]
    assert [(one["name"], one["layer"]) for one in project(http, text="hello")["axes"]] == [("sage", own)]
    profile = project(http, messages=TALK, layers=list(range(LAYERS)), tokens=[3, 1])
    assert [token["i"] for token in profile["tokens"]] == [1, 3]
    assert list(profile["tokens"][0]["readings"]["sage"]) == [str(layer) for layer in range(LAYERS)]
    whole = project(http, messages=TALK)["tokens"]
    assert whole[3]["readings"]["sage"][str(own)] == pytest.approx(
        profile["tokens"][1]["readings"]["sage"][str(own)], abs=1e-5
    )


def test_reference_percentiles_are_told_only_where_they_are_stored(http: httpx2.Client) -> None:
    sage, safety = project(http, text="hello", axes=["sage", "safety"], layers=[1])["axes"]
    assert sage["percentiles"] is None
    assert safety["percentiles"] == {"1": -0.5}


def test_what_cannot_be_read_is_refused_with_what_to_do(http: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'sage'" in refused(http, 404, "axis_not_found", text="x", axes=["saeg"])
    refused(http, 400, "invalid_value")
    refused(http, 400, "invalid_value", text="x", messages=TALK)
    refused(http, 400, "invalid_value", text="")
    refused(http, 400, "invalid_value", messages=[])
    refused(http, 400, "invalid_value", text="x", axes=["sage", "sage"])
    refused(http, 400, "invalid_value", text="x", axes=[])
    refused(http, 400, "invalid_value", text="x", axes=["../sage"])
    refused(http, 400, "layer_out_of_range", text="x", layers=[LAYERS])
    assert "give messages" in refused(http, 400, "invalid_value", text="x", steering="sage:1")
    assert "no token 99" in refused(http, 400, "invalid_value", text="x", tokens=[99])
    refused(http, 400, "context_length_exceeded", text="long " * 3000)
    refused(http, 400, "invalid_prompt", messages=[{"role": "system", "content": "x"}])
    monkeypatch.setattr(projecting, "MAX_READINGS", 3)
    assert "Name fewer" in refused(http, 400, "invalid_value", text="hello")


def test_the_alternatives_of_a_place_are_the_likeliest_tokens_there(api: Api, http: httpx2.Client) -> None:
    ask = [{"role": "user", "content": "hello"}]

    def likeliest(**body: Any) -> list[tuple[str, float]]:
        found = http.post(f"{URL}/alternatives", json={"messages": ask, "top": 5, **body}).raise_for_status().json()
        return [(one["text"], one["logprob"]) for one in found["alternatives"]]

    backend = api.state.slot.open_backend()
    expected = backend.next_tokens([Text((Message("user", "hello"),), "ab")], top=5)[0]
    assert likeliest(answer_prefix="ab") == [(one.text, pytest.approx(one.logprob, abs=1e-5)) for one in expected]
    assert likeliest() != likeliest(answer_prefix="ab") != likeliest(answer_prefix="ab", steering="sage:2")
    wrong = http.post(f"{URL}/alternatives", json={"messages": ask, "top": 21})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "top")


def test_without_a_model_nothing_is_read(api: Api, http: httpx2.Client) -> None:
    api.state.slot.unload()
    refused(http, 503, "no_model", text="hello")
