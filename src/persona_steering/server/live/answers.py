"""Answers that are heard, steered and stopped while they are written, by whoever is connected just then.

All that a generation tells is numbered and kept, so that a client whose connection broke hears what it missed. One
that nobody listens to any more ends after a while, and is forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from persona_steering.backends.base import Completion, Piece
from persona_steering.errors import ConflictError, NotFoundError, PersonaSteeringError, UsageError
from persona_steering.server.answers.answering import Answers
from persona_steering.server.answers.asking import Telling
from persona_steering.server.answers.shapes import usage_of
from persona_steering.server.answers.steering import Steered
from persona_steering.server.answers.writing import Writing, absorb, give_up
from persona_steering.server.errors import ApiError, ErrorBody, ErrorDetail, as_api_error, body_of, internal_error
from persona_steering.server.ids import new_id
from persona_steering.server.limits import LIMITS
from persona_steering.server.schemas.live import (
    LiveDone,
    LiveError,
    LiveToken,
    Queued,
    SteerAck,
    ToldFrame,
)
from persona_steering.server.schemas.steering import SteeringField
from persona_steering.server.stores.conversation_models import MessageNode, Segment, Timings

GENERATION = "gen"  # prefix of identifiers
GRACE = 0.5  # seconds until it is said that an answer waits
KEPT = 64  # generations that have ended and can still be taken up
_log = logging.getLogger("persona_steering.server")


@dataclass
class LiveAnswer:
    """One lane: its answer on the way, what steers it, and the message that it grows in, if any."""

    lane: int
    label: str
    answers: Answers
    applied: Steered
    segments: list[Segment]
    writing: Writing | None = None
    since: float = field(default_factory=time.monotonic)
    first: float | None = None
    ended: bool = False
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)  # so that an answer ends with all that steered it

    async def steer(self, asked: SteeringField | None, applied: Steered) -> int:
        """Gives it another recipe; returns the first token that it has a say in. Raises as `Answers.steer`."""
        async with self.changing:
            place = (await asyncio.to_thread(self.answers.steer, applied.recipe))[0]
            assert place is not None, "where the only answer has ended, an error is raised"
            self._note(place, asked, applied)
        return place

    def _note(self, place: int, asked: SteeringField | None, applied: Steered) -> None:
        self.applied = applied
        segment = Segment(from_token=place, asked=asked, applied=applied.echo())
        self.segments = [*(one for one in self.segments if one.from_token != place), segment]
        if self.writing is not None:
            self.writing.steer(segment)

    def timings(self) -> Timings:
        """So far."""
        return Timings(queued_s=self.answers.waited(), first_token_s=self.first, total_s=time.monotonic() - self.since)


class Generation:
    """The answers of one `generate`, and all that was told of them. For the event loop."""

    def __init__(self, lanes: Sequence[LiveAnswer]) -> None:
        self.id = new_id(GENERATION)
        self.readers = 0
        self._lanes = lanes
        self._told: list[ToldFrame] = []
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, waiting: Callable[[], int]) -> None:
        """Hears the answers from now on; `waiting` says how many wait for a place in the batch."""
        self._tasks = [asyncio.create_task(self._hear(lane)) for lane in self._lanes]
        self._tasks.append(asyncio.create_task(self._say_queued(waiting)))

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is told."""
        return all(lane.ended for lane in self._lanes)

    @property
    def next_seq(self) -> int:
        """The number of the next frame."""
        return len(self._told) + 1

    def tell(self, frame: ToldFrame) -> None:
        """Keeps a frame of the next number, and wakes who listens."""
        self._told.append(frame)
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def follow(self, after: int) -> AsyncIterator[ToldFrame]:
        """What was told after a number, then what is told, until all answers have ended."""
        while True:
            while after < len(self._told):
                after += 1
                yield self._told[after - 1]
            if self.has_ended:
                return
            await self._news.wait()

    def running(self, lane: int | None) -> list[LiveAnswer]:
        """A lane, or all that are being written. Raises UsageError for none of this generation, ConflictError."""
        if lane is not None and lane >= len(self._lanes):
            raise UsageError(f"there is no lane {lane}.", hint=f"They are 0 to {len(self._lanes) - 1}.")
        found = [one for one in self._lanes if not one.ended and lane in (None, one.lane)]
        if not found:
            raise ConflictError("the answer has ended.", hint="Ask again.")
        return found

    async def steer(
        self, frame_id: str | None, lane: int | None, asked: SteeringField | None, applied: Steered
    ) -> None:
        """Gives one or all of the answers another recipe, and tells from which token. Raises as `running`."""
        if applied.readings:
            raise UsageError("what is traced cannot be changed in the middle.", hint="Leave trace out.")
        steered = 0
        for one in self.running(lane):
            try:
                place = await one.steer(asked, applied)
            except NotFoundError:  # it has just ended
                continue
            steered += 1
            self.tell(
                SteerAck(
                    id=frame_id,
                    generation=self.id,
                    seq=self.next_seq,
                    lane=one.lane,
                    from_token=place,
                    steering=applied.echo(),
                )
            )
        if not steered:
            raise ConflictError("the answer has ended.", hint="Ask again.")

    def stop(self, lane: int | None = None) -> None:
        """Ends one or all of them at the next token. Raises as `running`."""
        for one in self.running(lane):
            one.answers.cancel()

    async def _say_queued(self, waiting: Callable[[], int]) -> None:
        await asyncio.sleep(GRACE)
        if any(not lane.ended and lane.answers.waited() is None for lane in self._lanes):
            self.tell(Queued(generation=self.id, seq=self.next_seq, waiting=waiting()))

    async def _hear(self, lane: LiveAnswer) -> None:
        telling = Telling(lane.lane)
        try:
            with lane.answers:
                while not lane.ended and (arrived := await lane.answers.next()) is not None:
                    if isinstance(arrived[1], Completion):
                        async with lane.changing:
                            await self._end(lane, arrived[1])
                    else:
                        await self._took(lane, telling, arrived[1])
        except Exception as error:  # a task has nobody else to tell
            await self._broke(lane, error)

    async def _took(self, lane: LiveAnswer, telling: Telling, piece: Piece) -> None:
        if piece.tokens and lane.first is None:
            lane.first = time.monotonic() - lane.since
        self.tell(LiveToken(generation=self.id, seq=self.next_seq, **dict(telling.tell(piece))))
        if lane.writing is not None:
            await absorb(lane.writing, piece)

    async def _end(self, lane: LiveAnswer, done: Completion) -> None:
        node = None
        if lane.writing is not None:
            node = await absorb(lane.writing, done, queued_s=lane.answers.waited())
        lane.ended = True
        self.tell(self._done(lane, done, node))

    def _done(self, lane: LiveAnswer, done: Completion, node: MessageNode | None) -> LiveDone:
        return LiveDone(
            generation=self.id,
            seq=self.next_seq,
            lane=lane.lane,
            content=done.text,
            finish_reason=done.finish_reason,
            usage=usage_of([done]),
            timings=lane.timings(),
            steering=lane.applied.echo(caps_engaged=done.caps_engaged),
            segments=lane.segments,
            answer=node,
        )

    async def _broke(self, lane: LiveAnswer, error: Exception) -> None:
        known = error if isinstance(error, PersonaSteeringError) else internal_error()
        said = as_api_error(known)
        if said.status == 500:
            _log.error("lane %s of %s broke off", lane.lane, self.id, exc_info=error)
        node = None
        if lane.writing is not None:
            node = await give_up(lane.writing, known, queued_s=lane.answers.waited())
        lane.ended = True
        self.tell(LiveError(generation=self.id, seq=self.next_seq, lane=lane.lane, error=detail_of(said), answer=node))


class LiveAnswers:
    """The generations of a server by id. Use it on the event loop."""

    def __init__(self, *, patience: float = LIMITS.resume_seconds) -> None:
        self._patience = patience
        self._found: dict[str, Generation] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}

    def add(self, generation: Generation) -> None:
        """Lets it be found. Of those that have ended the oldest are forgotten."""
        ended = [one for one in self._found.values() if one.has_ended and not one.readers]
        for one in ended[: max(0, len(ended) - KEPT + 1)]:
            self._forget(one)
        self._found[generation.id] = generation

    def get(self, identifier: str) -> Generation:
        """Raises ApiError 404 for one that is not there (any more)."""
        if identifier in self._found:
            return self._found[identifier]
        raise ApiError(
            404,
            "not_found_error",
            "generation_not_found",
            f"there is no generation {identifier!r}.",
            param="generation",
            hint=f"One can be taken up for {self._patience:g} seconds after its connection broke.",
        )

    def join(self, generation: Generation) -> None:
        """Somebody listens to it."""
        generation.readers += 1
        if (timer := self._leaving.pop(generation.id, None)) is not None:
            timer.cancel()

    def leave(self, generation: Generation) -> None:
        """Somebody does no longer. It ends when nobody comes back in time."""
        generation.readers -= 1
        if not generation.readers:
            loop = asyncio.get_running_loop()
            self._leaving[generation.id] = loop.call_later(self._patience, self._forget, generation)

    def _forget(self, generation: Generation) -> None:
        self._found.pop(generation.id, None)
        if (timer := self._leaving.pop(generation.id, None)) is not None:
            timer.cancel()
        if not generation.has_ended:
            generation.stop()

    @property
    def count(self) -> int:
        """How many can be found."""
        return len(self._found)


def detail_of(error: ApiError) -> ErrorDetail:
    """An error as frames carry it."""
    return ErrorBody.model_validate(body_of(error)).error
