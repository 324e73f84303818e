"""Requests that stay open, and what ends with them."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from persona_steering.server.feeds.waiting import on_leaving


def request_of(messages: asyncio.Queue[Message]) -> Request:
    return Request({"type": "http", "method": "POST", "headers": []}, messages.get)


def test_what_is_done_for_a_client_ends_when_it_leaves() -> None:
    async def told() -> list[str]:
        messages: asyncio.Queue[Message] = asyncio.Queue()
        acts: list[str] = []
        async with on_leaving(request_of(messages), lambda: acts.append("left")):
            messages.put_nowait({"type": "http.disconnect"})
            await asyncio.sleep(0.01)
        return acts

    assert asyncio.run(told()) == ["left"]


def test_what_is_done_for_a_request_ends_when_the_server_gives_it_up() -> None:
    async def told() -> list[str]:
        messages: asyncio.Queue[Message] = asyncio.Queue()
        acts: list[str] = []

        async def work() -> None:
            async with on_leaving(request_of(messages), lambda: acts.append("given up")):
                await asyncio.sleep(60)

        working = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        return acts

    assert asyncio.run(told()) == ["given up"]


def test_nothing_is_ended_that_ends_by_itself_and_the_next_message_is_left_to_others() -> None:
    async def told() -> tuple[list[str], Message]:
        messages: asyncio.Queue[Message] = asyncio.Queue()
        acts: list[str] = []
        async with on_leaving(request_of(messages), lambda: acts.append("left")):
            await asyncio.sleep(0)
        messages.put_nowait({"type": "http.disconnect"})
        return acts, await asyncio.wait_for(messages.get(), 1)

    assert asyncio.run(told()) == ([], {"type": "http.disconnect"})
