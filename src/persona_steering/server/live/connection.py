"""One connection of the live WebSocket: frames come in, frames go out, and a generation is heard meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from persona_steering.backends.base import Message, Request
from persona_steering.errors import ConflictError, PersonaSteeringError, UsageError
from persona_steering.server.answers.answering import Answers
from persona_steering.server.answers.asking import request_of, sampling_of
from persona_steering.server.answers.conversing import Turn, plan_answer, plan_message
from persona_steering.server.answers.lanes import messages_of
from persona_steering.server.answers.steering import Steered, resolve
from persona_steering.server.answers.writing import Writing
from persona_steering.server.errors import as_api_error
from persona_steering.server.live.answers import GRACE, Generation, LiveAnswer, detail_of
from persona_steering.server.model.serving import Serving
from persona_steering.server.schemas.conversations import Again, Ask
from persona_steering.server.schemas.live import (
    Frame,
    Generate,
    Hello,
    LiveError,
    LiveLane,
    LiveRequest,
    LiveStarted,
    LiveTurn,
    Ping,
    Pong,
    Resume,
    Steer,
    Stop,
    Welcome,
)
from persona_steering.server.state import ServerState
from persona_steering.server.stores.conversation_models import ConversationEdit, Draft, Made, MessageNode, Segment

Send = Callable[[Frame], Awaitable[None]]


@dataclass(frozen=True)
class Planned:
    """A generation before anything of it is asked or kept. `turn` is its place in a conversation, if it has one."""

    asked: Generate
    requests: tuple[Request, ...]
    steered: tuple[Steered, ...]
    serving: Serving
    turn: Turn | None = None


def plan(state: ServerState, asked: Generate) -> Planned:
    """What every lane asks of the model. Raises ApiError, and errors of the tree for what does not fit."""
    serving = state.slot.serving
    if asked.messages and asked.messages[-1].role != "user":
        raise UsageError("the last message is no question.", hint="End with a message of the user.")
    steered = tuple(resolve(lane.steering, serving, state.presets) for lane in asked.lanes)
    turn = None if asked.conversation is None else _turn(state, asked, asked.conversation)
    sampling = sampling_of(asked.sampling, serving.config) if turn is None else turn.request.sampling
    requests = []
    for lane, found in zip(asked.lanes, steered, strict=True):
        messages: list[Message] = list(turn.request.messages) if turn else messages_of(asked.messages or [], lane)
        requests.append(request_of(messages, found, sampling, logprobs=asked.logprobs))
    return Planned(asked, tuple(requests), steered, serving, turn)


def _turn(state: ServerState, asked: Generate, place: LiveTurn) -> Turn:
    again = Again(steering=asked.lanes[0].steering, sampling=asked.sampling, logprobs=asked.logprobs)
    if place.answer_to is not None:
        return plan_answer(state, place.conversation_id, place.answer_to, again)
    given = place.model_dump(include={"content", "system", "parent_id"}, exclude_unset=True)
    return plan_message(state, place.conversation_id, Ask(**given, **dict(again)))


async def begin(state: ServerState, planned: Planned) -> Generation:
    """Asks the model, keeps what is to be kept, and hears the answers. Nothing is kept where it refuses at once.

    Raises what the model, the store and `Scheduler.submit` raise.
    """
    answers: list[Answers] = []
    try:
        for request in planned.requests:
            answers.append(Answers(planned.serving, [request]))
        await answers[0].arrived(GRACE)
        asked, kept = await asyncio.to_thread(_keep, state, planned)
    except BaseException:
        for one in answers:
            one.cancel()
        raise
    lanes = [
        LiveAnswer(
            lane=number,
            label=planned.asked.lanes[number].label,
            answers=one,
            applied=planned.steered[number],
            segments=[_segment(planned, number)],
            writing=Writing(state.conversations, kept[number]) if kept else None,
        )
        for number, one in enumerate(answers)
    ]
    generation = Generation(lanes)
    generation.tell(_started(generation, planned, asked, kept))
    generation.begin(lambda: planned.serving.scheduler.load.waiting)
    state.live.add(generation)
    return generation


def _segment(planned: Planned, number: int) -> Segment:
    return Segment(asked=planned.asked.lanes[number].steering, applied=planned.steered[number].echo())


def _keep(state: ServerState, planned: Planned) -> tuple[list[MessageNode], list[MessageNode]]:
    """Adds the question where it is new, and every lane's answer below it; the first lane's is shown."""
    turn = planned.turn
    if turn is None:
        return [], []
    drafts = [_draft(planned, number) for number in range(len(planned.requests))]
    first = state.conversations.add_messages(turn.conversation, [*turn.asked, drafts[0]], parent_id=turn.parent)
    asked, answer = first[:-1], first[-1]
    others = [
        state.conversations.add_messages(turn.conversation, [draft], parent_id=answer.parent_id)[0]
        for draft in drafts[1:]
    ]
    if others:
        state.conversations.change(turn.conversation, ConversationEdit(leaf_id=answer.id))
    return asked, [answer, *others]


def _draft(planned: Planned, number: int) -> Draft:
    made = Made(
        model=planned.serving.model_id,
        segments=(_segment(planned, number),),
        sampling=planned.requests[number].sampling,
    )
    return Draft("assistant", "", "writing", made)


def _started(
    generation: Generation, planned: Planned, asked: list[MessageNode], kept: list[MessageNode]
) -> LiveStarted:
    by_role = {node.role: node for node in asked}
    lanes = [
        LiveLane(
            lane=number,
            label=lane.label,
            steering=steered.echo(),
            traces=steered.traces,
            answer=kept[number] if kept else None,
        )
        for number, (lane, steered) in enumerate(zip(planned.asked.lanes, planned.steered, strict=True))
    ]
    return LiveStarted(
        id=planned.asked.id,
        generation=generation.id,
        seq=generation.next_seq,
        lanes=lanes,
        seed=planned.requests[0].sampling.seed,
        system=by_role.get("system"),
        user=by_role.get("user"),
    )


class Session:
    """A connection. Use it in an `async with` block: leaving it lets go of the generation, which can be resumed."""

    def __init__(self, state: ServerState, send: Send) -> None:
        self._state, self._send = state, send
        self._sending = asyncio.Lock()
        self._generation: Generation | None = None
        self._following: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether there is more to be told."""
        return self._following is not None and not self._following.done()

    async def take(self, frame: LiveRequest) -> None:
        """Does what a frame asks for; what cannot be done is said in a frame."""
        said = frame.root
        try:
            if isinstance(said, Generate):
                await self._generate(said)
            elif isinstance(said, Resume):
                self._follow(self._state.live.get(said.generation), said.after)
            elif isinstance(said, Steer):
                await self._steer(said)
            elif isinstance(said, Stop):
                self._current().stop(said.lane)
            else:
                await self.tell(self._answer(said))
        except PersonaSteeringError as error:
            await self.refuse(error, said.id)

    async def refuse(self, error: PersonaSteeringError, frame_id: str | None = None) -> None:
        """Says what is wrong with a frame."""
        await self.tell(LiveError(id=frame_id, error=detail_of(as_api_error(error))))

    async def tell(self, frame: Frame) -> None:
        """Sends a frame; one at a time."""
        async with self._sending:
            await self._send(frame)

    def _answer(self, said: Hello | Ping) -> Frame:
        if isinstance(said, Ping):
            return Pong(id=said.id)
        status = self._state.slot.status
        return Welcome(id=said.id, model=status.model if status.state == "ready" else None)

    async def _generate(self, asked: Generate) -> None:
        self._check_free()
        planned = await asyncio.to_thread(plan, self._state, asked)
        self._follow(await begin(self._state, planned), 0)

    async def _steer(self, asked: Steer) -> None:
        generation = self._current()
        steered = await asyncio.to_thread(resolve, asked.steering, self._state.slot.serving, self._state.presets)
        await generation.steer(asked.id, asked.lane, asked.steering, steered)

    def _current(self) -> Generation:
        if self._generation is None:
            raise UsageError("nothing is being written on this connection.", hint="Send generate, or resume.")
        return self._generation

    def _check_free(self) -> None:
        if self.is_busy:
            raise ConflictError("an answer is being written on this connection.", hint="Stop it first, or wait.")

    def _follow(self, generation: Generation, after: int) -> None:
        self._check_free()
        self._let_go()
        self._generation = generation
        self._state.live.join(generation)
        self._following = asyncio.create_task(self._pass_on(generation, after))

    async def _pass_on(self, generation: Generation, after: int) -> None:
        async for told in generation.follow(after):
            await self.tell(told)

    def _let_go(self) -> None:
        if self._generation is not None:
            self._state.live.leave(self._generation)
            self._generation = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        self._let_go()
