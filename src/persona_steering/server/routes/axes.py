"""Axes: directions of the model itself, and its mean activations."""

from __future__ import annotations

from fastapi import Response

from persona_steering.server.deps import StateDep
from persona_steering.server.jobs.params import AxesParams
from persona_steering.server.jobs.requests import BEGUN, AskingDep, begin
from persona_steering.server.routes.vectors import reading_router
from persona_steering.server.stores.job_models import Job

router = reading_router("axes", "Axis", ("axis", "baseline"))


@router.post("", operation_id="extractAxes", status_code=202, response_model=Job, responses=BEGUN)
def extract_axes(body: AxesParams, state: StateDep, asking: AskingDep) -> Response:
    """Extracts the safety axis, the assistant axis of the personas there are, or both."""
    return begin(state, "axes.extract", body, asking)
