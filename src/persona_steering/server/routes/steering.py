"""Steering, looked at before an answer is asked for."""

from __future__ import annotations

from fastapi import APIRouter

from persona_steering.server.answers.checking import checked
from persona_steering.server.answers.steering import resolve
from persona_steering.server.deps import ERRORS, ServingDep, StateDep
from persona_steering.server.schemas.steering import ValidatedSteering, ValidateRequest

router = APIRouter(prefix="/api/v1/steering", tags=["steering"], responses=ERRORS)


@router.post("/validate", operation_id="validateSteering")
def validate_steering(body: ValidateRequest, state: StateDep, serving: ServingDep) -> ValidatedSteering:
    """The recipe that the steering comes to, its warnings, how alike its vectors are, and what was measured.

    What an answer would refuse is refused here too.
    """
    return checked(resolve(body.steering, serving, state.presets), serving)
