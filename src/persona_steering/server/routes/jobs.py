"""Jobs: what is done, and what happens in them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.concurrency import run_in_threadpool

from persona_steering.server.deps import ERRORS, PageDep, StateDep
from persona_steering.server.errors import ApiError
from persona_steering.server.feeds.streams import EventStream, follow_job, streaming
from persona_steering.server.paging import Page
from persona_steering.server.schemas.jobs import JobLog, PublicJobEvent, shown, shown_event
from persona_steering.server.stores.job_models import Job, JobStatus

MAX_SEQ = 2**63 - 1
router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"], responses=ERRORS)
Seq = Annotated[int, Query(ge=0, le=MAX_SEQ, description="the number of the last event that is known")]


async def last_seen(
    after: Annotated[
        int | None, Query(ge=0, le=MAX_SEQ, description="the number of the last event that was seen")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(max_length=20, description="the same, as a browser sends it when it comes back")
    ] = None,
) -> int | None:
    """The event after which a stream begins; the header has the last word. Raises ApiError 400."""
    if not last_event_id:
        return after
    if not (last_event_id.isascii() and last_event_id.isdecimal() and int(last_event_id) <= MAX_SEQ):
        raise ApiError(
            400,
            "invalid_request_error",
            "invalid_value",
            "Last-Event-ID is not the id of an event.",
            param="Last-Event-ID",
        )
    return int(last_event_id)


LastSeenDep = Annotated[int | None, Depends(last_seen)]


@router.get("", operation_id="listJobs")
def list_jobs(
    state: StateDep,
    query: PageDep,
    status: JobStatus | None = None,
    type: Annotated[str | None, Query(max_length=64, description="such as persona.create or sweep")] = None,
) -> Page[Job]:
    """Jobs, the newest first. Of finished ones only the newest are kept."""
    page = state.jobs.store.page(query, status=status, type=type)
    return page.model_copy(update={"data": [shown(job) for job in page.data]})


@router.get("/{job_id}", operation_id="getJob")
def get_job(job_id: str, state: StateDep) -> Job:
    """One job, with its progress, and its result or error."""
    return shown(state.jobs.store.get(job_id))


@router.get("/{job_id}/log", operation_id="getJobLog")
def get_job_log(
    job_id: str,
    state: StateDep,
    after: Seq = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JobLog:
    """What happened in a job until now; for those who would rather ask again than listen."""
    events = state.jobs.store.events(after, job_id=job_id, limit=limit + 1)
    return JobLog(data=[shown_event(event) for event in events[:limit]], has_more=len(events) > limit)


@router.get(
    "/{job_id}/events",
    operation_id="followJob",
    response_class=Response,
    responses=streaming(PublicJobEvent, description="events named by their `type`"),
)
async def follow(job_id: str, state: StateDep, after: LastSeenDep) -> Response:
    """What happens in a job, as it happens, until it ends. An event's id is its number."""
    await run_in_threadpool(state.jobs.store.get, job_id)  # refused before the stream begins
    news = state.feed.subscribe()
    return EventStream(follow_job(state.jobs.store, job_id, after or 0, news), news)


@router.post("/{job_id}/cancel", operation_id="cancelJob")
def cancel_job(job_id: str, state: StateDep) -> Job:
    """Cancels a job that waits; one that runs stops within a token, and can go on later."""
    return shown(state.jobs.cancel(job_id))


@router.post("/{job_id}/retry", operation_id="retryJob", status_code=202)
def retry_job(job_id: str, state: StateDep) -> Job:
    """Queues a job that failed, was cancelled or interrupted; it goes on from the answers it has."""
    if state.jobs.store.get(job_id).model is not None:
        _ = state.slot.serving  # 503 where there is none
    return shown(state.jobs.retry(job_id))
