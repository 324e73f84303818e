"""Files that clients send: written to a temporary folder as they come, and gone when the request ends."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from persona_steering.files import storage_error
from persona_steering.server.errors import ApiError

_NAME = re.compile(r"[\w][\w .()+@-]{0,127}")
_MOST_BYTES = 255  # of a name, on any file system


@contextlib.asynccontextmanager
async def received(request: Request, filename: str) -> AsyncIterator[Path]:
    """The body in a file of that name, for as long as the block runs.

    Raises ApiError 400 for what is not the name of a file, StorageError where the disk refuses.
    """
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
