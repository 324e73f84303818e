"""An answer that grows in the store while it is written, so that a reload, or a crash, finds what there was of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from persona_steering.backends.base import Completion, Piece
from persona_steering.errors import CancelledError, HeldError, PersonaSteeringError, StorageError
from persona_steering.server.errors import as_api_error
from persona_steering.server.stores.conversation_models import MessageNode, MessageStatus, Segment, Timings
from persona_steering.server.stores.conversations import ConversationStore

EVERY = 0.5  # seconds between two times that a growing answer is stored
AGAIN = 1.0  # seconds between two attempts to store an end that the disk refuses
_TASKS: set[asyncio.Task[None]] = set()


class Writing:
    """One answer on its way into a conversation, for one thread or task at a time.

    `node` must have been stored with the status "writing" and what is known of how it is made. `since` is when the
    answer was asked for, on `clock`. What stores raises NotFoundError when the message was deleted meanwhile.
    """

    def __init__(
        self,
        store: ConversationStore,
        node: MessageNode,
        *,
        since: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert node.made is not None, "an answer says how it is made"
        self._store, self._clock = store, clock
        self._since = clock() if since is None else since
        self._node, self._made = node, node.made
        self._pieces: list[str] = [node.content]
        self._tokens = 0
        self._first: float | None = None
        self._stored = clock()

    @property
    def node(self) -> MessageNode:
        """The message as far as it has come."""
        made = self._made.model_copy(update={"tokens": self._tokens})
        return self._node.model_copy(update={"content": "".join(self._pieces), "made": made})

    def take(self, piece: Piece) -> None:
        """Adds what one step has written. Nothing is stored."""
        if piece.tokens and self._first is None:
            self._first = self._clock() - self._since
        self._tokens += len(piece.tokens)
        self._pieces.append(piece.text)

    def steer(self, segment: Segment) -> None:
        """Notes what steers from now on; `segment` says from which token. It replaces one of the same token."""
        kept = tuple(one for one in self._made.segments if one.from_token != segment.from_token)
        self._made = self._made.model_copy(update={"segments": (*kept, segment)})

    @property
    def is_due(self) -> bool:
        """Whether it is time to store again."""
        return self._clock() - self._stored >= EVERY

    def store(self) -> None:
        """Stores what there is. Raises as the store."""
        now = self.node
        self._store.update_writing(now.id, now.content, made=now.made)
        self._stored = self._clock()

    def finish(self, done: Completion, *, queued_s: float | None = None) -> MessageNode:
        """Stores the end: complete, or stopped where it was cancelled or came too late. Raises as the store."""
        self._made = self._made.model_copy(
            update={
                "finish_reason": done.finish_reason,
                "prompt_tokens": done.prompt_tokens,
                "caps_engaged": done.caps_engaged,
                "timings": self._timings(queued_s),
            }
        )
        self._pieces, self._tokens = [done.text], len(done.token_ids)
        return self._end("stopped" if done.finish_reason == "cancelled" else "complete")

    def fail(self, error: PersonaSteeringError, *, queued_s: float | None = None) -> MessageNode:
        """Stores what there is with the reason why there is no more. Raises as the store."""
        timings = self._made.timings or self._timings(queued_s)  # it is perhaps not the first attempt
        said = {"error": str(as_api_error(error)), "timings": timings}
        self._made = self._made.model_copy(update=said)
        return self._end("interrupted" if isinstance(error, CancelledError) else "failed")

    def _end(self, status: MessageStatus) -> MessageNode:
        now = self.node
        self._node = self._store.update_writing(now.id, now.content, status=status, made=now.made)
        return self._node

    def _timings(self, queued_s: float | None) -> Timings:
        return Timings(queued_s=queued_s, first_token_s=self._first, total_s=self._clock() - self._since)


async def absorb(writing: Writing, item: Piece | Completion, *, queued_s: float | None = None) -> MessageNode | None:
    """Takes what has come of an answer, and stores it where it is time to; the message once it has ended."""
    if isinstance(item, Completion):
        return await asyncio.to_thread(writing.finish, item, queued_s=queued_s)
    writing.take(item)
    if writing.is_due:
        await asyncio.to_thread(writing.store)
    return None


async def give_up(
    writing: Writing, error: PersonaSteeringError, *, queued_s: float | None = None
) -> MessageNode | None:
    """Stores why there is no more; the message as it is kept. None where it is gone, or where the disk refuses.

    Then it is stored as soon as the disk lets it: until an answer has ended, nothing can be said after it.
    """
    try:
        return await asyncio.to_thread(writing.fail, error, queued_s=queued_s)
    except (StorageError, HeldError):
        task = asyncio.create_task(_give_up_later(writing, error))
        _TASKS.add(task)  # the loop itself would not keep it
        task.add_done_callback(_TASKS.discard)
    except PersonaSteeringError:  # deleted, or the database is closed: the next start says that it was interrupted
        pass
    return None


async def _give_up_later(writing: Writing, error: PersonaSteeringError) -> None:
    with contextlib.suppress(PersonaSteeringError):
        while True:
            await asyncio.sleep(AGAIN)
            with contextlib.suppress(StorageError, HeldError):
                await asyncio.to_thread(writing.fail, error)
                return
