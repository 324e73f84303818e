"""Answers on their way, for asyncio: pieces come from the thread that writes, and leaving cancels them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from persona_steering.backends.base import Completion, Piece, Request
from persona_steering.errors import NotFoundError, PersonaSteeringError
from persona_steering.interventions import Recipe
from persona_steering.server.model.scheduler import Item, Ticket
from persona_steering.server.model.serving import Serving


class Answers:
    """The answers to several requests, as one stream of (place, item). Use it in a `with` block.

    Leaving the block ends, at its next token, every answer that is still being written.
    """

    def __init__(self, serving: Serving, requests: Sequence[Request]) -> None:
        """Raises as `Scheduler.submit`; then none of the requests stays in the queue."""
        self._items: asyncio.Queue[tuple[int, Item]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._tickets: list[Ticket] = []
        self._unfinished = len(requests)
        self._ahead: tuple[int, Item] | None = None
        try:
            for place, request in enumerate(requests):
                self._tickets.append(serving.submit(request, self._ear(place)))
        except BaseException:
            self.cancel()
            raise

    def _ear(self, place: int) -> Callable[[Item], None]:
        def hear(item: Item) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens any more
                self._loop.call_soon_threadsafe(self._items.put_nowait, (place, item))

        return hear

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Ends what is still being written."""
        for ticket in self._tickets:
            ticket.cancel()

    def waited(self, place: int = 0) -> float | None:
        """Seconds until an answer got its place in the batch; None if it did not (yet)."""
        return self._tickets[place].waited

    def steer(self, recipe: Recipe) -> list[int | None]:
        """Gives all of them another recipe. Returns where each first shows it; None where it has ended before.

        Blocks until the thread that writes has done so. Raises NotFoundError once all have ended, and as
        `Scheduler.steer`.
        """
        places: list[int | None] = []
        for ticket in self._tickets:
            try:
                places.append(ticket.steer(recipe))
            except NotFoundError:
                places.append(None)
        if all(place is None for place in places):
            raise NotFoundError("this answer is not being written.", hint="Ask again with the new recipe.")
        return places

    @property
    def is_done(self) -> bool:
        return self._unfinished == 0

    async def next(self, timeout: float | None = None) -> tuple[int, Piece | Completion] | None:
        """What comes next of any answer; None when nothing came within `timeout` seconds. Raises its error."""
        if self._ahead is None and not await self.arrived(timeout):
            return None
        assert self._ahead is not None
        (place, item), self._ahead = self._ahead, None
        if isinstance(item, PersonaSteeringError):
            raise item
        if isinstance(item, Completion):
            self._unfinished -= 1
        return place, item

    async def arrived(self, timeout: float | None) -> bool:
        """Waits until something can be had by `next`. Raises an error that came instead of the first answer."""
        try:
            self._ahead = await asyncio.wait_for(self._items.get(), timeout)
        except TimeoutError:
            return False
        if isinstance(self._ahead[1], PersonaSteeringError):
            raise self._ahead[1]
        return True

    async def completions(self) -> list[Completion]:
        """All of them, whole, in order. Raises what went wrong with any."""
        found: dict[int, Completion] = {}
        while not self.is_done:
            arrived = await self.next()
            if arrived is not None and isinstance(arrived[1], Completion):
                found[arrived[0]] = arrived[1]
        return [found[place] for place in sorted(found)]
