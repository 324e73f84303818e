"""Counters for a monitoring system."""

from __future__ import annotations

from fastapi import APIRouter, Response

from persona_steering.server.deps import ERRORS, StateDep
from persona_steering.server.metrics import CONTENT_TYPE

router = APIRouter(tags=["metrics"], responses=ERRORS)


@router.get(
    "/metrics",
    operation_id="getMetrics",
    response_class=Response,
    responses={200: {"description": "the counters", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def get_metrics(state: StateDep) -> Response:
    """Requests, answers, tokens, caps, the queue and jobs, as Prometheus reads them."""
    return Response(state.metrics.render(), media_type=CONTENT_TYPE)
