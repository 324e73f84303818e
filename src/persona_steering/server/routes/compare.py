"""One conversation answered in several ways at once."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from persona_steering.server.answers.conversing import GRACE
from persona_steering.server.answers.events import lane_events
from persona_steering.server.answers.lanes import Lanes, plan_lanes
from persona_steering.server.deps import ERRORS, StateDep
from persona_steering.server.feeds.streams import EventStream, streaming
from persona_steering.server.feeds.waiting import on_leaving
from persona_steering.server.schemas.conversations import (
    Compared,
    Comparison,
    Failed,
    LaneAnswer,
    StartedLanes,
    WrittenToken,
)

router = APIRouter(prefix="/api/v1", tags=["compare"], responses=ERRORS)
EVENTS = streaming(
    StartedLanes,
    WrittenToken,
    LaneAnswer,
    Failed,
    description="all answers; with stream events `start`, `token`, `done` (of each lane), `error`",
)


@router.post("/compare", operation_id="compareSteering", response_model=Compared, responses=EVENTS)
async def compare(body: Comparison, request: Request, state: StateDep) -> Response | Compared:
    """Answers a conversation in two to four ways, with one seed, in one batch. Nothing is kept."""
    planned = await run_in_threadpool(plan_lanes, state, body)
    lanes = Lanes(planned)
    try:
        await lanes.arrived(GRACE)  # what is refused at once is refused with its status
    except BaseException:
        lanes.cancel()
        raise
    if body.stream:
        return EventStream(lane_events(lanes), lanes)
    async with on_leaving(request, lanes.cancel):
        with lanes:
            return await lanes.whole()
