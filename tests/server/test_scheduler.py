"""One thread writes the answers of many, and each gets what it would get alone."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from llguidance import LLMatcher
from tests.backends.tiny import make_tokenizer, make_vector, open_tiny, save_tiny, tiny_backend, without_stops

from persona_steering.backends.base import Completion, Piece, Request, Sampling, conversation
from persona_steering.backends.transformers import schema
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.backends.transformers.decoding import DecodingBatch
from persona_steering.errors import (
    BusyError,
    CancelledError,
    CapabilityError,
    ModelError,
    ModelMemoryError,
    NotFoundError,
    PromptError,
)
from persona_steering.interventions import Add, Recipe
from persona_steering.server.model.scheduler import AnswerFacts, Scheduler, Ticket


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return without_stops(tiny_backend("llama", tmp_path_factory.mktemp("scheduler")))


@pytest.fixture
def scheduler(backend: TransformersBackend) -> Iterator[Scheduler]:
    made = Scheduler(backend, rows=3, waiting=4, patience=0.05)
    made.start()
    yield made
    made.close(10)


def ask(seed: int = 0, *, tokens: int = 8, recipe: Recipe | None = None) -> Request:
    return Request(conversation("hello"), recipe or Recipe(), Sampling(max_new_tokens=tokens, seed=seed))


def finish(ticket: Ticket) -> Completion:
    *pieces, last = ticket
    assert isinstance(last, Completion) and "".join(map(str, pieces)) == last.text
    return last


def writing(ticket: Ticket) -> Iterator[str | Completion]:
    """The ticket's items, once the first has come."""
    items = iter(ticket)
    next(items)
    return items


def test_the_end_of_a_turn_is_counted_as_no_token(backend: TransformersBackend) -> None:
    ended: list[AnswerFacts] = []
    whole = backend.generate([ask(tokens=6)])[0]
    stopping = TransformersBackend(replace(backend.loaded, stop_ids=frozenset({whole.token_ids[3]})))
    made = Scheduler(stopping, on_end=ended.append)
    made.start()
    answer = finish(made.submit(ask(tokens=6)))
    made.close(10)
    assert answer.finish_reason == "stop" and answer.tokens is not None and answer.tokens < 6
    assert [one.tokens for one in ended] == [answer.tokens]


def test_an_answer_that_cannot_be_held_to_its_schema_any_longer_breaks_off_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny("llama", tmp_path / "bytes", tokenizer=make_tokenizer(byte_level=True))
    backend = without_stops(open_tiny(folder))
    allowed, steps = schema._allowed_tokens, itertools.count()

    def give_up(matcher: LLMatcher, vocabulary: int) -> np.ndarray:
        if next(steps) > 4:  # the first is asked when the schema is compiled
            raise CapabilityError("an answer could not be held to its JSON schema: too many items.")
        return allowed(matcher, vocabulary)

    monkeypatch.setattr(schema, "_allowed_tokens", give_up)
    alone = backend.generate([ask(3, tokens=40)])[0]
    made = Scheduler(backend)
    made.start()
    neighbour = made.submit(ask(3, tokens=40))
    items = writing(neighbour)
    held = made.submit(replace(ask(tokens=40), schema={"type": "string", "minLength": 30}))
    with pytest.raises(CapabilityError, match="could not be held"):
        list(held)
    assert held.written == 4
    *_, last = items
    assert isinstance(last, Completion) and last.text == alone.text
    made.close(10)
    with pytest.raises(CapabilityError, match="could not be held"):
        backend.generate([replace(ask(tokens=40), schema={"type": "string", "minLength": 30})])


def test_many_threads_get_what_each_would_get_alone(backend: TransformersBackend, scheduler: Scheduler) -> None:
    vector = make_vector(backend.info.identity, seed=1)
    recipes = [Recipe((Add(vector=vector, values={1: 0.3 * k}),)) if k else Recipe() for k in range(6)]
    jobs = [ask(seed, tokens=4 + 3 * seed, recipe=recipe) for seed, recipe in enumerate(recipes)]
    found: dict[int, Completion] = {}

    def client(place: int) -> None:
        found[place] = finish(scheduler.submit(jobs[place]))

    threads = [threading.Thread(target=client, args=(place,)) for place in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [found[place].token_ids for place in range(len(jobs))] == [
        alone.token_ids for alone in (backend.generate([job])[0] for job in jobs)
    ]
    load = scheduler.load
    assert (load.writing, load.waiting, load.answers) == (0, 0, len(jobs))
    assert load.tokens == sum(len(one.token_ids) for one in found.values())


def test_a_cancelled_answer_ends_at_the_next_token_and_frees_its_place(scheduler: Scheduler) -> None:
    long = [scheduler.submit(ask(seed, tokens=150)) for seed in range(3)]
    waiting = scheduler.submit(ask(9))
    rest = writing(long[0])
    long[0].cancel()
    *_, last = rest
    assert isinstance(last, Completion) and last.finish_reason == "cancelled" and len(last.token_ids) < 150
    assert finish(waiting).finish_reason == "length", "the place was given to the one that waited"
    long[0].cancel()
    for ticket in long[1:]:
        ticket.cancel()


def test_one_that_waits_can_be_cancelled_and_too_many_are_refused(scheduler: Scheduler) -> None:
    long = [scheduler.submit(ask(seed, tokens=150)) for seed in range(3)]
    for ticket in long:
        writing(ticket)
    waiting = [scheduler.submit(ask(seed)) for seed in range(4)]
    with pytest.raises(BusyError, match="4 requests are waiting"):
        scheduler.submit(ask())
    waiting[1].cancel()
    (last,) = waiting[1]
    assert isinstance(last, Completion) and (last.finish_reason, last.text) == ("cancelled", "")
    for ticket in long:
        ticket.cancel()
    assert all(finish(ticket).finish_reason == "length" for ticket in (waiting[0], *waiting[2:]))


def test_an_answer_is_steered_while_it_is_written(backend: TransformersBackend, scheduler: Scheduler) -> None:
    recipe = Recipe((Add(vector=make_vector(backend.info.identity, seed=2), values={2: 3.0}),))
    job = ask(4, tokens=120)
    ticket = scheduler.submit(job)
    rest = writing(ticket)
    place = ticket.steer(recipe)
    *_, last = rest
    alone = backend.generate([job])[0]
    assert isinstance(last, Completion) and 1 < place < 120
    assert last.token_ids[:place] == alone.token_ids[:place] and last.token_ids != alone.token_ids
    with pytest.raises(NotFoundError):
        ticket.steer(recipe)


def test_a_deadline_ends_an_answer_as_it_stands(scheduler: Scheduler) -> None:
    done = finish(scheduler.submit(ask(tokens=150), timeout=0.0))
    assert done.finish_reason == "cancelled" and len(done.token_ids) < 150


def test_one_bad_request_does_not_disturb_those_it_came_with(scheduler: Scheduler) -> None:
    long = [scheduler.submit(ask(seed, tokens=60)) for seed in range(3)]
    good, bad = scheduler.submit(ask(1)), scheduler.submit(replace(ask(), messages=conversation("long " * 400)))
    with pytest.raises(PromptError):
        list(bad)
    assert finish(good).finish_reason == "length"
    assert [finish(ticket).finish_reason for ticket in long] == ["length"] * 3


def test_a_newcomer_that_breaks_the_library_breaks_no_other_answer(
    backend: TransformersBackend, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(5, tokens=100)
    ticket = scheduler.submit(job)
    rest = writing(ticket)
    with monkeypatch.context() as patch:
        patch.setattr(DecodingBatch, "start", lambda self: [][0])
        with pytest.raises(ModelError, match="IndexError"):
            list(scheduler.submit(ask()))
    *_, last = rest
    assert isinstance(last, Completion) and last.token_ids == backend.generate([job])[0].token_ids


def test_running_out_of_memory_sheds_the_batch_and_not_the_thread(
    backend: TransformersBackend, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: DecodingBatch, cancelled: object = None) -> list[Piece]:
        raise RuntimeError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(DecodingBatch, "advance", fail)
        with pytest.raises(ModelMemoryError, match="answers at once"):
            list(scheduler.submit(ask()))
    assert finish(scheduler.submit(ask(3))).token_ids == backend.generate([ask(3)])[0].token_ids


def test_a_job_waits_for_chats_but_not_for_ever(scheduler: Scheduler) -> None:
    order: list[str] = []
    ticket = scheduler.submit(ask(tokens=8), hear=lambda item: order.append("chat"))
    patient = Scheduler.turn(scheduler)
    with patient:
        order.append("job")
    while scheduler.load.answers == 0:
        time.sleep(0.01)
    assert "job" in order and order.count("chat") >= 1
    ticket.cancel()
    with scheduler.turn():
        assert not scheduler.load.writing


def test_closing_ends_what_is_written_and_refuses_what_comes(backend: TransformersBackend) -> None:
    scheduler = Scheduler(backend, rows=1)
    scheduler.start()
    tickets = [scheduler.submit(ask(tokens=150)) for _ in range(2)]
    writing(tickets[0])
    scheduler.close(10)
    for ticket in tickets:
        with pytest.raises(CancelledError):
            list(ticket)
    with pytest.raises(CancelledError):
        scheduler.submit(ask())
