"""What the server is, has and does."""

from __future__ import annotations

from fastapi import APIRouter

from persona_steering.server.deps import ERRORS, StateDep
from persona_steering.server.schemas.system import System
from persona_steering.server.system import describe_system

router = APIRouter(prefix="/api/v1/system", tags=["system"], responses=ERRORS)


@router.get("", operation_id="getSystem")
def get_system(state: StateDep) -> System:
    """The model, how busy it is, memory, limits, and what a request gets when it does not say otherwise."""
    return describe_system(state)
