"""The one model that is loaded, and those that could be."""

from __future__ import annotations

from fastapi import APIRouter

from persona_steering.server.deps import ERRORS, StateDep
from persona_steering.server.model.choices import list_models as listed
from persona_steering.server.model.slot import ModelChoice, SlotStatus
from persona_steering.server.schemas.models import Models

router = APIRouter(prefix="/api/v1/models", tags=["models"], responses=ERRORS)


@router.get("", operation_id="listLocalModels")
def list_models(state: StateDep) -> Models:
    """What is loaded or on its way, and which models this machine has."""
    slot = state.slot.status
    loaded = slot.model if slot.state == "ready" else None
    return Models(slot=slot, available=listed(state.config, loaded))


@router.post("/load", operation_id="loadModel", status_code=202)
def load_model(body: ModelChoice, state: StateDep) -> SlotStatus:
    """Begins to load a model in the place of the one that is there, whose answers end with an error.

    Until it is ready, whatever needs a model is answered 503 with Retry-After. Refused while a job wants the model.
    """
    state.load_model(body)
    return state.slot.status


@router.post("/unload", operation_id="unloadModel")
def unload_model(state: StateDep) -> SlotStatus:
    """Frees the model. Answers that are being written end with an error. Refused while a job wants the model."""
    state.unload_model()
    return state.slot.status
