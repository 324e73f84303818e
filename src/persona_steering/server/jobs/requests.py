"""How routes ask for jobs: checked at once, answered with the job, or with what it would take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Query, Response
from pydantic import BaseModel

from persona_steering.server.jobs.kinds import JobEstimate
from persona_steering.server.schemas.jobs import shown
from persona_steering.server.state import ServerState
from persona_steering.server.stores.job_models import Job

JOB_PATH = "/api/v1/jobs/"
BEGUN: dict[int | str, dict[str, object]] = {
    200: {"model": JobEstimate, "description": "with dry_run: what the job would take here"},
    202: {
        "model": Job,
        "description": "the job, which was begun or waits for those before it",
        "headers": {"Location": {"description": "where the job is", "schema": {"type": "string"}}},
    },
}
"""The answers of a route that begins a job, for its `responses`."""


@dataclass(frozen=True)
class Asking:
    """How a job is asked for, beside its parameters."""

    dry_run: bool
    idempotency_key: str | None


async def _asking(
    dry_run: Annotated[bool, Query(description="measures how long it would take, and begins nothing")] = False,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=255, description="a request with a key that was used before begins nothing"),
    ] = None,
) -> Asking:
    return Asking(dry_run, idempotency_key)


AskingDep = Annotated[Asking, Depends(_asking)]


def begin(state: ServerState, type: str, params: BaseModel, asking: Asking) -> Response:
    """Queues a job: 202. With dry_run its estimate: 200.

    Raises ApiError 503 where there is no model, and what `JobRunner.submit` raises.
    """
    _ = state.slot.serving
    fields = params.model_dump(mode="json")
    if asking.dry_run:
        return _json(state.jobs.estimate(type, fields), 200)
    job = state.jobs.submit(type, fields, idempotency_key=asking.idempotency_key)
    return _json(shown(job), 202, location=f"{JOB_PATH}{job.id}")


def _json(value: BaseModel, status: int, **headers: str) -> Response:
    return Response(value.model_dump_json(), status, headers=headers, media_type="application/json")
