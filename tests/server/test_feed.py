"""News for readers on an event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from persona_steering.server.errors import ApiError
from persona_steering.server.feeds.feed import MAX_UNREAD, ConversationChange, Feed, LibraryChange

NEWS = LibraryChange(kind="persona", name="sage", change="made")
LONG = 30.0


def test_news_from_another_thread_wake_the_reader() -> None:
    async def read() -> list[object]:
        feed = Feed()
        with feed.subscribe() as reader:
            assert not await reader.wait(0)
            threading.Thread(target=feed.tell, args=(NEWS,)).start()
            assert await reader.wait(LONG)
            return list(reader.take())

    assert asyncio.run(read()) == [NEWS]


def test_news_between_two_looks_are_not_lost() -> None:
    async def read() -> list[object]:
        feed = Feed()
        with feed.subscribe() as reader:
            feed.tell(NEWS)
            await reader.wait(LONG)
            first = reader.take()
            feed.tell(ConversationChange(id="c", change="made"))
            assert await reader.wait(LONG), "it rang again"
            return [*first, *reader.take()]

    assert len(asyncio.run(read())) == 2


def test_a_reader_that_reads_nothing_is_let_go_and_holds_nobody_up() -> None:
    async def read() -> None:
        feed = Feed()
        with feed.subscribe() as slow, feed.subscribe() as quick:
            for _ in range(3 * MAX_UNREAD):
                feed.tell(NEWS)
                await quick.wait(LONG)
                quick.take()
            assert slow.ended and not quick.ended
            assert len(slow.take()) == MAX_UNREAD + 1, "what lies unread is bounded"

    asyncio.run(read())


def test_a_place_is_free_again_when_its_reader_has_left() -> None:
    async def read() -> None:
        feed = Feed(most=1)
        with feed.subscribe():
            with pytest.raises(ApiError) as refused:
                feed.subscribe()
            assert refused.value.status == 429
        with feed.subscribe():
            assert feed.readers == 1
        assert feed.readers == 0
        feed.close()
        with pytest.raises(ApiError) as closed:
            feed.subscribe()
        assert closed.value.status == 503

    asyncio.run(read())


def test_whoever_tells_is_not_troubled_by_a_loop_that_has_ended() -> None:
    feed = Feed()

    async def leave_without_a_word() -> None:
        feed.subscribe()

    asyncio.run(leave_without_a_word())
    feed.tell(NEWS)
