"""One conversation answered in several ways at once, with one seed: nothing but the steering, or the system prompt,
makes the difference. Nothing of it is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from persona_steering.backends.base import Completion, Message, Piece, Request
from persona_steering.errors import UsageError
from persona_steering.server.answers.answering import Answers
from persona_steering.server.answers.asking import Telling, request_of, sampling_of
from persona_steering.server.answers.shapes import usage_of
from persona_steering.server.answers.steering import Steered, resolve
from persona_steering.server.model.serving import Serving
from persona_steering.server.schemas.conversations import (
    Compared,
    Comparison,
    Lane,
    LaneAnswer,
    PastMessage,
    StartedLane,
    StartedLanes,
    WrittenToken,
)
from persona_steering.server.state import ServerState
from persona_steering.server.stores.conversation_models import Timings


@dataclass(frozen=True)
class PlannedLanes:
    """What every lane asks of the model."""

    labels: tuple[str, ...]
    requests: tuple[Request, ...]
    steered: tuple[Steered, ...]
    serving: Serving


def plan_lanes(state: ServerState, body: Comparison) -> PlannedLanes:
    """Raises ApiError, and errors of the tree for what does not fit."""
    if body.messages[-1].role != "user":
        raise UsageError("the last message is no question.", hint="End with a message of the user.")
    serving = state.slot.serving
    sampling = sampling_of(body.sampling, serving.config)  # once: a seed that is drawn is the same for all
    steered = tuple(resolve(lane.steering, serving, state.presets) for lane in body.lanes)
    requests = tuple(
        request_of(messages_of(body.messages, lane), found, sampling, logprobs=body.logprobs)
        for lane, found in zip(body.lanes, steered, strict=True)
    )
    return PlannedLanes(tuple(lane.label for lane in body.lanes), requests, steered, serving)


def messages_of(past: Sequence[PastMessage], lane: Lane) -> list[Message]:
    """What a lane is asked: its own system prompt stands in the place of the one that was sent along."""
    given = [Message(one.role, one.content) for one in past]
    if lane.system is None:
        return given
    return [Message("system", lane.system), *(message for message in given if message.role != "system")]


class Lanes:
    """The answers of all lanes on their way, from one batch. Use it in a `with` block: leaving it ends them."""

    def __init__(self, planned: PlannedLanes) -> None:
        """Raises as `Answers`."""
        self._planned, self._since = planned, time.monotonic()
        count = len(planned.requests)
        self._telling = [Telling(lane) for lane in range(count)]
        self._first: list[float | None] = [None] * count
        self._answers = Answers(planned.serving, planned.requests)

    @property
    def started(self) -> StartedLanes:
        """What each lane is answered with."""
        pairs = enumerate(zip(self._planned.labels, self._planned.steered, strict=True))
        lanes = [
            StartedLane(lane=i, label=label, steering=steered.echo(), traces=steered.traces)
            for i, (label, steered) in pairs
        ]
        return StartedLanes(lanes=lanes, seed=self._planned.requests[0].sampling.seed)

    @property
    def is_done(self) -> bool:
        return self._answers.is_done

    async def arrived(self, timeout: float) -> None:
        """Waits for the first thing to come. Raises what the model refuses at once."""
        await self._answers.arrived(timeout)

    async def next(self, timeout: float | None = None) -> WrittenToken | LaneAnswer | None:
        """What happened next in any lane; None when nothing did within `timeout` seconds. Raises what went wrong."""
        arrived = await self._answers.next(timeout)
        if arrived is None:
            return None
        lane, item = arrived
        if isinstance(item, Completion):
            return self._answer(lane, item)
        return self._token(lane, item)

    async def whole(self) -> Compared:
        """All answers, once they have ended. Raises what went wrong with any."""
        found: list[LaneAnswer] = []
        while not self.is_done:
            event = await self.next()
            if isinstance(event, LaneAnswer):
                found.append(event)
        return Compared(lanes=sorted(found, key=lambda one: one.lane), seed=self.started.seed)

    def cancel(self) -> None:
        """Ends, at its next token, every answer that is still being written."""
        self._answers.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def _token(self, lane: int, piece: Piece) -> WrittenToken:
        if piece.tokens and self._first[lane] is None:
            self._first[lane] = time.monotonic() - self._since
        return self._telling[lane].tell(piece)

    def _answer(self, lane: int, done: Completion) -> LaneAnswer:
        return LaneAnswer(
            lane=lane,
            label=self._planned.labels[lane],
            content=done.text,
            finish_reason=done.finish_reason,
            steering=self._planned.steered[lane].echo(caps_engaged=done.caps_engaged),
            usage=usage_of([done]),
            timings=Timings(
                queued_s=self._answers.waited(lane),
                first_token_s=self._first[lane],
                total_s=time.monotonic() - self._since,
            ),
        )
