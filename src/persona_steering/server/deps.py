"""What routes are given."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from fastapi import Depends, Header, Query, Request, Response

from persona_steering.server.errors import ApiError, ErrorBody
from persona_steering.server.model.serving import Serving
from persona_steering.server.paging import MAX_LIMIT, PageQuery
from persona_steering.server.schemas.reference import ErrorReply
from persona_steering.server.state import ServerState

ERRORS: dict[int | str, dict[str, object]] = {
    status: {"model": ErrorBody, "description": meaning}
    for status, meaning in {
        400: "a field that cannot be honoured",
        401: "the API key is missing or wrong",
        403: "a foreign Host or Origin",
        404: "an unknown model, persona or trait",
        409: "it does not fit what is there now",
        412: "another version is there now than If-Match names",
        413: "the body is too large",
        415: "the body is not JSON",
        422: "the model could not write what was asked for",
        429: "too many requests wait; see Retry-After",
        500: "the server failed; its log has the reason",
        502: "the other server that is to write or judge failed",
        503: "no model is there (yet), the server is shutting down, or its database is held; see Retry-After",
        507: "the disk is full or refuses",
    }.items()
}

REFERENCE_ERRORS: dict[int | str, dict[str, object]] = {
    status: {"model": ErrorReply, "description": said["description"]} for status, said in ERRORS.items()
}
"""Those of the paths of the earlier systems."""


# what waits for nothing needs no thread: where all are taken, the server still says whether it is ready
async def _state(request: Request) -> ServerState:
    state: ServerState = request.app.state.server
    return state


StateDep = Annotated[ServerState, Depends(_state)]


async def _serving(state: StateDep) -> Serving:
    return state.slot.serving


ServingDep = Annotated[Serving, Depends(_serving)]
"""The loaded model. A route with it answers 503 while there is none."""


async def _expected(
    if_match: Annotated[
        str | None, Header(max_length=100, description="the ETag of the version that is meant; left out: any")
    ] = None,
) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    found = re.fullmatch(r'\s*(?:W/)?"(\d{1,18})"\s*', if_match, flags=re.ASCII)
    if found is None:
        raise ApiError(
            400,
            "invalid_request_error",
            "invalid_value",
            "If-Match is not an ETag of this server.",
            param="If-Match",
            hint='It looks like "3", with its quotes.',
        )
    return int(found[1])


ExpectedDep = Annotated[int | None, Depends(_expected)]
"""The version that a change is meant for; None: any."""


async def _page(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="how many at most")] = 20,
    after: Annotated[
        str | None, Query(max_length=256, description="the last_id of the page before; left out: the first page")
    ] = None,
    order: Annotated[Literal["asc", "desc"], Query(description="desc: the newest first")] = "desc",
) -> PageQuery:
    return PageQuery(limit=limit, after=after, order=order)


PageDep = Annotated[PageQuery, Depends(_page)]
"""Which page of a list."""


def tag(response: Response, version: int) -> None:
    """Gives an answer the ETag that If-Match is to have."""
    response.headers["etag"] = f'"{version}"'
