"""An answer grows in the store: how often it is stored, what is kept of it, and how it ends."""

from __future__ import annotations

import asyncio

import pytest

from persona_steering.backends.base import Completion, Piece
from persona_steering.errors import CancelledError, ModelMemoryError, NotFoundError
from persona_steering.server.answers.writing import EVERY, Writing, absorb
from persona_steering.server.stores.conversation_models import Made, Segment
from persona_steering.server.stores.conversations import ConversationStore
from persona_steering.server.stores.database import Database


class Clock:
    """A time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database) -> ConversationStore:
    return ConversationStore(database)


@pytest.fixture
def writing(store: ConversationStore, clock: Clock) -> Writing:
    it = store.create().id
    question = store.add_message(it, "user", "Why?")
    made = Made(model="embedded", segments=(Segment(asked="sage:0.5"),))
    node = store.add_message(it, "assistant", "", parent_id=question.id, status="writing", made=made)
    return Writing(store, node, since=clock.now - 1, clock=clock)


def piece(text: str, *tokens: int) -> Piece:
    return Piece(0, text, tokens=tokens or (1,))


def done(text: str, reason: str = "stop") -> Completion:
    return Completion(text, (1, 2, 3), reason, 12, "", caps_engaged=4)  # type: ignore[arg-type]


def stored(store: ConversationStore, writing: Writing) -> str:
    return store.path(writing.node.conversation_id)[-1].content


def test_a_growing_answer_is_stored_only_every_so_often(
    store: ConversationStore, writing: Writing, clock: Clock
) -> None:
    async def take(text: str) -> None:
        assert await absorb(writing, piece(text)) is None

    asyncio.run(take("Be"))
    assert (stored(store, writing), writing.node.content) == ("", "Be")
    clock.now += EVERY
    asyncio.run(take("cause"))
    assert stored(store, writing) == "Because"
    asyncio.run(take("."))
    assert stored(store, writing) == "Because"


def test_an_answer_ends_with_what_the_engine_says_of_it(
    store: ConversationStore, writing: Writing, clock: Clock
) -> None:
    clock.now += 1
    writing.take(piece("Be", 7, 8))
    clock.now += 3
    node = asyncio.run(absorb(writing, done("Because."), queued_s=0.5))
    assert node is not None and store.path(node.conversation_id)[-1] == node
    assert (node.content, node.status, node.made and node.made.finish_reason) == ("Because.", "complete", "stop")
    made = node.made
    assert made is not None and made.timings is not None
    assert (made.model, made.tokens, made.prompt_tokens, made.caps_engaged) == ("embedded", 3, 12, 4)
    assert (made.timings.queued_s, made.timings.first_token_s, made.timings.total_s) == (0.5, 2, 5)


def test_an_answer_that_is_cancelled_is_stopped(writing: Writing) -> None:
    assert writing.finish(done("Be", "cancelled")).status == "stopped"


def test_steering_in_the_middle_is_kept_with_its_first_token(writing: Writing) -> None:
    writing.steer(Segment(from_token=3, asked="sage:0.7"))
    writing.steer(Segment(from_token=3, asked="sage:0.9"))
    writing.steer(Segment(from_token=8))
    node = writing.finish(done("Because."))
    assert node.made is not None
    assert [(one.from_token, one.asked) for one in node.made.segments] == [(0, "sage:0.5"), (3, "sage:0.9"), (8, None)]


def test_what_fails_keeps_what_there_was_and_says_why_without_paths(writing: Writing) -> None:
    writing.take(piece("Be"))
    node = writing.fail(ModelMemoryError("no room in /secret/place."))
    assert (node.content, node.status) == ("Be", "failed")
    assert node.made is not None and node.made.error is not None and "secret" not in node.made.error
    assert node.made.timings is not None and node.made.timings.queued_s is None


def test_the_end_of_the_server_interrupts(writing: Writing) -> None:
    assert writing.fail(CancelledError("the server is shutting down.")).status == "interrupted"


def test_an_answer_that_was_deleted_meanwhile_is_not_brought_back(store: ConversationStore, writing: Writing) -> None:
    store.delete_branch(writing.node.id)
    for call in (writing.store, lambda: writing.finish(done("Because.")), lambda: writing.fail(CancelledError("x."))):
        with pytest.raises(NotFoundError):
            call()
