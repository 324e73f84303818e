"""How likely each written token was, and what else might have come: against transformers itself, every family."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.backends.tiny import make_tokenizer, open_tiny, save_tiny, without_stops
from tests.contract import parity
from tests.contract.oracle import naive_forward
from tests.contract.parity import completion_of, pieces_of

from persona_steering.backends.base import Completion, Request, Sampling, conversation
from persona_steering.backends.tokens import MAX_LOGPROBS
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import UsageError

TOP = (3, 0, None, 5, 20)


def jobs_of(backend: TransformersBackend, *, temperature: float = 0.9) -> list[Request]:
    """Every recipe, rows with and without log-probabilities, and a top-p that they must not notice."""
    jobs = parity.requests(parity.mixed_recipes(backend), capture=[], temperature=temperature, tokens=[9, 5, 12, 2, 7])
    nucleus = [job.sampling.model_copy(update={"top_p": 0.8}) for job in jobs]
    return [
        replace(job, logprobs=top, sampling=sampling) for job, top, sampling in zip(jobs, TOP, nucleus, strict=True)
    ]


def test_each_token_has_the_probability_that_the_steered_model_gave_it(backend: TransformersBackend) -> None:
    jobs = jobs_of(backend)
    for job, row in zip(jobs, backend.generate(jobs), strict=True):
        if job.logprobs is None:
            assert row.logprobs == row.token_texts == ()
            continue
        prompt = backend.loaded.encoder.encode(job.messages)
        oracle = naive_forward(backend, [*prompt, *row.token_ids], job.recipe, prompt_length=len(prompt))
        table = torch.log_softmax(oracle.logits[len(prompt) - 1 : -1].double(), -1)
        assert [one.id for one in row.logprobs] == list(row.token_ids)
        for one, expected in zip(row.logprobs, table, strict=True):
            assert one.logprob == pytest.approx(float(expected[one.id]), abs=parity.LOGPROB)
            best = expected.topk(job.logprobs).values.tolist()
            assert [other.logprob for other in one.top] == pytest.approx(best, abs=parity.LOGPROB)
            assert all(float(expected[o.id]) == pytest.approx(o.logprob, abs=parity.LOGPROB) for o in one.top)


def test_a_live_batch_tells_them_with_each_token(backend: TransformersBackend) -> None:
    backend = without_stops(backend)
    jobs = jobs_of(backend)
    for key, pieces in pieces_of(backend, *jobs).items():
        (alone,) = backend.generate([jobs[key]])
        done = completion_of(pieces)
        assert sum((piece.tokens for piece in pieces), ()) == done.token_ids == alone.token_ids
        told = sum((piece.logprobs for piece in pieces), ())
        assert told == done.logprobs and len(told) == (0 if TOP[key] is None else len(done.token_ids))
        assert all(len(piece.tokens) == 1 for piece in pieces)
        for one, expected in zip(told, alone.logprobs, strict=True):
            assert (one.id, one.text) == (expected.id, expected.text)
            assert one.logprob == pytest.approx(expected.logprob, abs=parity.LOGPROB)


def test_asking_changes_no_token(llama: TransformersBackend) -> None:
    plain = [replace(job, logprobs=None) for job in jobs_of(llama)]
    asked = [row.token_ids for row in llama.generate(jobs_of(llama))]
    assert asked == [row.token_ids for row in llama.generate(plain)]


def test_a_stream_ends_with_them(llama: TransformersBackend) -> None:
    job = jobs_of(llama)[0]
    *_, last = llama.stream(job)
    assert last == llama.generate([job])[0] and isinstance(last, Completion) and last.logprobs


def test_where_a_schema_holds_an_answer_only_what_it_allows_has_a_probability(tmp_path: Path) -> None:
    model = open_tiny(save_tiny("llama", tmp_path, tokenizer=make_tokenizer(byte_level=True)))
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    job = Request(conversation("hello"), sampling=Sampling(max_new_tokens=40, seed=2), schema=dict(schema), logprobs=20)
    (done,) = model.generate([job])
    assert json.loads(done.text)["yes"] in (True, False)
    assert "".join(one.text for one in done.logprobs) == done.text
    for one in done.logprobs:
        assert np.isfinite([other.logprob for other in one.top]).all()
        assert sum(np.exp(other.logprob) for other in one.top) == pytest.approx(1, abs=1e-5)
    assert done.logprobs[0].logprob == 0 and [other.text for other in done.logprobs[0].top] == ["{"]
    choice = next(one for one in done.logprobs if len(one.top) > 1)
    assert {other.text for other in choice.top} == {"t", "f"}


def test_a_stop_string_cuts_the_text_and_no_token(llama: TransformersBackend) -> None:
    free = Request(conversation("hello"), sampling=Sampling(max_new_tokens=20, seed=3), logprobs=0)
    stop = llama.generate([free])[0].text[6:8]
    job = replace(free, sampling=free.sampling.model_copy(update={"stop": (stop,)}))
    (pieces,) = pieces_of(without_stops(llama), job).values()
    done = completion_of(pieces)
    assert len(done.logprobs) == len(done.token_ids) == len(done.token_texts)
    assert "".join(done.token_texts).startswith(done.text + stop)
    assert "".join(piece.text for piece in pieces) == done.text
    assert sum((piece.token_texts for piece in pieces), ()) == done.token_texts


@pytest.mark.parametrize("top", [-1, MAX_LOGPROBS + 1])
def test_too_many_alternatives_are_refused(llama: TransformersBackend, top: int) -> None:
    with pytest.raises(UsageError, match="0 to 20"):
        llama.generate([replace(jobs_of(llama)[0], logprobs=top)])
