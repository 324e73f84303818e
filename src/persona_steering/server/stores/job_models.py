"""A job and its events, as they are kept and shown."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from persona_steering.server.jobs.progress import JobProgress
from persona_steering.vectors.values import Closed

JOB = "job"
JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
Outcome = Literal["succeeded", "failed", "cancelled", "interrupted"]
EventType = Literal["state", "progress", "sample", "log", "done", "error"]
FINISHED: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled", "interrupted"})
AGAIN: frozenset[JobStatus] = FINISHED - {"succeeded"}  # can be tried once more


class Subject(Closed):
    """What a job makes or measures."""

    kind: str
    name: str


class JobModel(Closed):
    """The model that a job was asked of."""

    id: str
    fingerprint: str


class JobError(Closed):
    """Why a job failed. `type` is the class in the tree of errors; "internal" for what is none of it."""

    type: str
    message: str
    hint: str = ""


class Sample(Closed):
    """An answer that a job has just got."""

    phase: str
    question: str = Field(default="", description="empty where it is a line of progress and answers nothing")
    answer: str


class Job(BaseModel):
    """A long piece of work. Times are seconds since 1970."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    object: Literal["job"] = "job"
    type: str
    status: JobStatus
    subject: Subject | None = None
    model: JobModel | None = None
    params: dict[str, JsonValue]
    progress: JobProgress | None = None
    result: dict[str, JsonValue] | None = None
    error: JobError | None = None
    attempts: int = Field(default=0, description="how often it was begun")
    interruptions: int = Field(default=0, description="how often in a row the server stopped in the middle of it")
    cancel_requested: bool = False
    created_at: float
    queued_at: float
    started_at: float | None = None
    finished_at: float | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more happens unless somebody tries it again."""
        return self.status in FINISHED


class JobEvent(BaseModel):
    """Something that happened in a job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seq: int = Field(description="its place in the feed of all jobs")
    job_id: str
    type: EventType
    data: dict[str, JsonValue]
    created_at: float = Field(description="seconds since 1970")
