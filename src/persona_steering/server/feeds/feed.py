"""News of the server for readers on its event loop: what changed, so that nobody has to ask again and again.

What happens in jobs is read from the database, by each reader at its own pace: a slow one holds nobody up and misses
nothing. The other news say what is to be read again, and are kept for a reader only while it is connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from types import TracebackType
from typing import Literal, Self

from pydantic import Field

from persona_steering.server.errors import ApiError
from persona_steering.server.jobs.kinds import Change
from persona_steering.server.limits import LIMITS
from persona_steering.server.model.slot import SlotStatus
from persona_steering.vectors.values import Closed

MAX_UNREAD = 256  # news; a reader that has more of them before it is let go, and comes back
RETRY_AFTER = 5  # seconds


class LibraryChange(Closed):
    """A vector was made, changed or deleted; without a name, several may have been."""

    kind: Literal["persona", "trait", "axis", "preset"] | None = None
    name: str | None = None
    change: Change


class ConversationChange(Closed):
    """A conversation, or a message in it."""

    id: str
    change: Change
    message_id: str | None = Field(default=None, description="null: the conversation itself")


News = SlotStatus | LibraryChange | ConversationChange


class Subscription:
    """One reader's place. Use it in a `with` block; afterwards it hears nothing more."""

    def __init__(self, feed: Feed) -> None:
        self._feed, self._loop = feed, asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._unread: deque[News] = deque()

    async def wait(self, timeout: float) -> bool:
        """Waits until something may have happened since the last `take`; False after `timeout` seconds of silence."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), timeout)
        return self._rung.is_set()

    def take(self) -> list[News]:
        """The news, which are then read. Whatever comes from now on rings again."""
        self._rung.clear()
        news = list(self._unread)
        self._unread.clear()
        return news

    @property
    def ended(self) -> bool:
        """Whether the reader is to go: the server stops, or too much lies unread."""
        return self._feed.closed or len(self._unread) > MAX_UNREAD

    def ring(self, news: News | None = None) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens any more
            self._loop.call_soon_threadsafe(self._heard, news)

    def _heard(self, news: News | None) -> None:
        if news is not None and len(self._unread) <= MAX_UNREAD:
            self._unread.append(news)
        self._rung.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._feed.leave(self)


class Feed:
    """Tells its subscribers. Any thread may tell; subscribing is for the event loop."""

    def __init__(self, *, most: int = LIMITS.feeds) -> None:
        self._most = most
        self._readers: set[Subscription] = set()
        self._lock = threading.Lock()
        self.closed = False

    def subscribe(self) -> Subscription:
        """A place for one reader. Raises ApiError 429 when all are taken, 503 once closed."""
        reader = Subscription(self)
        with self._lock:
            if self.closed:
                raise ApiError(503, "server_error", "shutting_down", "the server is shutting down.")
            if len(self._readers) >= self._most:
                raise ApiError(
                    429,
                    "rate_limit_error",
                    "too_many_streams",
                    f"{self._most} clients are listening already.",
                    hint="Close a page, or ask again in a while.",
                    headers={"retry-after": str(RETRY_AFTER)},
                )
            self._readers.add(reader)
        return reader

    def leave(self, reader: Subscription) -> None:
        """Frees the place. Harmless once it is free."""
        with self._lock:
            self._readers.discard(reader)

    def tell(self, news: News | None = None) -> None:
        """Tells everybody. Without news: look at the jobs."""
        with self._lock:
            readers = list(self._readers)
        for reader in readers:
            reader.ring(news)

    def close(self) -> None:
        """Lets every reader go, and takes no new one."""
        self.closed = True
        self.tell()

    @property
    def readers(self) -> int:
        """How many places are taken."""
        with self._lock:
            return len(self._readers)
