"""Measurements of stored vectors. Each is a job; its result is a run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from persona_steering.server.deps import ERRORS, PageDep, StateDep
from persona_steering.server.jobs.params import CardParams, LayersParams, SimilarityParams, SweepParams
from persona_steering.server.jobs.requests import BEGUN, AskingDep, begin
from persona_steering.server.paging import Page
from persona_steering.server.schemas.runs import Run, shown_page
from persona_steering.server.stores.job_models import Job

router = APIRouter(prefix="/api/v1", tags=["measuring"], responses=ERRORS)


@router.post("/sweeps", operation_id="createSweep", status_code=202, response_model=Job, responses=BEGUN)
def create_sweep(body: SweepParams, state: StateDep, asking: AskingDep) -> Response:
    """Measures effect and coherence of a vector at several strengths, beside random directions."""
    return begin(state, "sweep", body, asking)


@router.get("/sweeps", operation_id="listSweeps")
def list_sweeps(
    state: StateDep,
    query: PageDep,
    name: Annotated[str | None, Query(max_length=64, description="of the vector")] = None,
) -> Page[Run]:
    """The sweeps that were measured, the newest first."""
    return shown_page(state.runs.page(query, kind="sweep", name=name))


@router.post("/layers", operation_id="createLayerScan", status_code=202, response_model=Job, responses=BEGUN)
def create_layers(body: LayersParams, state: StateDep, asking: AskingDep) -> Response:
    """Measures how well each layer tells a vector's presence, and how strongly it steers alone."""
    return begin(state, "layers", body, asking)


@router.post("/cards", operation_id="createCard", status_code=202, response_model=Job, responses=BEGUN)
def create_card(body: CardParams, state: StateDep, asking: AskingDep) -> Response:
    """Measures all evidence of a vector, and stores it with the vector."""
    return begin(state, "card", body, asking)


@router.post("/similarities", operation_id="createSimilarity", status_code=202, response_model=Job, responses=BEGUN)
def create_similarity(body: SimilarityParams, state: StateDep, asking: AskingDep) -> Response:
    """Compares vectors by their cosines, and lays the personas out with the Assistant among them."""
    return begin(state, "similarity", body, asking)
