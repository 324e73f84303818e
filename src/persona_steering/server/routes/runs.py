"""Results that were measured."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse

from persona_steering.server.deps import ERRORS, PageDep, StateDep
from persona_steering.server.door.security import REPORT_POLICY
from persona_steering.server.jobs.results import read_answers, read_data, read_report
from persona_steering.server.paging import Page, PageQuery
from persona_steering.server.schemas.runs import Run, RunAnswer, RunData, shown_page

router = APIRouter(prefix="/api/v1/runs", tags=["runs"], responses=ERRORS)


@router.get("", operation_id="listRuns")
def list_runs(
    state: StateDep,
    query: PageDep,
    kind: Annotated[str | None, Query(max_length=64, description="sweep, layers, card, similarity, ...")] = None,
    name: Annotated[str | None, Query(max_length=64, description="of the vector")] = None,
    model: Annotated[str | None, Query(max_length=128, description="a model's fingerprint")] = None,
) -> Page[Run]:
    """What was made and measured by jobs, the newest first."""
    return shown_page(state.runs.page(query, kind=kind, name=name, model=model))


@router.get("/{run_id}", operation_id="getRun")
def get_run(run_id: str, state: StateDep) -> Run:
    """One result."""
    return Run.of(state.runs.get(run_id))


@router.get("/{run_id}/data", operation_id="getRunData")
def get_run_data(run_id: str, state: StateDep) -> RunData:
    """Its numbers, as they were measured."""
    return read_data(state.runs.get(run_id), state.config.runs_dir)


@router.get("/{run_id}/answers", operation_id="listRunAnswers")
def list_run_answers(
    run_id: str,
    state: StateDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=64, description="the last_id of the page before")] = None,
    point: Annotated[int | None, Query(ge=0, description="of this point or row only, from 0")] = None,
) -> Page[RunAnswer]:
    """The answers behind the points of a sweep, or the rows of a scan of layers, in their order."""
    query = PageQuery(limit=limit, after=after, order="asc")
    return read_answers(state.runs.get(run_id), state.config.runs_dir, query, point=point)


@router.get(
    "/{run_id}/report",
    operation_id="getRunReport",
    response_class=Response,
    responses={
        200: {
            "description": "the page: one file that needs nothing else",
            "content": {"text/html": {"schema": {"type": "string"}}},
        }
    },
)
def get_run_report(run_id: str, state: StateDep) -> Response:
    """Its report, to be read."""
    page = read_report(state.runs.get(run_id), state.config.runs_dir)
    return HTMLResponse(page, headers={"content-security-policy": REPORT_POLICY})
