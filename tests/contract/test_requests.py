"""What a caller may rely on besides numbers: seeds, streaming, stopping, cancelling, and errors that say what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.backends.tiny import CONTEXT, make_tokenizer, make_vector, open_tiny, save_tiny, tiny_backend, without_stops
from tests.contract import parity
from tests.contract.parity import PROMPTS

from persona_steering.backends.base import Completion, Message, Request, Sampling, Text, conversation
from persona_steering.backends.transformers import backend as backend_module
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.backends.transformers.forward import Runner
from persona_steering.errors import (
    CapabilityError,
    ContextLengthError,
    ModelError,
    ModelMemoryError,
    ModelMismatchError,
    PromptError,
    RecipeError,
)
from persona_steering.interventions import Add, Recipe, Scope


def ask(prompt: str = PROMPTS[0], *, recipe: Recipe | None = None, **sampling: Any) -> Request:
    return Request(conversation(prompt), recipe or Recipe(), Sampling(**({"max_new_tokens": 8} | sampling)))


def answer(backend: TransformersBackend, request: Request) -> Completion:
    return backend.generate([request])[0]


@pytest.fixture(scope="module")
def byte_model(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    """Writes single bytes, so that its text is full of unfinished and broken characters."""
    folder = tmp_path_factory.mktemp("bytes")
    return without_stops(open_tiny(save_tiny("llama", folder, tokenizer=make_tokenizer(byte_level=True))))


# Seeds


def test_a_seed_gives_one_text_and_another_seed_another(llama: TransformersBackend) -> None:
    assert answer(llama, ask(seed=4)).text == answer(llama, ask(seed=4)).text
    assert len({answer(llama, ask(seed=seed)).text for seed in range(8)}) == 8


def test_the_text_of_a_seed_does_not_depend_on_neighbours_of_any_sampling(llama: TransformersBackend) -> None:
    jobs = [
        ask(PROMPTS[0], seed=1, temperature=1.0),
        ask(PROMPTS[1], seed=1, temperature=1.0, top_p=0.5, max_new_tokens=20),
        ask(PROMPTS[2], seed=2, temperature=0),
        ask(PROMPTS[3], seed=3, temperature=1.5, top_p=0.99, max_new_tokens=3),
        ask(PROMPTS[0], seed=1, temperature=1.0),
    ]
    together = llama.generate(jobs)
    assert [row.token_ids for row in together] == [answer(llama, job).token_ids for job in jobs]
    assert together[0].text == together[4].text


def test_a_longer_answer_begins_with_the_shorter_one_of_the_same_seed(llama: TransformersBackend) -> None:
    short, long = answer(llama, ask(seed=9, max_new_tokens=5)), answer(llama, ask(seed=9, max_new_tokens=25))
    assert long.token_ids[:5] == short.token_ids


# Streaming and stopping


@pytest.mark.parametrize("seed", range(4))
def test_streamed_pieces_join_to_the_generated_text(
    llama: TransformersBackend, byte_model: TransformersBackend, seed: int
) -> None:
    for backend in (llama, byte_model):
        recipe = parity.mixed_recipes(backend)[1]
        request = ask(recipe=recipe, seed=seed, max_new_tokens=30, temperature=1.0)
        *pieces, completion = backend.stream(request)
        assert completion == answer(backend, request)
        assert "".join(pieces) == completion.text  # type: ignore[arg-type]
        assert len(pieces) > 10


@pytest.mark.parametrize("length", [1, 3])
def test_a_stop_string_ends_the_answer_before_it_streamed_or_not(llama: TransformersBackend, length: int) -> None:
    free = answer(llama, ask(seed=2, max_new_tokens=30))
    stop = free.text[10 : 10 + length]
    request = ask(seed=2, max_new_tokens=30, stop=("never written", stop))
    stopped = answer(llama, request)
    assert stopped.text == free.text[: free.text.index(stop)]
    assert stopped.finish_reason == "stop" and free.finish_reason == "length"
    *pieces, completion = llama.stream(request)
    assert "".join(pieces) == stopped.text  # type: ignore[arg-type]
    assert completion == stopped
    # nothing of the stop string is shown before it is known to be one
    assert all(len("".join(pieces[:i])) <= len(stopped.text) for i in range(len(pieces)))  # type: ignore[arg-type]


def test_an_empty_stop_string_which_is_in_every_text_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 character"):
        Sampling(stop=("",))


def test_an_end_of_turn_token_ends_the_answer_and_is_not_part_of_it(llama: TransformersBackend) -> None:
    free = answer(llama, ask(seed=2, max_new_tokens=20))
    end = free.token_ids[7]
    loaded = dataclasses.replace(llama.loaded, stop_ids=frozenset({end}))
    request = dataclasses.replace(ask(seed=2, max_new_tokens=20), capture=(1,))
    stopped = answer(TransformersBackend(loaded), request)
    assert stopped.token_ids == free.token_ids[: free.token_ids.index(end)]
    assert stopped.finish_reason == "stop"
    # every token that was written was fed back
    assert stopped.activations is not None and stopped.activations.tokens == len(stopped.token_ids)


def test_an_answer_without_a_token_has_no_activations(llama: TransformersBackend) -> None:
    (first,) = answer(llama, ask(temperature=0, max_new_tokens=1)).token_ids
    silent = TransformersBackend(dataclasses.replace(llama.loaded, stop_ids=frozenset({first})))
    found = answer(silent, dataclasses.replace(ask(temperature=0), capture=(1,)))
    assert (found.text, found.token_ids, found.finish_reason, found.activations) == ("", (), "stop", None)


def test_cancelling_keeps_what_was_written(llama: TransformersBackend) -> None:
    jobs = [ask(prompt, seed=i, max_new_tokens=40) for i, prompt in enumerate(PROMPTS)]
    whole = llama.generate(jobs)
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked >= 6

    for found, expected in zip(llama.generate(jobs, cancelled=cancelled), whole, strict=True):
        assert found.finish_reason == "cancelled"
        assert found.token_ids == expected.token_ids[:5]
        assert expected.text.startswith(found.text)


def test_cancelling_a_stream_ends_it_with_its_completion(llama: TransformersBackend) -> None:
    pieces: list[str | Completion] = []
    for piece in llama.stream(ask(max_new_tokens=50), cancelled=lambda: len(pieces) >= 3):
        pieces.append(piece)
    last = pieces[-1]
    assert isinstance(last, Completion) and last.finish_reason == "cancelled"
    assert "".join(pieces[:-1]) == last.text and 3 <= len(last.token_ids) < 10  # type: ignore[arg-type]


def test_cancelling_before_the_start_runs_nothing(llama: TransformersBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, "__call__", lambda *args, **kwargs: pytest.fail("a forward ran"))
    found = llama.generate([ask(), ask()], cancelled=lambda: True)
    assert [(row.text, row.finish_reason) for row in found] == [("", "cancelled")] * 2


def test_a_stream_that_is_abandoned_leaves_no_hook(llama: TransformersBackend) -> None:
    before = parity.count_hooks(llama)
    stream = llama.stream(ask(recipe=parity.mixed_recipes(llama)[1]))
    next(stream)
    assert parity.count_hooks(llama) == before
    stream.close()  # type: ignore[attr-defined]
    assert parity.count_hooks(llama) == before


def test_two_streams_take_turns_without_touching_each_other(llama: TransformersBackend) -> None:
    recipes = parity.mixed_recipes(llama)
    jobs = [ask(PROMPTS[i], recipe=recipes[i], seed=i, max_new_tokens=12) for i in (1, 3)]
    alone = [answer(llama, job) for job in jobs]
    streams = [llama.stream(job) for job in jobs]
    last: list[Any] = [None, None]
    running = {0, 1}
    while running:
        for i in sorted(running):
            try:
                last[i] = next(streams[i])
            except StopIteration:
                running.remove(i)
    assert last == alone


def test_on_done_hears_of_every_completion_once(llama: TransformersBackend) -> None:
    heard: dict[int, Completion] = {}
    small = TransformersBackend(llama.loaded, batch_size=2)

    def on_done(index: int, completion: Completion) -> None:
        assert index not in heard
        heard[index] = completion

    found = small.generate([ask(prompt, seed=i) for i, prompt in enumerate(PROMPTS)], on_done=on_done)
    assert [heard[i] for i in range(len(PROMPTS))] == found


# Batches


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_results_keep_their_order_and_value_at_any_batch_size(llama: TransformersBackend, batch_size: int) -> None:
    recipes = parity.mixed_recipes(llama)
    jobs = parity.requests(recipes, capture=[1, 3], temperature=0.9, tokens=[9, 5, 12, 2, 7])
    small = TransformersBackend(llama.loaded, batch_size=batch_size)
    for found, expected in zip(small.generate(jobs), llama.generate(jobs), strict=True):
        parity.assert_same_completion(found, expected)
    items = parity.texts(recipes)
    for a, b in zip(small.score(items), llama.score(items), strict=True):
        np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=0, atol=parity.LOGPROB)
    for c, d in zip(small.capture(items, layers=[2]), llama.capture(items), strict=True):
        parity.assert_close(c.mean[2], d.mean[2])


def out_of_memory_beyond(rows: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes every forward of more rows fail; yields the sizes that were tried."""
    tried: list[int] = []
    run: Callable[..., Any] = Runner.__call__

    def limited(self: Runner, ids: Any, *args: Any, **kwargs: Any) -> Any:
        tried.append(len(ids))
        if len(ids) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return run(self, ids, *args, **kwargs)

    monkeypatch.setattr(Runner, "__call__", limited)
    return tried


def test_out_of_memory_halves_the_batch_and_changes_no_result(
    llama: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = parity.mixed_recipes(llama)
    jobs = parity.requests(recipes, capture=[2], temperature=0.9, tokens=4)
    items = parity.texts(recipes)
    expected, scores, captures = llama.generate(jobs), llama.score(items), llama.capture(items)
    tried = out_of_memory_beyond(2, monkeypatch)
    for found, row in zip(llama.generate(jobs), expected, strict=True):
        parity.assert_same_completion(found, row)
    assert tried[:2] == [5, 2] and max(tried[1:]) == 2
    for a, b in zip(llama.score(items), scores, strict=True):
        np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=0, atol=parity.LOGPROB)
    for c, d in zip(llama.capture(items), captures, strict=True):
        parity.assert_close(c.mean[2], d.mean[2])


def test_out_of_memory_with_one_row_says_what_to_do(
    llama: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory_beyond(0, monkeypatch)
    with pytest.raises(ModelMemoryError, match="single row") as caught:
        llama.generate([ask(), ask()])
    assert "4bit" in caught.value.hint


def test_another_runtime_error_is_not_taken_for_missing_memory(
    llama: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Runner, "__call__", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        llama.generate([ask(), ask()])


def test_hooks_are_gone_after_an_error_in_the_middle_of_a_forward(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = parity.count_hooks(backend)
    seen: list[int] = []

    def breaks(*args: object, **kwargs: object) -> None:
        seen.append(parity.count_hooks(backend))
        raise ValueError("in the middle")

    jobs = parity.requests(parity.mixed_recipes(backend), capture=[0, 1, 2, 3], temperature=0, tokens=3)
    items = parity.texts([job.recipe for job in jobs])
    block = backend.loaded.layers.blocks[2]
    with monkeypatch.context() as patch:
        patch.setattr(block, "forward", breaks)
        for call in (
            lambda: backend.generate(jobs),
            lambda: backend.capture(items),
            lambda: backend.score(items),
            lambda: list(backend.stream(jobs[1])),
        ):
            with pytest.raises(ValueError, match="in the middle"):
                call()
            assert parity.count_hooks(backend) == before
    assert all(count > before for count in seen) and len(seen) == 4
    assert answer(backend, jobs[0]).token_ids


def test_a_row_that_ends_early_near_the_end_of_the_context_goes_on_harmlessly(tiny_root: Path) -> None:
    # learned positions: one past the table is an error, on a GPU a crash
    backend = tiny_backend("gpt2", tiny_root)
    long = "x" * (CONTEXT - 30)
    jobs = [ask(long, max_new_tokens=2, seed=0), *(ask("hi", max_new_tokens=100, seed=i) for i in (1, 2))]
    together = backend.generate(jobs)
    assert [row.token_ids for row in together] == [answer(backend, job).token_ids for job in jobs]


# Errors


@pytest.mark.parametrize("prompt", ["", "   ", "\n"])
def test_an_empty_prompt_is_refused(llama: TransformersBackend, prompt: str) -> None:
    with pytest.raises(PromptError, match="empty"):
        conversation(prompt)
    with pytest.raises(PromptError, match="empty"):
        llama.generate([Request((Message("user", prompt),))])
    with pytest.raises(PromptError, match="empty"):
        llama.generate([Request((Message("system", "You are a wizard."),))])


def test_an_empty_given_answer_is_refused(llama: TransformersBackend) -> None:
    with pytest.raises(PromptError, match="empty"):
        llama.score([Text(conversation("hello"), "")])


def test_a_prompt_that_fills_the_context_exactly_runs_and_one_more_token_is_refused(
    llama: TransformersBackend,
) -> None:
    around = len(llama.loaded.encoder.encode(conversation("x"))) - 1
    room = 6
    fits = "x" * (CONTEXT - around - room)
    assert len(answer(llama, ask(fits, max_new_tokens=room)).token_ids) == room
    with pytest.raises(ContextLengthError, match=f"{CONTEXT - room + 1} tokens.*needs {room}.*holds {CONTEXT}"):
        llama.generate([ask(fits + "x", max_new_tokens=room)])
    with pytest.raises(ContextLengthError, match="context"):
        llama.stream(ask(fits + "x", max_new_tokens=room))
    with pytest.raises(ContextLengthError, match="context"):
        llama.score([Text(conversation(fits), "y" * (room + 1))])


def test_a_vector_of_another_model_is_refused_by_name(llama: TransformersBackend, gemma: TransformersBackend) -> None:
    foreign = Recipe((Add(vector=make_vector(gemma.info.identity, name="pirate"), values={1: 1.0}),))
    for call in (
        lambda: llama.generate([ask(), ask(recipe=foreign)]),
        lambda: llama.stream(ask(recipe=foreign)),
        lambda: llama.score([Text(conversation("hello"), "yes", foreign)]),
        lambda: llama.capture([Text(conversation("hello"), "yes", foreign)]),
    ):
        with pytest.raises(ModelMismatchError, match="pirate"):
            call()


def test_a_layer_that_the_model_lacks_is_refused(llama: TransformersBackend) -> None:
    with pytest.raises(RecipeError, match="no layer 4"):
        llama.generate([dataclasses.replace(ask(), capture=(0, 4))])
    with pytest.raises(RecipeError, match="no layer -1"):
        llama.capture([Text(conversation("hello"), "yes")], layers=[-1])


def test_what_the_backend_cannot_do_is_refused_by_name(llama: TransformersBackend) -> None:
    vector = make_vector(llama.info.identity)
    with pytest.raises(CapabilityError, match="thinking"):
        llama.generate([ask(recipe=Recipe((Add(vector=vector, values={1: 1.0}, scope=Scope("thinking")),)))])
    with pytest.raises(CapabilityError, match="schema"):
        llama.generate([dataclasses.replace(ask(), schema={"type": "object"})])


def test_a_bad_request_is_refused_before_anything_runs(
    llama: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "DecodingBatch", lambda *args: pytest.fail("a batch was made"))
    with pytest.raises(PromptError):
        llama.generate([ask(), ask("x" * CONTEXT)])


def test_nothing_asked_is_nothing_done(llama: TransformersBackend) -> None:
    assert llama.generate([]) == [] and llama.score([]) == [] and llama.capture([]) == []
    (found,) = llama.capture([Text(conversation("hello"), "yes")], layers=[])
    assert found.mean == {} and found.tokens == 3


def test_a_closed_backend_says_so_and_closes_twice(tmp_path: Path) -> None:
    backend = open_tiny(save_tiny("llama", tmp_path))
    with backend:
        assert backend.info.backend == "transformers"
    backend.close()
    with pytest.raises(ModelError, match="closed"):
        backend.generate([ask()])
