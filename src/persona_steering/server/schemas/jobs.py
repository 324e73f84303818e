"""Jobs as clients see them: typed by what happened, and nothing of the machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Discriminator, Field, JsonValue, RootModel

from persona_steering.engine.names import public_id
from persona_steering.server.errors import without_paths
from persona_steering.server.jobs.progress import JobProgress
from persona_steering.server.stores.job_models import Job, JobError, JobEvent, JobStatus, Sample
from persona_steering.vectors.values import Closed


class JobState(Closed):
    """The state that a job has from now on."""

    status: JobStatus


class JobNote(Closed):
    """A line for people."""

    level: Literal["info", "warning"] = "info"
    message: str


class _Happened(Closed):
    seq: int = Field(description="its place in the feed of all jobs: the id of the event, and what `after` takes")
    job_id: str
    created_at: float = Field(description="seconds since 1970")


class StateEvent(_Happened):
    """Its state changed."""

    type: Literal["state"]
    data: JobState


class ProgressEvent(_Happened):
    """It went on."""

    type: Literal["progress"]
    data: JobProgress


class SampleEvent(_Happened):
    """An answer came."""

    type: Literal["sample"]
    data: Sample


class NoteEvent(_Happened):
    """There is something to say."""

    type: Literal["log"]
    data: JobNote


class DoneEvent(_Happened):
    """It succeeded; `data` is the job's `result`."""

    type: Literal["done"]
    data: dict[str, JsonValue]


class FailureEvent(_Happened):
    """It failed."""

    type: Literal["error"]
    data: JobError


class PublicJobEvent(
    RootModel[
        Annotated[
            StateEvent | ProgressEvent | SampleEvent | NoteEvent | DoneEvent | FailureEvent, Discriminator("type")
        ]
    ]
):
    """Something that happened in a job."""


class JobLog(BaseModel):
    """Events of one job, in order."""

    object: Literal["list"] = "list"
    data: list[PublicJobEvent]
    has_more: bool = Field(description="whether there are more now; ask again after the last one's number")


def shown_event(event: JobEvent) -> PublicJobEvent:
    """An event as clients see it."""
    data = dict(event.data)
    if event.type in ("error", "log"):
        data |= {key: without_paths(value) for key, value in data.items() if isinstance(value, str)}
    return PublicJobEvent.model_validate({**event.model_dump(), "data": data})


def shown(job: Job) -> Job:
    """A job as clients see it."""
    changes: dict[str, object] = {}
    if job.model is not None:
        changes["model"] = job.model.model_copy(update={"id": without_paths(public_id(job.model.id))})
    if job.error is not None:
        scrubbed = {"message": without_paths(job.error.message), "hint": without_paths(job.error.hint)}
        changes["error"] = job.error.model_copy(update=scrubbed)
    return job.model_copy(update=changes)
