"""The one thread that owns the model: all answers that are asked for are written in one live batch.

A request waits until there is room, joins between two tokens, and leaves when it ends, is cancelled or is too late.
What one row does cannot be told by another. Jobs take turns beside them (see `lane`).
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from persona_steering.backends.base import Arrival, Backend, Completion, LiveBatch, Piece, Request
from persona_steering.errors import BusyError, CancelledError, ModelError, NotFoundError, PersonaSteeringError
from persona_steering.interventions import Recipe
from persona_steering.server.limits import LIMITS

Item = Piece | Completion | PersonaSteeringError
ROWS = LIMITS.rows
WAITING = LIMITS.waiting
PATIENCE = 5.0  # seconds that a job's batch waits for chats to end before it goes on beside them
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the model is: answers being written and waiting, and totals since the start."""

    writing: int
    waiting: int
    answers: int
    tokens: int


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What an answer came to, for those who count. Seconds are since it was asked for; `first_seconds` of no token
    is None. `ending` is the reason for which it ended, or "error"."""

    steered: bool
    ending: str
    tokens: int
    caps_engaged: int
    first_seconds: float | None
    seconds: float


@dataclass(eq=False)
class Ticket:
    """An answer on its way. Iterate it for pieces of text and the Completion last, or give `hear` to `submit`."""

    key: int
    request: Request
    deadline: float | None
    _scheduler: Scheduler
    _hear: Callable[[Item], None] | None = None
    waited: float | None = None  # seconds until it got its place; None while it waits
    _items: queue.SimpleQueue[Item] = field(default_factory=queue.SimpleQueue)
    asked: float = field(default_factory=time.monotonic)
    first: float | None = None  # when its first token came
    written: int = 0  # tokens

    def __iter__(self) -> Iterator[str | Completion]:
        """Raises what went wrong with this answer."""
        while True:
            item = self._items.get()
            if isinstance(item, PersonaSteeringError):
                raise item
            if isinstance(item, Completion):
                yield item
                return
            if item.text:
                yield item.text

    def cancel(self) -> None:
        """Ends the answer at the next token. Harmless once it has ended."""
        self._scheduler.cancel(self)

    def steer(self, recipe: Recipe) -> int:
        """Gives the answer another recipe; returns the place of the first token that it has a say in.

        Raises: NotFoundError once the answer has ended; what the backend says of the recipe.
        """
        return self._scheduler.steer(self, recipe)

    def place(self) -> None:
        """Notes that it waits no longer."""
        self.waited = time.monotonic() - self.asked

    def facts(self, end: Completion | PersonaSteeringError) -> AnswerFacts:
        """What it has come to."""
        done = end if isinstance(end, Completion) else None
        return AnswerFacts(
            steered=bool(self.request.recipe),
            ending=done.finish_reason if done else "error",
            tokens=self.written,
            caps_engaged=done.caps_engaged if done else 0,
            first_seconds=None if self.first is None else self.first - self.asked,
            seconds=time.monotonic() - self.asked,
        )

    def give(self, item: Item) -> None:
        """Hands an item to whoever waits for it."""
        if self._hear is not None:
            self._hear(item)
        else:
            self._items.put(item)


def stopping() -> PersonaSteeringError:
    """What is said to those whose answers end because the server does."""
    return CancelledError("the server is shutting down.")


class Scheduler:
    """Writes answers for any number of threads. Start it by `start`, end it by `close`.

    `on_end` is called with what each answer has come to, mostly in the thread that writes.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        rows: int = ROWS,
        waiting: int = WAITING,
        patience: float = PATIENCE,
        on_end: Callable[[AnswerFacts], None] = lambda facts: None,
    ) -> None:
        self._on_end, self._because = on_end, stopping
        self._backend, self._rows, self._most, self._patience = backend, rows, waiting, patience
        self._keys = itertools.count()
        self._waiting: deque[Ticket] = deque()
        self._writing: dict[int, Ticket] = {}
        self._orders: deque[Callable[[LiveBatch], None]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._answers = self._tokens = 0
        self._jobs = threading.Lock()  # one job's batch at a time
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def close(self, timeout: float | None = None, *, because: Callable[[], PersonaSteeringError] = stopping) -> None:
        """Ends every answer with the error that `because` makes, refuses new ones alike, and waits for the thread."""
        with self._changed:
            if not self._closing:
                self._closing, self._because = True, because
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    @property
    def load(self) -> Load:
        """A snapshot."""
        with self._changed:
            return Load(len(self._writing), len(self._waiting), self._answers, self._tokens)

    def submit(
        self, request: Request, *, timeout: float | None = None, hear: Callable[[Item], None] | None = None
    ) -> Ticket:
        """Queues a request. `timeout` in seconds ends its answer as it then stands; `hear` gets the items instead.

        Raises: BusyError when too many wait, CancelledError once closed, and what `Backend.check` raises.
        """
        with self._changed:
            self._check_open()
        self._backend.check(request)
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._check_open()
            # those that are about to get a place do not count as waiting
            if len(self._writing) + len(self._waiting) >= self._rows + self._most:
                raise BusyError(f"{self._most} requests are waiting already.", hint="Try again in a moment.")
            ticket = Ticket(next(self._keys), request, deadline, self, hear)
            self._waiting.append(ticket)
            self._changed.notify_all()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """See Ticket.cancel."""
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                self._give_last(ticket, _nothing(ticket.request))
            elif ticket.key in self._writing:
                self._orders.append(lambda batch: self._stop(batch, ticket.key))
                self._changed.notify_all()

    def steer(self, ticket: Ticket, recipe: Recipe) -> int:
        """See Ticket.steer."""
        self._backend.check(replace(ticket.request, recipe=recipe))
        place: Future[int] = Future()

        def order(batch: LiveBatch) -> None:
            try:
                place.set_result(batch.steer(ticket.key, recipe))
            except Exception as error:  # somebody waits for this
                place.set_exception(_said(error))

        with self._changed:
            if ticket in self._waiting:
                ticket.request = replace(ticket.request, recipe=recipe)
                return 0
            if ticket.key not in self._writing:
                raise NotFoundError("this answer is not being written.", hint="Ask again with the new recipe.")
            self._orders.append(order)
            self._changed.notify_all()
        return place.result()

    def _check_open(self) -> None:
        if self._closing:
            raise self._because()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The model for one batch of a job, once no chat is writing, or after the scheduler's patience beside them."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._writing or self._waiting), self._patience)
        with self._jobs:
            yield

    def _run(self) -> None:
        batch: LiveBatch | None = self._backend.live()
        while batch is not None:
            batch = self._round(batch)

    def _round(self, batch: LiveBatch) -> LiveBatch | None:
        """One token of every answer. The batch to go on with; None in the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._waiting or self._writing or self._orders)
            if self._closing:
                self._end(batch)
                return None
            room = max(0, self._rows - len(self._writing))
            new = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
            self._writing |= {ticket.key: ticket for ticket in new}
            for ticket in new:
                ticket.place()
            orders = list(self._orders)
            self._orders.clear()
            late = [t.key for t in self._writing.values() if t.deadline is not None and t.deadline < time.monotonic()]
        try:
            self._admit(batch, new)
            for order in orders:
                order(batch)
            for key in late:
                self._stop(batch, key)
            self._deliver(batch.advance())
        except Exception as error:  # the thread has to live on, whatever the model's library raises
            self._shed(_said(error))
            return self._backend.live()
        return batch

    def _admit(self, batch: LiveBatch, new: list[Ticket]) -> None:
        """All at once, so that prompts are computed together; one by one where one of them is refused."""
        try:
            if new:
                batch.admit([Arrival(ticket.key, ticket.request) for ticket in new])
        except Exception as error:  # a newcomer that breaks the library breaks nobody else's answer
            if len(new) == 1:
                self._leave(new[0], _said(error))
                return
            for ticket in new:
                self._admit(batch, [ticket])

    def _deliver(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            ticket = self._writing[piece.key]
            self._tokens += len(piece.tokens)
            ticket.written += len(piece.tokens)
            if piece.tokens and ticket.first is None:
                ticket.first = time.monotonic()
            ticket.give(piece)
            if piece.completion is not None:
                self._leave(ticket, piece.error or piece.completion)

    def _leave(self, ticket: Ticket, item: Completion | PersonaSteeringError) -> None:
        with self._changed:
            del self._writing[ticket.key]
            self._answers += 1
            self._changed.notify_all()
        self._give_last(ticket, item)

    def _give_last(self, ticket: Ticket, item: Completion | PersonaSteeringError) -> None:
        self._on_end(ticket.facts(item))
        ticket.give(item)

    def _stop(self, batch: LiveBatch, key: int) -> None:
        if key in self._writing:
            batch.stop(key)

    def _shed(self, error: PersonaSteeringError) -> None:
        """Whatever broke the batch is said to everybody in it; those who wait are served by the next."""
        for ticket in list(self._writing.values()):
            self._leave(ticket, error)

    def _end(self, batch: LiveBatch) -> None:
        for order in self._orders:
            order(batch)
        for ticket in [*self._writing.values(), *self._waiting]:
            self._give_last(ticket, self._because())
        self._writing.clear()
        self._waiting.clear()


def _said(error: Exception) -> PersonaSteeringError:
    """What went wrong, for whoever waits for an answer."""
    if isinstance(error, PersonaSteeringError):
        return error
    _log.error("the model failed", exc_info=error)
    return ModelError(f"the model failed with {type(error).__name__}.", hint="See the log, and try again.")


def _nothing(request: Request) -> Completion:
    return Completion("", (), "cancelled", 0, request.recipe.hash)
