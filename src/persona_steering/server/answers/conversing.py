"""Talking within a conversation: what a message asks of the model, and the answer on its way into the tree."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Self

from persona_steering.backends.base import Completion, Message, Piece, Request
from persona_steering.errors import ConflictError, PersonaSteeringError, UsageError
from persona_steering.server.answers.answering import Answers
from persona_steering.server.answers.asking import Telling, request_of, sampling_of
from persona_steering.server.answers.shapes import usage_of
from persona_steering.server.answers.steering import Steered, resolve
from persona_steering.server.answers.writing import Writing, absorb, give_up
from persona_steering.server.errors import ApiError, as_api_error, internal_error
from persona_steering.server.model.serving import Serving
from persona_steering.server.schemas.conversations import (
    Again,
    Ask,
    Exchange,
    Finished,
    Started,
    WrittenToken,
)
from persona_steering.server.state import ServerState
from persona_steering.server.stores.conversation_models import Draft, Made, MessageNode, Segment
from persona_steering.server.stores.conversations import ConversationStore

GRACE = 0.5  # seconds in which a refusal comes as such; later, the answer is there and has failed
_TASKS: set[asyncio.Task[None]] = set()
_log = logging.getLogger("persona_steering.server")


@dataclass(frozen=True)
class Turn:
    """A message that is to be answered, and its answer, before anything of them is kept."""

    conversation: str
    parent: str | None
    asked: tuple[Draft, ...]  # the system prompt and the question, where they are new
    answer: Draft
    request: Request
    steered: Steered
    serving: Serving
    expected: int | None = None  # the version of the conversation


def plan_message(state: ServerState, conversation: str, body: Ask, expected: int | None = None) -> Turn:
    """A new message and its answer. Raises ApiError, and errors of the tree for what does not fit."""
    parent, before = _place(state.conversations, conversation, body)
    return _plan(state, conversation, (parent, before), _drafts(body), body, expected)


def plan_answer(state: ServerState, conversation: str, message: str, body: Again, expected: int | None = None) -> Turn:
    """One more answer to a question that is there. Raises as `plan_message`."""
    before = state.conversations.path(conversation, message)
    if before[-1].role != "user":
        raise UsageError(f"the message {message} is no question.", hint="Name a message of the user.")
    return _plan(state, conversation, (message, before), (), body, expected)


def keep_message(state: ServerState, conversation: str, body: Ask, expected: int | None = None) -> Exchange:
    """Adds a message that is not to be answered; no model is needed. Raises as `plan_message`."""
    parent, _ = _place(state.conversations, conversation, body)
    nodes = state.conversations.add_messages(conversation, _drafts(body), parent_id=parent, expected=expected)
    return Exchange(system=nodes[0] if body.system else None, user=nodes[-1])


def _place(store: ConversationStore, conversation: str, body: Ask) -> tuple[str | None, list[MessageNode]]:
    """What the message comes after, and all before it."""
    if "parent_id" in body.model_fields_set and body.parent_id is None:
        return None, []
    before = store.path(conversation, body.parent_id)
    if body.system is not None and before:
        raise UsageError(
            "a system prompt stands before the first message, and this is a later one.",
            hint='Begin another branch with it: "parent_id": null.',
        )
    if before and before[-1].status == "writing":
        raise ConflictError("the answer before this message is still being written.", hint="Wait for it, or stop it.")
    return (before[-1].id if before else None), before


def _drafts(body: Ask) -> tuple[Draft, ...]:
    system = (Draft("system", body.system),) if body.system is not None else ()
    return (*system, Draft("user", body.content))


def _plan(
    state: ServerState,
    conversation: str,
    place: tuple[str | None, list[MessageNode]],
    asked: tuple[Draft, ...],
    body: Again,
    expected: int | None,
) -> Turn:
    serving, (parent, before) = state.slot.serving, place
    steered = resolve(body.steering, serving, state.presets)
    sampling = sampling_of(body.sampling, serving.config)
    messages = [Message(one.role, one.content) for one in before] + [Message(one.role, one.content) for one in asked]
    made = Made(
        model=serving.model_id,
        segments=(Segment(asked=body.steering, applied=steered.echo()),),
        sampling=sampling,
    )
    return Turn(
        conversation,
        parent,
        asked,
        Draft("assistant", "", "writing", made),
        request_of(messages, steered, sampling, logprobs=body.logprobs),
        steered,
        serving,
        expected,
    )


@dataclass(frozen=True)
class Broken:
    """An answer that was not finished: why, and what is kept of it (None: it was deleted, or cannot be stored yet)."""

    error: ApiError
    answer: MessageNode | None


class Reply:
    """An answer that a task writes into its conversation. One reader hears it; when that one leaves, it is stopped."""

    def __init__(self, turn: Turn, answers: Answers, started: Started, writing: Writing) -> None:
        self.started = started
        self._turn, self._answers, self._writing = turn, answers, writing
        self._telling = Telling()
        self._heard: asyncio.Queue[WrittenToken | Finished | Broken] = asyncio.Queue()
        task = asyncio.create_task(self._write())
        _TASKS.add(task)  # the loop itself would not keep it
        task.add_done_callback(_TASKS.discard)

    @classmethod
    async def begin(cls, state: ServerState, turn: Turn) -> Reply:
        """Asks the model, and adds the messages. Nothing is added where the model refuses at once.

        Raises what the model, the store and `Scheduler.submit` raise.
        """
        since = time.monotonic()
        answers = Answers(turn.serving, [turn.request])
        try:
            await answers.arrived(GRACE)
            nodes = await asyncio.to_thread(
                state.conversations.add_messages,
                turn.conversation,
                [*turn.asked, turn.answer],
                parent_id=turn.parent,
                expected=turn.expected,
            )
        except BaseException:
            answers.cancel()
            raise
        by_role = {node.role: node for node in nodes}
        started = Started(
            system=by_role.get("system"),
            user=by_role.get("user"),
            answer=by_role["assistant"],
            steering=turn.steered.echo(),
            traces=turn.steered.traces,
            seed=turn.request.sampling.seed,
        )
        return cls(turn, answers, started, Writing(state.conversations, by_role["assistant"], since=since))

    def leave(self) -> None:
        """Stops the answer at its next token. What there is of it is kept. Harmless once it has ended."""
        self._answers.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    async def next(self, timeout: float | None = None) -> WrittenToken | Finished | Broken | None:
        """What happened next; None when nothing did within `timeout` seconds. Finished or Broken is the last."""
        try:
            return await asyncio.wait_for(self._heard.get(), timeout)
        except TimeoutError:
            return None

    async def whole(self) -> Exchange:
        """All that was added, once the answer has ended. Raises what it broke off with."""
        while True:
            event = await self.next()
            if isinstance(event, Broken):
                raise event.error
            if isinstance(event, Finished):
                return Exchange(system=self.started.system, user=self.started.user, **dict(event))

    async def _write(self) -> None:
        try:
            ended: Finished | Broken = await self._to_the_end()
        except Exception as error:  # a task has nobody else to tell
            ended = await self._broken(error)
        self._heard.put_nowait(ended)

    async def _to_the_end(self) -> Finished:
        with self._answers:
            while True:
                arrived = await self._answers.next()
                assert arrived is not None, "it is waited for without a limit"
                item = arrived[1]
                if isinstance(item, Piece):
                    self._heard.put_nowait(self._telling.tell(item))
                node = await absorb(self._writing, item, queued_s=self._answers.waited())
                if node is not None and isinstance(item, Completion):
                    return Finished(
                        answer=node,
                        steering=self._turn.steered.echo(caps_engaged=item.caps_engaged),
                        usage=usage_of([item]),
                        timings=node.made.timings if node.made else None,
                    )

    async def _broken(self, error: Exception) -> Broken:
        known = error if isinstance(error, PersonaSteeringError) else internal_error()
        said = as_api_error(known)
        if said.status == 500:
            _log.error("the answer %s broke off", self._writing.node.id, exc_info=error)
        return Broken(said, await give_up(self._writing, known, queued_s=self._answers.waited()))
