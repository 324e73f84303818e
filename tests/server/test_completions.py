"""Continuations of bare texts, and how likely each token was, on both surfaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.server.api import MODEL, Api, make_state, running

from persona_steering.backends.base import Message, Request, Sampling
from persona_steering.server.door.security import Door
from persona_steering.server.limits import LIMITS

ASK: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(make_state(tmp_path_factory.mktemp("completions")), Door.at("127.0.0.1")) as api:
        yield api


@pytest.fixture(scope="module")
def client(api: Api) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key="any", max_retries=0) as made:
        yield made


def complete(client: openai.OpenAI, prompt: Any = "once", model: str = MODEL, **more: Any) -> Any:
    return client.completions.create(model=model, prompt=prompt, seed=more.pop("seed", 5), **more)


def chat(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(model=MODEL, messages=ASK, seed=5, **more)


def test_a_continuation_is_what_the_engine_writes_after_the_bare_text(api: Api, client: openai.OpenAI) -> None:
    found = complete(client, model=f"{MODEL}:sage@0.6")
    recipe = api.serving.steering({"sage": 0.6}, safety=None, layers={}).recipe
    sampling = Sampling.configured(api.serving.config.generation, seed=5)
    alone = api.serving._engine.model.backend.generate([Request((), recipe, sampling, prompt="once")])[0]
    assert found.choices[0].text == alone.text
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (len("<once"), 8)
    assert (found.steering["hash"], found.object, found.seed) == (recipe.hash, "text_completion", 5)
    assert found.choices[0].text != complete(client).choices[0].text


def test_every_prompt_has_its_own_answers_as_if_it_were_alone(client: openai.OpenAI) -> None:
    found = complete(client, ["once", "upon a time"], n=2, max_tokens=5)
    alone = [complete(client, prompt, seed=seed, max_tokens=5) for prompt in ("once", "upon a time") for seed in (5, 6)]
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in found.choices] == [one.choices[0].text for one in alone]
    assert found.usage.prompt_tokens == alone[0].usage.prompt_tokens + alone[2].usage.prompt_tokens
    assert found.usage.completion_tokens == 20


@pytest.mark.parametrize("echo", [False, True])
def test_a_streamed_continuation_is_the_whole_one(echo: bool, client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"prompt": ["once", "twice"], "echo": echo, "extra_body": {"steering": "sage:0.5"}}
    whole = complete(client, **asked)
    chunks = list(complete(client, **asked, stream=True, stream_options={"include_usage": True}))
    texts = ["", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]
    assert texts[1].startswith("twice") is echo
    assert chunks[-1].usage == whole.usage
    assert chunks[0].steering | {"caps_engaged": None} == whole.steering | {"caps_engaged": None}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ""}, "prompt[0]"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt[0]"),
        ({"prompt": ["x"] * (LIMITS.rows + 1)}, "prompt"),
        ({"prompt": ["x"] * LIMITS.rows, "n": 2}, "prompt"),
        ({"prompt": "\ud800"}, None),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": "x", "echo": True, "logprobs": 1}, "echo"),
        ({"prompt": "x", "logprobs": 21}, "logprobs"),
        ({"prompt": "x", "steering": {"vectors": [{"nam": "x"}]}}, "steering.vectors[0].nam"),
    ],
)
def test_what_cannot_be_continued_is_refused_by_name(body: dict[str, Any], param: str | None, api: Api) -> None:
    with api.client() as http:
        text = json.dumps({"model": MODEL, **body})
        reply = http.post("/v1/completions", content=text, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_a_prompt_beyond_the_context_has_a_code_of_its_own(api: Api) -> None:
    for path, body in (
        ("completions", {"prompt": "x" * 3000}),
        ("chat/completions", {"messages": [{"role": "user", "content": "x" * 3000}], "stream": True}),
    ):
        with api.client() as http:
            reply = http.post(f"/v1/{path}", json={"model": MODEL, **body})
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_log_probabilities_are_those_of_the_engine_in_the_shape_of_chat(api: Api, client: openai.OpenAI) -> None:
    found = chat(client, logprobs=True, top_logprobs=3, extra_body={"steering": "sage:0.7"})
    recipe = api.serving.steering({"sage": 0.7}, safety=None, layers={}).recipe
    sampling = Sampling.configured(api.serving.config.generation, seed=5)
    asked = Request((Message("user", "hello"),), recipe, sampling, logprobs=3)
    alone = api.serving._engine.model.backend.generate([asked])[0]
    content = found.choices[0].logprobs.content
    assert [one.token for one in content] == list(alone.token_texts)
    assert [one.logprob for one in content] == pytest.approx([one.logprob for one in alone.logprobs], abs=1e-4)
    assert bytes(byte for one in content for byte in one.bytes).decode() == found.choices[0].message.content
    for told, own in zip(content, alone.logprobs, strict=True):
        assert [x.token for x in told.top_logprobs] == [x.text for x in own.top]
        values = [x.logprob for x in told.top_logprobs]
        assert values == sorted(values, reverse=True) and len(values) == 3
    assert chat(client, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []
    assert chat(client).choices[0].logprobs is None


def test_streamed_log_probabilities_are_those_of_the_whole_answer(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": 2, "n": 2, "extra_body": {"steering": "sage:0.7"}}
    whole = chat(client, **asked)
    told: list[list[Any]] = [[], []]
    for chunk in chat(client, **asked, stream=True):
        for choice in chunk.choices:
            told[choice.index] += choice.logprobs.content if choice.logprobs else []
    for found, choice in zip(told, whole.choices, strict=True):
        assert [(x.token, x.bytes) for x in found] == [(x.token, x.bytes) for x in choice.logprobs.content]
        assert [x.logprob for x in found] == pytest.approx([x.logprob for x in choice.logprobs.content], abs=1e-4)
        assert [len(x.top_logprobs) for x in found] == [2] * len(found)


def test_log_probabilities_of_a_continuation_say_where_each_token_begins(client: openai.OpenAI) -> None:
    whole = complete(client, ["once", "two"], logprobs=2)
    told: list[dict[str, list[Any]]] = [{}, {}]
    for chunk in complete(client, ["once", "two"], logprobs=2, stream=True):
        for choice in chunk.choices:
            for key, values in (choice.logprobs.model_dump() if choice.logprobs else {}).items():
                told[choice.index].setdefault(key, []).extend(values)
    for found, choice in zip(told, whole.choices, strict=True):
        expected = choice.logprobs
        assert found["tokens"] == expected.tokens and "".join(expected.tokens) == choice.text
        assert found["text_offset"] == expected.text_offset
        for start, token in zip(expected.text_offset, expected.tokens, strict=True):
            assert choice.text[start : start + len(token)] == token
        assert found["token_logprobs"] == pytest.approx(expected.token_logprobs, abs=1e-4)
        assert all(1 <= len(top) <= 2 for top in expected.top_logprobs)
