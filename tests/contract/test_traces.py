"""Where each token lies along a direction, before and after the interventions: against the oracle, every family."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.backends.tiny import make_vector, tiny_backend, without_stops
from tests.contract import parity
from tests.contract.oracle import Forward, naive_forward
from tests.contract.parity import completion_of, pieces_of

from persona_steering.backends.base import Arrival, Completion, Request, Sampling, Text, conversation
from persona_steering.backends.tokens import Trace
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import ModelMismatchError, PromptError, RecipeError, UsageError, VectorError
from persona_steering.interventions import Add, Recipe, Scope
from persona_steering.vectors import SteeringVector

Readings = dict[str, np.ndarray]


def traces_of(backend: TransformersBackend) -> list[tuple[Trace, ...]]:
    """For each prompt of the parity tests: none, one, two at a layer, several layers, all layers."""
    identity = backend.info.identity
    sage, other = make_vector(identity, seed=1, norms=parity.stream_norms(backend)), make_vector(identity, seed=9)
    layers = range(identity.num_layers)
    return [
        (),
        (Trace("sage", sage, 1),),
        (Trace("sage", sage, 2), Trace("other", other, 2), Trace("first", other, 0)),
        tuple(Trace(f"sage {layer}", sage, layer) for layer in (3, 1)),
        tuple(Trace(f"sage {layer}", sage, layer) for layer in layers),
    ]


def jobs_of(backend: TransformersBackend) -> list[Request]:
    """Every recipe and trace, answers of several lengths."""
    jobs = parity.requests(parity.mixed_recipes(backend), capture=[], temperature=0.9, tokens=[9, 5, 12, 2, 7])
    return [replace(job, trace=trace) for job, trace in zip(jobs, traces_of(backend), strict=True)]


def projected(found: Forward, trace: Trace) -> np.ndarray:
    """What the oracle saw of a trace: `[tokens, 2]` float64."""
    states = np.stack([found.before[trace.layer], found.outputs[trace.layer]], 1).astype(np.float64)
    unit = trace.vector.directions[trace.layer].astype(np.float64)
    return states @ (unit / np.linalg.norm(unit))


def expected_of(backend: TransformersBackend, job: Request, row: Completion) -> Readings:
    """The readings of a written answer, from one full forward over prompt and answer."""
    prompt = backend.loaded.encoder.encode(job.messages)
    fed = [*prompt, *parity.fed_back(row)]
    found = naive_forward(backend, fed, job.recipe, prompt_length=len(prompt))
    return {trace.label: projected(found, trace)[len(prompt) :] for trace in job.trace}


def assert_same(found: Readings, expected: Readings) -> None:
    assert list(found) == list(expected)
    for label, values in expected.items():
        fed = found[label][: len(values)]
        np.testing.assert_allclose(fed, values, rtol=0, atol=parity.RELATIVE * max(1.0, float(np.abs(values).max())))
        assert np.isnan(found[label][len(values) :]).all(), "what was not fed back has no reading"


def test_a_token_is_read_at_its_own_place_before_and_after_the_recipe(backend: TransformersBackend) -> None:
    jobs = jobs_of(backend)
    for job, row in zip(jobs, backend.generate(jobs), strict=True):
        assert all(values.shape == (len(row.token_ids), 2) for values in row.readings.values())
        assert_same(row.readings, expected_of(backend, job, row))
        assert len(row.token_texts) == (len(row.token_ids) if job.trace else 0)


def test_rows_that_come_and_go_keep_their_own_readings(backend: TransformersBackend) -> None:
    backend = without_stops(backend)
    jobs = jobs_of(backend)
    for key, pieces in pieces_of(backend, *jobs).items():
        done, job = completion_of(pieces), jobs[key]
        assert_same(done.readings, expected_of(backend, job, done))
        told = [reading for piece in pieces for reading in piece.readings]
        assert [reading.index for reading in told] == list(range(len(done.token_ids) - 1) if job.trace else [])
        for reading in told:
            assert {label: list(pair) for label, pair in reading.values.items()} == {
                label: values[reading.index].tolist() for label, values in done.readings.items()
            }


def test_a_new_recipe_shows_from_the_state_that_chooses_the_acknowledged_token(llama: TransformersBackend) -> None:
    llama = without_stops(llama)
    identity = llama.info.identity
    vector = make_vector(identity, seed=4, norms=parity.stream_norms(llama))
    trace = (Trace("here", vector, 1), Trace("above", vector, 2))
    job = Request(conversation("hello"), sampling=Sampling(max_new_tokens=10, seed=1), trace=trace)
    recipe = Recipe((Add(vector=vector, values={1: 0.5}),))
    batch = llama.live()
    batch.admit([Arrival(0, job), Arrival(1, replace(job, trace=()))])
    for _ in range(4):
        batch.advance()
    place = batch.steer(0, recipe)
    while len(batch):
        done = {piece.key: piece.completion for piece in batch.advance() if piece.completion is not None}
    here = done[0].readings["here"]
    moved = np.flatnonzero(np.abs(here[:-1, 1] - here[:-1, 0]) > 1e-3)
    assert moved.tolist() == list(range(place - 1, 9))
    window = Recipe((Add(vector=vector, values={1: 0.5}, scope=Scope("response", place, None)),))
    assert_same(done[0].readings, expected_of(llama, replace(job, recipe=window), done[0]))
    assert done[1].readings == {}


def test_rows_that_trace_nothing_take_no_part_and_notice_nothing(llama: TransformersBackend) -> None:
    jobs = jobs_of(llama)
    plain = [replace(job, trace=()) for job in jobs]
    asked, without = llama.generate(jobs), llama.generate(plain)
    assert [row.token_ids for row in asked] == [row.token_ids for row in without]
    assert all(row.readings == {} and row.token_texts == () for row in without)


def test_an_answer_that_ends_its_turn_is_read_to_its_last_token(llama: TransformersBackend) -> None:
    job = replace(jobs_of(without_stops(llama))[2], sampling=Sampling(max_new_tokens=20, seed=2))
    free = without_stops(llama).generate([job])[0]
    stops = frozenset({free.token_ids[6]})
    done = TransformersBackend(replace(llama.loaded, stop_ids=stops)).generate([job])[0]
    assert done.finish_reason == "stop" and len(done.token_ids) <= 6
    assert not any(np.isnan(values).any() for values in done.readings.values())


def test_given_answers_are_read_as_the_oracle_reads_them(backend: TransformersBackend) -> None:
    items = parity.texts(parity.mixed_recipes(backend))
    items += [replace(item, response=parity.ANSWERS[0]) for item in items[1:3]]  # shared prompt and recipe
    traces = (*traces_of(backend)[4], Trace("other", make_vector(backend.info.identity, seed=9), 2))
    encoder = backend.loaded.encoder
    for prompt in (False, True):
        for item, row in zip(items, backend.readings(items, traces, prompt=prompt), strict=True):
            head, answer = encoder.encode(item.messages), encoder.encode_response(item.response)
            oracle = naive_forward(backend, [*head, *answer], item.recipe, prompt_length=len(head))
            first = 0 if prompt else len(head)
            assert row.token_ids == tuple([*head, *answer][first:])
            assert row.prompt_tokens == len(head) - first
            assert_same(row.values, {trace.label: projected(oracle, trace)[first:] for trace in traces})


def test_the_mean_of_the_readings_is_the_projection_of_the_mean(llama: TransformersBackend) -> None:
    (item,) = parity.texts(parity.mixed_recipes(llama)[1:2] * 5)[:1]
    (trace,) = traces_of(llama)[1]
    (read,), (captured,) = llama.readings([item], [trace]), llama.capture([item])
    expected = float(captured.mean[1] @ trace.vector.unit(1))
    assert read.values["sage"][:, 1].mean() == pytest.approx(expected, abs=1e-4)


@pytest.fixture
def byte_model(tiny_root: Path) -> TransformersBackend:
    return tiny_backend("qwen2", tiny_root)


def test_the_texts_of_given_tokens_join_to_what_the_model_reads(byte_model: TransformersBackend) -> None:
    smile = "\N{GRINNING FACE}"
    text = Text(conversation(f"a {smile}?"), f"caf\N{LATIN SMALL LETTER E WITH ACUTE} {smile}<|end|>!")
    trace = Trace("one", make_vector(byte_model.info.identity), 1)
    ((plain,), (whole,)) = (byte_model.readings([text], [trace], prompt=prompt) for prompt in (False, True))
    assert "".join(plain.texts) == text.response
    assert "".join(whole.texts) == byte_model.render(text.messages) + text.response
    assert whole.texts[whole.prompt_tokens :] == plain.texts
    assert plain.texts[-6:] == ("", "", "", smile, "<|end|>", "!")
    assert len(plain.texts) == len(plain.token_ids) == len(plain.values["one"])


def test_a_prompt_can_be_read_without_an_answer(llama: TransformersBackend) -> None:
    trace = Trace("one", make_vector(llama.info.identity), 1)
    texts = [Text(conversation("hello"), ""), Text((), "", rendered="some bare text"), Text(conversation("hello"), "")]
    found = llama.readings(texts, [trace], prompt=True)
    assert [len(one.token_ids) for one in found] == [one.prompt_tokens for one in found]
    assert "".join(found[1].texts) == "some bare text"
    assert np.array_equal(found[0].values["one"], found[2].values["one"])
    with pytest.raises(PromptError, match="answer is empty"):
        llama.readings(texts, [trace])


def test_traces_that_cannot_be_read_are_refused(llama: TransformersBackend) -> None:
    identity = llama.info.identity
    vector, zero = make_vector(identity), make_vector(identity, norms={1: 0.0})
    foreign = make_vector(identity.model_copy(update={"fingerprint": "0" * 64}))

    def refused(error: type[Exception], match: str, *traces: tuple[str, SteeringVector, int]) -> None:
        asked = tuple(Trace(*trace) for trace in traces)
        with pytest.raises(error, match=match):
            llama.generate([Request(conversation("hello"), trace=asked)])
        with pytest.raises(error, match=match):
            llama.readings([Text(conversation("hello"), "well")], asked)

    refused(UsageError, "two traces are called 'a'", ("a", vector, 1), ("a", vector, 2))
    refused(RecipeError, "no direction at layer 9", ("a", vector, 9))
    refused(VectorError, "zero at layer 1", ("a", zero, 1))
    refused(ModelMismatchError, "sage", ("a", foreign, 1))
    with pytest.raises(UsageError, match="no direction"):
        llama.readings([Text(conversation("hello"), "well")], [])
