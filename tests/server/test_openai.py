"""The OpenAI surface, asked by OpenAI's own client, with a tiny model behind the real server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.server.api import MODEL, ROWS, WAITING, Api, make_state, running

from persona_steering.backends.base import Message, Request, Sampling
from persona_steering.errors import ModelError, ModelMemoryError
from persona_steering.server.door.security import Door
from persona_steering.server.limits import LIMITS

ASK: list[Any] = [{"role": "user", "content": "hello"}]
SAGE = {"vectors": [{"name": "sage", "coefficient": 0.6}]}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(make_state(tmp_path_factory.mktemp("openai")), Door.at("127.0.0.1")) as api:
        yield api


@pytest.fixture(scope="module")
def client(api: Api) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key="any", max_retries=0) as made:
        yield made


def chat(client: openai.OpenAI, model: str = MODEL, **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=ASK, seed=more.pop("seed", 5), **more)


def text_of(answer: Any) -> str:
    return str(answer.choices[0].message.content)


def refused(client: openai.OpenAI, **more: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as error:
        chat(client, **more)
    return error.value


def post(api: Api, **body: Any) -> httpx2.Response:
    with api.client() as http:
        return http.post("/v1/chat/completions", json={"model": MODEL, "messages": ASK, "seed": 5, **body})


def test_an_unsteered_answer_is_what_the_engine_gives_and_says_that_it_was_not_steered(
    api: Api, client: openai.OpenAI
) -> None:
    answer = chat(client)
    sampling = Sampling.configured(api.serving.config.generation, seed=5)
    alone = api.serving._engine.model.backend.generate([Request((Message("user", "hello"),), sampling=sampling)])[0]
    assert text_of(answer) == alone.text
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (alone.prompt_tokens, 8)
    assert (answer.choices[0].finish_reason, answer.steering, answer.seed) == ("length", None, 5)


@pytest.mark.parametrize(
    ("model", "steering"),
    [
        (f"{MODEL}:sage@0.6", None),
        (MODEL, "sage:0.6"),
        (MODEL, SAGE),
        (MODEL, {"personas": {"sage": 0.6}}),
        ("persona-steer:sage@0.6", {"safety": True}),
        (f"{MODEL}:sage", {"personas": {"sage": 0.6}}),
    ],
)
def test_every_way_to_ask_for_a_persona_is_the_same_recipe(
    model: str, steering: object, api: Api, client: openai.OpenAI
) -> None:
    answer = chat(client, model, extra_body={"steering": steering})
    recipe = api.serving.steering({"sage": 0.6}, safety=True, layers={}).recipe
    assert answer.steering["hash"] == recipe.hash
    assert answer.steering["recipe"] == recipe.to_list()
    assert [(one["name"], one["kind"], one["coefficient"]) for one in answer.steering["applied"]] == [
        ("sage", "persona", 0.6)
    ]
    assert [(cap["axis"], cap["op"]) for cap in answer.steering["caps"]] == [("safety", "floor")]
    assert answer.steering["caps_engaged"] >= 0
    assert text_of(answer) != text_of(chat(client))


def test_a_persona_without_a_strength_has_the_configured_one(client: openai.OpenAI) -> None:
    assert chat(client, f"{MODEL}:sage").steering["applied"][0]["coefficient"] == 1.0


def test_several_vectors_layers_and_no_safety_are_echoed_with_warnings(client: openai.OpenAI) -> None:
    steering = {
        "personas": {"raw": 0.5},
        "traits": {"calm": -0.4},
        "vectors": [{"name": "sage", "coefficient": 0.7, "layers": [3, 0]}],
        "safety": False,
    }
    echoed = chat(client, extra_body={"steering": steering}).steering
    applied = {one["name"]: one for one in echoed["applied"]}
    assert {name: (one["kind"], one["coefficient"]) for name, one in applied.items()} == {
        "raw": ("persona", 0.5),
        "calm": ("trait", -0.4),
        "sage": ("persona", 0.7),
    }
    assert (applied["sage"]["layers"], echoed["caps"], echoed["safety"]) == ([0, 3], [], False)
    assert applied["sage"]["relative_dose"] == pytest.approx(0.7 * 0.24)
    said = " ".join(echoed["warnings"])
    assert "'raw' is not calibrated" in said and "'sage' was not measured at these layers" in said


@pytest.mark.parametrize("steering", [None, SAGE])
def test_streamed_text_is_the_text_of_the_whole_answer(steering: object, client: openai.OpenAI) -> None:
    extra = {"steering": steering}
    whole = chat(client, extra_body=extra)
    chunks = list(chat(client, extra_body=extra, stream=True, stream_options={"include_usage": True}))
    first, *middle, last, usage = chunks
    assert first.choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in (first, *middle)) == text_of(whole)
    assert last.choices[0].finish_reason == "length"
    assert (usage.choices, usage.usage) == ([], whole.usage)
    if steering is None:
        assert first.steering is None and last.steering is None
    else:
        assert first.steering | {"caps_engaged": last.steering["caps_engaged"]} == whole.steering
        assert last.steering["hash"] == whole.steering["hash"]


def test_the_asynchronous_client_reads_whole_answers_and_streams(api: Api, client: openai.OpenAI) -> None:
    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="any", max_retries=0) as made:
            asked: dict[str, Any] = {"model": f"{MODEL}:sage", "messages": ASK, "seed": 5}
            whole = await made.chat.completions.create(**asked)
            stream = await made.chat.completions.create(**asked, stream=True)
            return text_of(whole), "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(ask()) == (text_of(chat(client, f"{MODEL}:sage")),) * 2


def test_concurrent_clients_with_different_recipes_get_what_each_gets_alone(client: openai.OpenAI) -> None:
    models = [MODEL, *(f"{MODEL}:{name}@{x}" for name, x in (("sage", 0.5), ("pirate", 1), ("calm", -1), ("sage", 1)))]
    alone = [text_of(chat(client, model, seed=seed, max_tokens=12)) for seed, model in enumerate(models)]
    with ThreadPoolExecutor(len(models)) as pool:
        together = list(
            pool.map(lambda pair: text_of(chat(client, pair[1], seed=pair[0], max_tokens=12)), enumerate(models))
        )
    assert together == alone
    assert len(set(alone)) == len(alone)


def test_n_answers_have_the_seeds_that_follow_the_first(client: openai.OpenAI) -> None:
    answer = chat(client, n=3, max_tokens=5)
    found = [choice.message.content for choice in answer.choices]
    assert found == [text_of(chat(client, seed=seed, max_tokens=5)) for seed in (5, 6, 7)]
    assert answer.usage.completion_tokens == 15
    streamed = ["", "", ""]
    for chunk in chat(client, n=3, max_tokens=5, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == found


def test_stop_temperature_and_length_are_honoured(client: openai.OpenAI) -> None:
    full = text_of(chat(client, temperature=0))
    assert full == text_of(chat(client, temperature=0, seed=77)) != text_of(chat(client, temperature=2))
    cut = chat(client, temperature=0, stop=full[3])
    assert (text_of(cut), cut.choices[0].finish_reason) == (full[: full.index(full[3])], "stop")
    assert chat(client, max_completion_tokens=3, max_tokens=7).usage.completion_tokens == 3


def test_an_answer_is_held_to_a_json_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["x", "y"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "pick", "schema": schema}}
    answer = json.loads(text_of(chat(client, response_format=form, max_tokens=60)))
    assert list(answer) == ["a"] and answer["a"] in ("x", "y")


def test_without_a_seed_one_is_drawn_and_told(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK)
    assert text_of(chat(client, seed=answer.seed)) == text_of(answer)  # type: ignore[attr-defined]


def test_models_are_the_base_and_its_ready_personas(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, f"{MODEL}:pirate", f"{MODEL}:sage"]
    one = client.models.retrieve(f"{MODEL}:sage@0.4")
    assert (one.id, one.parent, one.steering["layers"]) == (f"{MODEL}:sage@0.4", MODEL, [1, 2])  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError, match="sage"):
        client.models.retrieve(f"{MODEL}:sagee")


@pytest.mark.parametrize(
    "model", ["other", f"{MODEL}:sagee", f"{MODEL}:", f"{MODEL}:../../etc/passwd", f"{MODEL}:preset/x", "tiny:sage"]
)
def test_an_unknown_model_is_not_found_and_never_the_base(model: str, client: openai.OpenAI) -> None:
    error = refused(client, model=model)
    assert isinstance(error, openai.NotFoundError)
    assert (error.code, error.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("steering", "status", "code", "param", "word"),
    [
        ("sagee:0.5", 404, "persona_not_found", "steering", "Did you mean 'sage'?"),
        ({"personas": {"calm": 1}}, 404, "persona_not_found", "steering", "'calm' is a trait"),
        ("sage:3", 400, "invalid_steering", "steering", "-2 to 2"),
        ("", 400, "invalid_steering", "steering", "not a blend"),
        ({"vectors": [SAGE["vectors"][0], {"name": "calm", "coeffcient": 1}]}, 400, "invalid_steering", None, "coeff"),
        ({"vectos": []}, 400, "invalid_steering", "steering.vectos", "Did you mean 'vectors'"),
        ({**SAGE, "vectors": [{"name": "sage", "coefficient": 1, "strenght": 2}]}, 400, "invalid_steering",
         "steering.vectors[0].strenght", "unknown field 'strenght' in steering.vectors[0]"),
        ({**SAGE, "personas": {"sage": 1}}, 400, "duplicate_vector", "steering", "2 times"),
        ({"personas": {"../x": 1}}, 400, "invalid_steering", None, "not a valid name"),
        ({"personas": {"sage": "much"}}, 400, "invalid_steering", "steering.personas.sage", "number"),
        ({"vectors": [{"name": "sage", "coefficient": 1, "layers": [99]}]}, 400, "layer_out_of_range", None, "99"),
        ({"vectors": [{"name": "sage", "coefficient": 1, "layers": [1, 1]}]}, 400, "invalid_steering", None, "twice"),
        ([1], 400, "invalid_steering", "steering", "steering"),
    ],
)  # fmt: skip
def test_steering_that_cannot_be_honoured_is_refused_by_name(
    steering: object, status: int, code: str, param: str | None, word: str, api: Api
) -> None:
    reply = post(api, steering=steering)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    assert word in error["message"]
    assert error["param"].startswith("steering") and param in (None, error["param"])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{}]}, "tools"),
        ({"temperature": 9}, "temperature"),
        ({"max_tokens": LIMITS.max_tokens + 1}, "max_tokens"),
        ({"n": 99}, "n"),
        ({"seed": -1}, "seed"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, None),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": ["x" * 70_000]}}}},
            "response_format.json_schema",
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}}, None),
        ({"messages": [{"role": "user", "content": "  "}]}, None),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, None),
        ({"messages": [{"role": "user", "content": "x" * 3000}], "stream": True}, None),
    ],
)
def test_what_cannot_be_honoured_is_a_400_that_names_the_field(
    body: dict[str, Any], param: str | None, api: Api
) -> None:
    with api.client() as http:
        text = json.dumps({"model": MODEL, "messages": ASK, **body})
        reply = http.post("/v1/chat/completions", content=text, headers={"content-type": "application/json"})
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (400, "invalid_request_error")
    assert param in (None, error["param"])


def test_unknown_fields_beside_steering_are_ignored_and_named(api: Api) -> None:
    reply = post(api, presence_penalty=1, **{"bad\nname": 1})
    assert reply.status_code == 200
    assert reply.headers["x-ignored-fields"] == "bad?name, presence_penalty"


def test_headers_name_the_request_and_the_recipe(api: Api) -> None:
    reply = post(api, steering=SAGE)
    assert reply.headers["x-steering-hash"] == reply.json()["steering"]["hash"]
    assert reply.headers["x-request-id"].startswith("req_")
    assert "x-steering-hash" not in post(api).headers


def test_too_many_requests_are_sent_away_with_a_time_to_come_back(api: Api, client: openai.OpenAI) -> None:
    streams = [chat(client, stream=True, max_tokens=1800) for _ in range(ROWS)]
    try:
        reply = post(api, n=WAITING + 1)
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "queue_full")
        assert int(reply.headers["retry-after"]) > 0
    finally:
        for stream in streams:
            stream.close()
    api.wait_until_idle()


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ModelError("it broke at /home/somebody/model"), "internal_error"),
        (ModelMemoryError("no room for /home/x"), "out_of_memory"),
        (KeyError("/home/somebody"), "internal_error"),
    ],
)
def test_a_failure_tells_nothing_of_the_machine(
    raised: Exception, code: str, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(api.serving, "steering", fail)
    reply = post(api)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, code)
    assert "/home" not in reply.text and "Traceback" not in reply.text
    assert reply.headers["x-should-retry"] == "false" and reply.headers["x-request-id"]


def test_a_failure_in_the_middle_of_a_stream_is_an_event_and_then_the_end(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_steering.server.answers.answering import Answers

    real, seen = Answers.next, []

    async def break_off(self: Answers, timeout: float | None = None) -> object:
        seen.append(1)
        if len(seen) > 2:
            raise ModelError("the batch failed at /home/somebody")
        return await real(self, timeout)

    monkeypatch.setattr(Answers, "next", break_off)
    events = [line for line in post(api, stream=True).text.split("\n\n") if line]
    assert events[-1] == "data: [DONE]"
    error = json.loads(events[-2].removeprefix("data: "))["error"]
    assert error["code"] == "internal_error" and "/home" not in events[-2]
    api.wait_until_idle()


def test_silence_is_filled_with_comments(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_steering.server.answers.sse.PING", 0.001)
    monkeypatch.setattr("persona_steering.server.answers.replying.PING", 0.001)
    text = post(api, stream=True).text
    assert ": ping\n\n" in text and text.endswith("data: [DONE]\n\n")


def test_a_model_without_a_safety_axis_says_how_to_get_one(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    manager = state.slot.serving.manager
    manager.store.delete("axis", "safety", manager.model)
    with running(state, Door.at("127.0.0.1")) as api:
        reply = post(api, steering=SAGE)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "safety_axis_missing")
        assert "extract-axes safety" in reply.json()["error"]["message"]
        assert post(api, steering={**SAGE, "safety": False}).json()["steering"]["caps"] == []


def test_an_answer_that_outlasts_the_server_ends_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_steering.server.listening.PATIENCE", 0)
    with ThreadPoolExecutor(1) as pool:
        with running(make_state(tmp_path), Door.at("127.0.0.1")) as api:
            reply = pool.submit(post, api, stream=True, max_tokens=1900)
            while not api.serving.scheduler.load.tokens:
                time.sleep(0.01)
        *_, error, end = [line for line in reply.result(30).text.split("\n\n") if line]
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert end == "data: [DONE]"
