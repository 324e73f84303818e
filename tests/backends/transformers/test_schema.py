"""Answers held to a JSON schema: each row of a batch to its own or to none, and nothing else about them changes."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field
from tests.backends.tiny import make_tokenizer, make_vector, open_tiny, save_tiny, without_stops

from persona_steering.backends.base import Completion, Request, Sampling, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import CapabilityError, UsageError
from persona_steering.interventions import Add, Recipe

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-zé ]{2,12}$"},
        "age": {"type": "integer", "minimum": 1, "maximum": 120},
        "moods": {"type": "array", "items": {"enum": ["calm", "grumpy", "merry"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "moods"],
    "additionalProperties": False,
}
COLOUR: dict[str, Any] = {"enum": ["red", "green", "blue"]}


class Person(BaseModel):
    name: str = Field(pattern="^[A-Z][a-zé ]{2,12}$")
    age: int = Field(ge=1, le=120)
    moods: list[str] = Field(min_length=1, max_length=3)


def ask(schema: dict[str, Any] | None, *, seed: int = 0, recipe: Recipe | None = None, **sampling: Any) -> Request:
    chosen = Sampling(**({"temperature": 1.0, "max_new_tokens": 90, "seed": seed} | sampling))
    return Request(conversation("Who is there?"), recipe or Recipe(), chosen, schema=schema)


def answer(backend: TransformersBackend, request: Request) -> Completion:
    return backend.generate([request])[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    """Random weights over single bytes, with an end-of-turn token: it writes nothing sensible unless it is held."""
    folder = tmp_path_factory.mktemp("schema") / "llama"
    return open_tiny(save_tiny("llama", folder, tokenizer=make_tokenizer(byte_level=True)))


def test_a_model_that_knows_nothing_writes_valid_json_when_held(model: TransformersBackend) -> None:
    done = model.generate([ask(PERSON, seed=seed) for seed in range(12)])
    assert all(completion.finish_reason == "stop" for completion in done)
    people = [Person.model_validate_json(completion.text) for completion in done]
    assert len({person.name for person in people}) > 6
    assert len({person.age for person in people}) > 3


def test_greedy_and_nucleus_sampling_are_held_too(model: TransformersBackend) -> None:
    for sampling in ({"temperature": 0}, {"top_p": 0.5}, {"temperature": 5.0, "top_p": 0.99}):
        Person.model_validate_json(answer(model, ask(PERSON, **sampling)).text)


def test_a_batch_mixes_schemas_recipes_and_rows_without_a_schema_and_none_of_them_can_tell(
    model: TransformersBackend,
) -> None:
    steer = Recipe((Add(vector=make_vector(model.info.identity), values={1: 4.0}),))
    requests = [
        ask(None, seed=1, max_new_tokens=40),
        ask(PERSON, seed=2),
        ask(COLOUR, seed=3),
        ask(PERSON, seed=4, recipe=steer),
        ask(None, seed=5, recipe=steer, max_new_tokens=40, temperature=0),
        ask(COLOUR, seed=6, top_p=0.6),
    ]
    together = model.generate(requests)
    assert [row.token_ids for row in together] == [answer(model, request).token_ids for request in requests]
    assert json.loads(together[2].text) in COLOUR["enum"]
    plain = answer(model, ask(None, seed=1, max_new_tokens=40))
    assert together[0].text == plain.text != answer(model, ask(PERSON, seed=1)).text


def test_a_seed_gives_one_answer_and_another_seed_another(model: TransformersBackend) -> None:
    assert answer(model, ask(PERSON, seed=7)) == answer(model, ask(PERSON, seed=7))
    assert len({answer(model, ask(PERSON, seed=seed)).text for seed in range(6)}) == 6


def test_streamed_pieces_join_to_the_same_answer(model: TransformersBackend) -> None:
    *pieces, completion = model.stream(ask(PERSON, seed=8))
    assert completion == answer(model, ask(PERSON, seed=8))
    assert "".join(pieces) == completion.text  # type: ignore[arg-type]


def test_an_answer_ends_when_nothing_may_follow_even_without_an_end_of_turn_token(model: TransformersBackend) -> None:
    done = answer(without_stops(model), ask(PERSON, seed=2))
    assert done.finish_reason == "stop"
    Person.model_validate_json(done.text)


def test_an_answer_that_runs_out_of_tokens_says_so(model: TransformersBackend) -> None:
    done = answer(model, ask(PERSON, max_new_tokens=6))
    assert (done.finish_reason, len(done.token_ids)) == ("length", 6)
    with pytest.raises(json.JSONDecodeError):
        json.loads(done.text)


def test_characters_of_several_bytes_are_whole(model: TransformersBackend) -> None:
    accents = {"type": "string", "pattern": "^[é–🙂]{5,9}$"}
    texts = {answer(model, ask(accents, seed=seed)).text for seed in range(4)}
    assert len(texts) == 4
    for text in texts:
        assert 5 <= len(json.loads(text)) <= 9 and set(json.loads(text)) <= set("é–🙂")


def test_special_tokens_never_stand_inside_an_answer(model: TransformersBackend) -> None:
    free = {"type": "string", "minLength": 20, "maxLength": 30}
    special = set(model.loaded.encoder.tokenizer.all_special_ids)
    for seed in range(6):
        done = answer(model, ask(free, seed=seed))
        assert not special & set(done.token_ids)
        assert 20 <= len(json.loads(done.text)) <= 30


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "strin"}, "Invalid type: strin"),
        ({"type": "string", "minLength": 5, "maxLength": 3}, "Unsatisfiable"),
        ({"$ref": "#/nope"}, "/nope"),
        ({"type": "string", "pattern": "(["}, "JSON schema cannot be used"),
        ({"not": {"type": "string"}}, 'Unimplemented keys: ["not"]'),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_before_anything_is_generated(
    model: TransformersBackend, schema: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model._runner.__class__, "__call__", lambda *a, **k: pytest.fail("a forward ran"))
    with pytest.raises(UsageError) as caught:
        model.generate([ask(None), ask(schema)])
    assert message in caught.value.message and "schema" in caught.value.hint


def test_stop_strings_beside_a_schema_are_refused(model: TransformersBackend) -> None:
    with pytest.raises(UsageError, match="takes no stop strings"):
        answer(model, ask(PERSON, stop=("}",)))


def test_a_tokenizer_that_cannot_be_followed_is_refused_by_name(tmp_path: Path) -> None:
    backend = open_tiny(save_tiny("llama", tmp_path / "fuse"))  # characters, with a decoder that only joins them
    with pytest.raises(CapabilityError, match="tokenizer cannot be held to a JSON schema"):
        answer(backend, ask(PERSON))


@pytest.mark.embedded
def test_the_embedded_model_always_writes_valid_json(embedded_backend: TransformersBackend) -> None:
    letters = string.ascii_letters
    schema = {
        "type": "object",
        "properties": {"questions": {"type": "array", "items": {"type": "string", "maxLength": 60}, "maxItems": 2}},
        "required": ["questions"],
        "additionalProperties": False,
    }
    requests = [
        Request(
            conversation(f"Write two questions about {letters[i]}."),
            sampling=Sampling(seed=i, temperature=1.2, max_new_tokens=60),
            schema=schema,
        )
        for i in range(8)
    ]
    done = embedded_backend.generate(requests)
    complete = [json.loads(row.text) for row in done if row.finish_reason == "stop"]
    assert complete and all(set(value) == {"questions"} for value in complete)
    assert {row.finish_reason for row in done} <= {"stop", "length"}
