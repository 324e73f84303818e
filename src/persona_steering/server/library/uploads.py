"""Files that clients send: written to a temporary folder as they come, and gone when the request ends."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from persona_steering.errors import BusyError
from persona_steering.files import storage_error
from persona_steering.server.errors import ApiError
from persona_steering.server.limits import LIMITS

_NAME = re.compile(r"[\w][\w .()+@-]{0,127}")
_MOST_BYTES = 255  # of a name, on any file system


class Uploads:
    """As many at once as there is room for. For the event loop."""

    def __init__(self, most: int = LIMITS.uploads) -> None:
        self._most, self._taken = most, 0

    @contextlib.asynccontextmanager
    async def received(self, request: Request, filename: str) -> AsyncIterator[Path]:
        """The body in a file of that name, for as long as the block runs.

        Raises ApiError 400 for what is not the name of a file, BusyError, and StorageError where the disk refuses.
        """
        if self._taken >= self._most:
            raise BusyError(f"{self._most} files are being taken already.", hint="Try again in a moment.")
        self._taken += 1
        try:
            async with _written(request, filename) as path:
                yield path
        finally:
            self._taken -= 1


@contextlib.asynccontextmanager
async def _written(request: Request, filename: str) -> AsyncIterator[Path]:
    if not _NAME.fullmatch(filename) or len(filename.encode()) > _MOST_BYTES:
        raise ApiError(
            400,
            "invalid_request_error",
            "invalid_value",
            "filename is not the name of a file.",
            param="filename",
            hint="Give its last part alone, such as sage.safetensors.",
        )
    with contextlib.ExitStack() as stack:
        folder = await run_in_threadpool(tempfile.TemporaryDirectory)
        stack.callback(folder.cleanup)
        path = Path(folder.name) / filename
        try:
            with await run_in_threadpool(path.open, "wb") as file:
                async for part in request.stream():
                    await run_in_threadpool(file.write, part)
        except OSError as error:
            raise storage_error(error, path) from error
        yield path
