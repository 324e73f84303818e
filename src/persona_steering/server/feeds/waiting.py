"""Requests that stay open until something is done, and what ends with them when their client leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from persona_steering.errors import ConflictError, QualityError
from persona_steering.server.errors import ApiError, without_paths
from persona_steering.server.jobs.runner import JobRunner
from persona_steering.server.stores.job_models import Job

LOOK = 0.2  # seconds between two looks at a job


@contextlib.asynccontextmanager
async def on_leaving(request: Request, act: Callable[[], object]) -> AsyncIterator[None]:
    """Calls `act` in the event loop when the client leaves before the block ends, or the block breaks off.

    So nothing goes on for a request that the stopping server has given up.
    """

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        act()

    watching = asyncio.create_task(leave())
    try:
        yield
    except BaseException:
        act()
        raise
    finally:
        watching.cancel()
        await asyncio.wait([watching])  # so that nobody else waits for the client's next message beside it


async def job_result(jobs: JobRunner, job: Job, request: Request) -> Job:
    """The job when it has succeeded; it is cancelled when the client leaves.

    Raises ApiError with what the job says where it failed, was cancelled or interrupted.
    """
    left = asyncio.Event()
    async with on_leaving(request, left.set):
        while not job.finished and not left.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(left.wait(), LOOK)
            job = await run_in_threadpool(jobs.store.get, job.id)
    if not job.finished:
        with contextlib.suppress(ConflictError):  # it ended meanwhile
            job = await run_in_threadpool(jobs.cancel, job.id)
    if job.status == "succeeded":
        return job
    raise _failed(job)


def _failed(job: Job) -> ApiError:
    """Why there is no result. What did not come out well enough is no failure of the server."""
    hint = f"See GET /api/v1/jobs/{job.id}"
    if job.error is None:
        return ApiError(409, "invalid_request_error", "job_ended", f"the job is {job.status}.", hint=hint)
    said = without_paths(f"{job.error.message} {job.error.hint}".strip())
    if job.error.type == QualityError.__name__:
        return ApiError(422, "invalid_request_error", "quality_not_met", said, hint=hint)
    return ApiError(500, "server_error", "job_failed", said, hint=hint)
