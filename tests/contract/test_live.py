"""Answers that come and go in one batch are those that each request gets alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.backends.tiny import make_tokenizer, make_vector, open_tiny, save_tiny, without_stops
from tests.contract.parity import assert_close, mixed_recipes, requests, stream_norms

from persona_steering.backends.base import Arrival, Completion, LiveBatch, Request, Sampling, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import ModelMismatchError, NotFoundError
from persona_steering.interventions import Add, Recipe, Scope

LENGTHS = (12, 5, 9, 3, 7)


def finish(batch: LiveBatch, done: dict[int, Completion], *, steps: int = 10_000) -> None:
    """Advances until every answer has ended, or so many steps."""
    while len(batch) and steps:
        done |= {piece.key: piece.completion for piece in batch.advance() if piece.completion is not None}
        steps -= 1


def staggered(backend: TransformersBackend, jobs: list[Request]) -> dict[int, Completion]:
    """One request more after every second token."""
    batch, done = backend.live(), dict[int, Completion]()
    for key, job in enumerate(jobs):
        batch.admit([Arrival(key, job)])
        finish(batch, done, steps=2)
    finish(batch, done)
    return done


@pytest.mark.parametrize("temperature", [0, 1.0], ids=["greedy", "sampled"])
def test_rows_that_join_one_by_one_equal_each_alone(backend: TransformersBackend, temperature: float) -> None:
    backend = without_stops(backend)
    layers = [0, backend.info.identity.num_layers - 1]
    jobs = requests(mixed_recipes(backend), capture=layers, temperature=temperature, tokens=LENGTHS)
    jobs[0] = replace(jobs[0], capture=())  # a row that captures joins one that does not
    found = staggered(backend, jobs)
    for key, job in enumerate(jobs):
        (alone,) = backend.generate([job])
        assert found[key].token_ids == alone.token_ids and found[key].text == alone.text
        assert found[key].caps_engaged == alone.caps_engaged
        assert (found[key].activations is None) == (alone.activations is None)
        if found[key].activations and alone.activations:
            assert found[key].activations.tokens == alone.activations.tokens
            for layer in layers:
                assert_close(found[key].activations.mean[layer], alone.activations.mean[layer])


def test_a_row_far_past_the_sliding_window_takes_newcomers(gemma: TransformersBackend) -> None:
    gemma = without_stops(gemma)
    first = Request(conversation("tell me a long story " * 6), sampling=Sampling(max_new_tokens=40, seed=1))
    second = Request(conversation("hello"), sampling=Sampling(max_new_tokens=30, seed=2))
    batch, done = gemma.live(), dict[int, Completion]()
    batch.admit([Arrival(0, second)])
    finish(batch, done, steps=20)
    batch.admit([Arrival(1, first)])
    finish(batch, done)
    assert [done[k].token_ids for k in (0, 1)] == [done.token_ids for done in gemma.generate([second, first])]


def test_the_pieces_of_a_row_join_to_its_text(llama: TransformersBackend) -> None:
    job = Request(conversation("hello"), sampling=Sampling(max_new_tokens=30, seed=3, stop=("qz",)))
    batch = llama.live()
    batch.admit([Arrival(7, job)])
    text, last = "", None
    while len(batch):
        for piece in batch.advance():
            text, last = text + piece.text, piece.completion
    assert last is not None and text == last.text == llama.generate([job])[0].text


def test_a_new_recipe_acts_from_the_token_that_is_named(llama: TransformersBackend) -> None:
    llama = without_stops(llama)
    vector = make_vector(llama.info.identity, seed=4, norms=stream_norms(llama))
    before, after = {1: 0.6}, {2: -0.9}
    job = Request(conversation("hello"), Recipe((Add(vector=vector, values=before),)), Sampling(max_new_tokens=14))
    batch, done = llama.live(), dict[int, Completion]()
    batch.admit([Arrival(0, job), Arrival(1, job)])
    finish(batch, done, steps=4)
    place = batch.steer(0, Recipe((Add(vector=vector, values=after),)))
    finish(batch, done)
    assert place == 5
    windows = Recipe(
        (
            Add(vector=vector, values=before, scope=Scope("response", 0, place)),
            Add(vector=vector, values=after, scope=Scope("response", place, None)),
        )
    )
    assert done[0].token_ids == llama.generate([replace(job, recipe=windows)])[0].token_ids
    assert done[1].token_ids == llama.generate([job])[0].token_ids != done[0].token_ids, "the neighbour is untouched"


def test_a_stopped_row_ends_at_once_and_leaves_the_others_alone(llama: TransformersBackend) -> None:
    llama = without_stops(llama)
    jobs = [Request(conversation("hello"), sampling=Sampling(max_new_tokens=12, seed=seed)) for seed in (1, 2)]
    batch, done = llama.live(), dict[int, Completion]()
    batch.admit([Arrival(key, job) for key, job in enumerate(jobs)])
    finish(batch, done, steps=3)
    batch.stop(0)
    finish(batch, done, steps=1)
    assert len(batch) == 1 and done[0].finish_reason == "cancelled" and len(done[0].token_ids) == 3
    finish(batch, done)
    assert done[1].token_ids == llama.generate(jobs[1:])[0].token_ids
    with pytest.raises(NotFoundError):
        batch.stop(0)


def test_an_answer_held_to_a_schema_joins_a_free_one(tmp_path: Path) -> None:
    llama = open_tiny(save_tiny("llama", tmp_path, tokenizer=make_tokenizer(byte_level=True)))
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    free = Request(conversation("hello"), sampling=Sampling(max_new_tokens=20, seed=1))
    held = Request(conversation("and you?"), sampling=Sampling(max_new_tokens=40, seed=2), schema=dict(schema))
    found = staggered(llama, [free, held])
    assert isinstance(json.loads(found[1].text)["yes"], bool)
    assert found[0].token_ids == llama.generate([free])[0].token_ids


def test_a_refused_request_leaves_the_batch_as_it_was(llama: TransformersBackend) -> None:
    foreign = make_vector(llama.info.identity.model_copy(update={"fingerprint": "0" * 64}), seed=1)
    good = Request(conversation("hello"), sampling=Sampling(max_new_tokens=6, seed=1))
    batch, done = llama.live(), dict[int, Completion]()
    batch.admit([Arrival(0, good)])
    with pytest.raises(ModelMismatchError):
        batch.admit([Arrival(1, replace(good, recipe=Recipe((Add(vector=foreign, values={1: 0.1}),))))])
    finish(batch, done)
    assert set(done) == {0} and done[0].token_ids == llama.generate([good])[0].token_ids
