"""News of the whole server, for a page that is to show what is."""

from __future__ import annotations

from fastapi import APIRouter, Response

from persona_steering.server.deps import ERRORS, StateDep
from persona_steering.server.feeds.streams import EventStream, follow_server, streaming
from persona_steering.server.routes.jobs import LastSeenDep
from persona_steering.server.schemas.events import ServerEvent

router = APIRouter(prefix="/api/v1", tags=["system"], responses=ERRORS)


@router.get(
    "/events",
    operation_id="followServer",
    response_class=Response,
    responses=streaming(ServerEvent, description="events `job`, `model`, `library` and `conversation`"),
)
async def follow(state: StateDep, after: LastSeenDep) -> Response:
    """First the state of the model, then what changes: jobs, the model, the library, conversations.

    Events of jobs have ids: who comes back with the last one seen gets what was missed. The others say what to read
    again; who was away reads it all.
    """
    news = state.feed.subscribe()
    return EventStream(follow_server(state, after, news), news)
