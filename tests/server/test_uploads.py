"""Files of clients: as many at once as there is room for."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from starlette.requests import Request

from persona_steering.errors import BusyError
from persona_steering.server.errors import ApiError
from persona_steering.server.library.uploads import Uploads


def sending(*parts: bytes) -> Request:
    """A request with a body in these parts."""
    left = [*parts, b""]

    async def receive() -> dict[str, Any]:
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


def test_a_file_is_there_while_the_request_lasts() -> None:
    async def run() -> None:
        async with Uploads().received(sending(b"a", b"bc"), "sage.safetensors") as path:
            assert (path.name, path.read_bytes()) == ("sage.safetensors", b"abc")
        assert not path.parent.exists()

    anyio.run(run)


def test_one_more_than_there_is_room_for_waits_for_its_turn() -> None:
    async def run() -> None:
        uploads = Uploads(most=1)
        async with uploads.received(sending(b"a"), "first"):
            with pytest.raises(BusyError, match="1 files are being taken"):
                async with uploads.received(sending(b"b"), "second"):
                    pass
        async with uploads.received(sending(b"b"), "second") as path:
            assert path.read_bytes() == b"b"

    anyio.run(run)


@pytest.mark.parametrize("fault", ["name", "reader"])
def test_an_upload_that_fails_leaves_its_place(fault: str) -> None:
    async def run() -> None:
        uploads = Uploads(most=1)
        with pytest.raises((ApiError, KeyError)):
            async with uploads.received(sending(b"a"), "../first" if fault == "name" else "first"):
                raise KeyError
        async with uploads.received(sending(b"b"), "second"):
            pass

    anyio.run(run)
