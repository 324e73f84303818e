"""Whether the server lives, and whether it takes requests."""

from __future__ import annotations

from fastapi import APIRouter

from persona_steering.server.deps import ERRORS, ServingDep
from persona_steering.server.errors import ApiError

router = APIRouter(tags=["health"], responses={503: ERRORS[503]})


@router.get("/healthz", operation_id="getHealth")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", operation_id="getReadiness")
async def readyz(serving: ServingDep) -> dict[str, str]:
    """The model is loaded, and answers are written."""
    if not serving.is_ready:
        raise ApiError(503, "server_error", "not_ready", "the model does not take requests.")
    return {"status": "ready"}
