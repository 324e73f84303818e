"""Answers that are being written: steered anew, stopped, or left by their client."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.server.api import MODEL, ROWS, Api, make_state, running, until

from persona_steering.backends.base import Arrival, Completion, Request, Sampling, conversation
from persona_steering.interventions import Recipe
from persona_steering.server.answers.answering import Answers
from persona_steering.server.door.security import Door

ASK: list[Any] = [{"role": "user", "content": "hello"}]
LONG = 1500
LEAVING = [
    {"stream": True},
    {"stream": False},
    {"stream": True, "n": 3},
    {"stream": False, "n": 3},
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(make_state(tmp_path_factory.mktemp("control")), Door.at("127.0.0.1")) as api:
        yield api


@pytest.fixture(autouse=True)
def _idle(api: Api) -> Iterator[None]:
    api.wait_until_idle()
    yield
    api.wait_until_idle()


def control(api: Api, identifier: str, **more: Any) -> httpx2.Response:
    with api.client() as http:
        return http.post("/v1/chat/completions/control", json={"id": identifier, **more})


class Reading:
    """A streamed answer on its way, chunk by chunk."""

    def __init__(self, response: httpx2.Response) -> None:
        self._lines = response.iter_lines()
        self.chunks: list[Any] = []

    def next(self) -> Any:
        line = next(line for line in self._lines if line.startswith("data: {"))
        self.chunks.append(json.loads(line.removeprefix("data: ")))
        return self.chunks[-1]

    def rest(self) -> None:
        for line in self._lines:
            if line.startswith("data: {"):
                self.chunks.append(json.loads(line.removeprefix("data: ")))

    @property
    def text(self) -> str:
        choices = [choice for chunk in self.chunks for choice in chunk["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


def asked(tokens: int, **more: Any) -> dict[str, Any]:
    return {"json": {"model": MODEL, "messages": ASK, "seed": 5, "max_tokens": tokens, **more}}


def test_an_answer_steered_in_the_middle_goes_on_as_the_engine_does_from_the_token_told(api: Api) -> None:
    with api.client() as http, http.stream("POST", "/v1/chat/completions", **asked(400, stream=True)) as response:
        reading = Reading(response)
        identifier = reading.next()["id"]
        reading.next()
        told = control(api, identifier, action="steer", steering="sage:0.9").json()
        reading.rest()
    (place,) = told["change"]["from_tokens"]
    assert 0 < place < 400
    recipe = api.serving.steering({"sage": 0.9}, safety=None, layers={}).recipe
    assert told["change"]["steering"]["hash"] == recipe.hash
    assert reading.text == steered_by_hand(api, recipe, place, 400)
    last = reading.chunks[-1]
    assert (last["steering"], last["changes"]) == (None, [told["change"]])


def steered_by_hand(api: Api, recipe: Recipe, place: int, tokens: int) -> str:
    """The text of an answer that has had the recipe from the token at `place` on."""
    batch = api.serving._engine.model.backend.live()
    batch.admit([Arrival(0, Request(conversation("hello"), sampling=sampling(api, tokens)))])
    written, done = 0, False
    text = ""
    while not done:
        if written == place - 1:
            assert batch.steer(0, recipe) == place
        for piece in batch.advance():
            written, text = written + len(piece.tokens), text + piece.text
            done = isinstance(piece.completion, Completion)
    return text


def sampling(api: Api, tokens: int) -> Sampling:
    return Sampling.configured(api.serving.config.generation, seed=5, max_new_tokens=tokens)


def test_the_model_id_still_holds_under_the_new_steering(api: Api) -> None:
    body = asked(400, stream=True, model=f"{MODEL}:pirate@0.5")
    with api.client() as http, http.stream("POST", "/v1/chat/completions", **body) as response:
        reading = Reading(response)
        identifier = reading.next()["id"]
        reading.next()
        both = control(api, identifier, action="steer", steering={"personas": {"sage": 0.9}}).json()["change"]
        back = control(api, identifier, action="steer", steering={"personas": {"pirate": 0}}).json()["change"]
    assert both["steering"]["short"] == "pirate:0.5,sage:0.9"
    assert back["steering"] is None


def test_a_stopped_answer_ends_where_it_stands_and_is_whole(api: Api) -> None:
    with api.client() as http, http.stream("POST", "/v1/chat/completions", **asked(400, stream=True)) as response:
        reading = Reading(response)
        identifier = reading.next()["id"]
        reading.next()
        assert control(api, identifier, action="stop").json()["change"] is None
        reading.rest()
    assert reading.chunks[-1]["choices"][0]["finish_reason"] == "length"
    full = api.serving._engine.model.backend.generate([Request(conversation("hello"), sampling=sampling(api, 400))])[
        0
    ].text
    assert full.startswith(reading.text) and len(reading.text) < len(full)


def test_an_answer_that_is_not_there_or_has_ended_cannot_be_controlled(api: Api) -> None:
    with api.client() as http:
        ended = http.post("/v1/chat/completions", **asked(2)).json()["id"]
    for identifier in (ended, "chatcmpl_x", "../x"):
        reply = control(api, identifier, action="stop")
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "answer_not_found")
    reply = control(api, ended, action="pause")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "action")


def test_a_change_that_cannot_be_honoured_leaves_the_answer_as_it_was(api: Api) -> None:
    with api.client() as http, http.stream("POST", "/v1/chat/completions", **asked(300, stream=True)) as response:
        reading = Reading(response)
        identifier = reading.next()["id"]
        reading.next()
        assert control(api, identifier, action="steer", steering="sagee:1").status_code == 404
        for steering in ({"personas": {"sage": 7}}, {"trace": {"axes": ["sage"]}}):
            assert control(api, identifier, action="steer", steering=steering).status_code == 400
        reading.rest()
    assert reading.chunks[-1]["changes"] == []
    with api.client() as http:
        whole = http.post("/v1/chat/completions", **asked(300)).json()
    assert reading.text == whole["choices"][0]["message"]["content"]


class Watched:
    """How many tokens had been written when the server first ended the answers of a request."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        self._api, self._real = api, Answers.cancel
        self.ended = threading.Event()
        self.tokens = 0
        watched = self

        def cancel(self: Answers) -> None:
            if not watched.ended.is_set():
                watched.tokens = api.serving.scheduler.load.tokens
                watched.ended.set()
            watched._real(self)

        monkeypatch.setattr(Answers, "cancel", cancel)


@pytest.mark.parametrize("body", LEAVING, ids=str)
def test_once_a_client_has_left_each_of_its_answers_writes_one_token_at_most(
    body: dict[str, Any], api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = api.serving.scheduler.load.tokens
    watched = Watched(api, monkeypatch)
    leave_in_the_middle(api, asked(LONG, **body))
    assert watched.ended.wait(30)
    api.wait_until_idle()
    count = body.get("n", 1)
    assert before < watched.tokens < before + count * LONG
    assert api.serving.scheduler.load.tokens - watched.tokens <= count


def leave_in_the_middle(api: Api, body: dict[str, Any]) -> None:
    """Asks, and closes the connection once something has been written."""
    before = api.serving.scheduler.load.tokens
    with asking(api, body):
        while api.serving.scheduler.load.tokens == before:
            time.sleep(0.005)


def asking(api: Api, body: dict[str, Any]) -> socket.socket:
    """A connection over which a request was sent, and nothing was read."""
    address = httpx2.URL(api.url)
    connection = socket.create_connection((address.host, address.port))
    content = json.dumps(body["json"]).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {address.host}:{address.port}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_it_waits_for_a_place_gives_it_back(stream: bool, api: Api) -> None:
    with asking(api, asked(LONG, n=ROWS)):
        until(lambda: api.serving.scheduler.load.writing == ROWS)
        with asking(api, asked(LONG, stream=stream)):
            until(lambda: api.serving.scheduler.load.waiting == 1)
        until(lambda: api.serving.scheduler.load.waiting == 0)
        assert api.serving.scheduler.load.writing == ROWS
