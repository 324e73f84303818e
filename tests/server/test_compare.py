"""One conversation answered in several ways at once: the same seed, one batch, and nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.server.api import Api, make_state, running
from tests.server.streams import events_of

from persona_steering.backends.base import Message, Request, Sampling
from persona_steering.interventions import Recipe
from persona_steering.server.door.security import Door
from persona_steering.server.limits import LIMITS

URL = "/api/v1/compare"
ASK = [{"role": "user", "content": "hello"}]
SAMPLING = {"seed": 5, "max_tokens": 8}
LANES = [
    {"label": "base"},
    {"label": "steered", "steering": "sage:1"},
    {"label": "prompted", "system": "You are a sage."},
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(make_state(tmp_path_factory.mktemp("compare")), Door.at("127.0.0.1")) as api:
        yield api


@pytest.fixture(scope="module")
def http(api: Api) -> Iterator[httpx2.Client]:
    with api.client() as client:
        yield client


def compare(http: httpx2.Client, lanes: list[dict[str, Any]] = LANES, **body: Any) -> httpx2.Response:
    return http.post(URL, json={"messages": ASK, "lanes": lanes, "sampling": SAMPLING, **body})


def test_every_lane_is_answered_as_it_would_be_alone(api: Api, http: httpx2.Client) -> None:
    found = compare(http).raise_for_status().json()
    recipe = api.serving.steering({"sage": 1.0}, safety=None, layers={}).recipe
    sampling = Sampling.configured(api.serving.config.generation, seed=5, max_new_tokens=8)
    user = Message("user", "hello")
    alone = [
        api.state.slot.open_backend().generate([Request(messages, recipe=how, sampling=sampling)])[0]
        for messages, how in (
            ((user,), Recipe()),
            ((user,), recipe),
            ((Message("system", "You are a sage."), user), Recipe()),
        )
    ]
    assert [lane["content"] for lane in found["lanes"]] == [one.text for one in alone]
    assert [lane["usage"]["prompt_tokens"] for lane in found["lanes"]] == [one.prompt_tokens for one in alone]
    assert [lane["label"] for lane in found["lanes"]] == ["base", "steered", "prompted"]
    assert [lane["steering"] and lane["steering"]["hash"] for lane in found["lanes"]] == [None, recipe.hash, None]
    assert len({one.text for one in alone}) == 3 and found["seed"] == 5


def test_a_stream_tells_tokens_of_all_lanes_in_turns_and_ends_each(http: httpx2.Client) -> None:
    whole = compare(http).json()
    body = {"messages": ASK, "lanes": LANES, "sampling": SAMPLING, "stream": True, "logprobs": True}
    with http.stream("POST", URL, json=body) as response:
        events = list(events_of(response))
    assert events[0][0] == "start" and events[0][1]["seed"] == 5
    assert [lane["label"] for lane in events[0][1]["lanes"]] == ["base", "steered", "prompted"]
    tokens = [data for name, data in events if name == "token"]
    assert [lane["lane"] for lane in tokens[:3]] == [0, 1, 2], "they are written together"
    for lane in range(3):
        assert "".join(one["text"] for one in tokens if one["lane"] == lane) == whole["lanes"][lane]["content"]
        own = [one for one in tokens if one["lane"] == lane and one["token"] is not None]
        assert [one["i"] for one in own] == list(range(8)) and all(one["logprob"] < 0 for one in own)
    done = {data["lane"]: data["content"] for name, data in events if name == "done"}
    assert done == {lane["lane"]: lane["content"] for lane in whole["lanes"]}


def test_a_seed_that_is_drawn_is_one_for_all_lanes(http: httpx2.Client) -> None:
    same = [{"label": "a"}, {"label": "b"}]
    found = compare(http, same, sampling={"max_tokens": 8, "temperature": 2}).json()
    assert found["lanes"][0]["content"] == found["lanes"][1]["content"]
    assert compare(http, same, sampling={"max_tokens": 8}).json()["seed"] != found["seed"]


def test_a_lanes_system_prompt_takes_the_place_of_the_messages_own(http: httpx2.Client) -> None:
    messages = [{"role": "system", "content": "You are a pirate."}, *ASK]
    lanes = [{"label": "own"}, {"label": "other", "system": "You are a pirate."}, {"label": "x", "system": "Be brief."}]
    found = compare(http, lanes, messages=messages).json()["lanes"]
    assert found[0]["content"] == found[1]["content"] != found[2]["content"]


def test_whoever_leaves_ends_all_lanes(api: Api) -> None:
    body = {"messages": ASK, "lanes": LANES, "sampling": {"seed": 5, "max_tokens": 1500}, "stream": True}
    with api.client() as leaving, leaving.stream("POST", URL, json=body) as response:
        events = events_of(response)
        assert [next(events)[0] for _ in range(4)] == ["start", "token", "token", "token"]
        assert api.serving.scheduler.load.writing == 3
    api.wait_until_idle()


def test_what_cannot_be_compared_is_refused(api: Api, http: httpx2.Client) -> None:
    def refused(status: int, code: str, response: httpx2.Response) -> str:
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        return str(response.json()["error"]["message"])

    refused(400, "invalid_value", compare(http, LANES[:1]))
    refused(400, "invalid_value", compare(http, [{}] * (LIMITS.lanes + 1)))
    refused(404, "persona_not_found", compare(http, [{}, {"steering": "saeg"}]))
    assert "'labell'" in refused(400, "invalid_value", compare(http, [{}, {"labell": "x"}]))
    refused(400, "invalid_value", compare(http, messages=[]))
    refused(400, "invalid_value", compare(http, messages=ASK * (LIMITS.messages + 1)))
    answered = [*ASK, {"role": "assistant", "content": "hi"}]
    assert "no question" in refused(400, "invalid_value", compare(http, messages=answered))
    long = [{"role": "user", "content": "long " * 3000}]
    refused(400, "context_length_exceeded", compare(http, messages=long))
    refused(400, "context_length_exceeded", compare(http, messages=long, stream=True))
    api.wait_until_idle()
