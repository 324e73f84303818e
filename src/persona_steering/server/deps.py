"""What routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from persona_steering.server.errors import ErrorBody
from persona_steering.server.serving import Serving

ERRORS: dict[int | str, dict[str, object]] = {
    status: {"model": ErrorBody, "description": meaning}
    for status, meaning in {
        400: "a field that cannot be honoured",
        401: "the API key is missing or wrong",
        403: "a foreign Host or Origin",
        404: "an unknown model, persona or trait",
        413: "the body is too large",
        415: "the body is not JSON",
        429: "too many requests wait; see Retry-After",
        500: "the server failed; its log has the reason",
        503: "the server is shutting down",
    }.items()
}


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


ServingDep = Annotated[Serving, Depends(_serving)]
