"""The application: routes behind the door, and every error in one envelope."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from persona_steering.errors import PersonaSteeringError
from persona_steering.server.door.guard import Guard
from persona_steering.server.door.security import Door
from persona_steering.server.errors import ApiError, ErrorType, as_api_error
from persona_steering.server.invalid import as_refusal
from persona_steering.server.published import PublishedApi
from persona_steering.server.reference.aliases import body_at
from persona_steering.server.routes import (
    axes,
    compare,
    conversations,
    cross_model,
    events,
    health,
    jobs,
    library,
    live,
    measuring,
    memory,
    metrics,
    models,
    openai,
    page,
    personas,
    presets,
    project,
    runs,
    steering,
    system,
    traits,
    web_system,
)
from persona_steering.server.state import ServerState

_log = logging.getLogger("persona_steering.server")


ROUTERS = (
    steering.router,
    presets.router,
    jobs.router,
    events.router,
    measuring.router,
    runs.router,
    openai.router,
    conversations.router,
    compare.router,
    project.router,
    health.router,
    models.router,
    system.router,
    metrics.router,
    memory.router,
    library.router,
    personas.router,
    traits.router,
    axes.router,
    live.router,
    cross_model.router,  # before the next, whose traits have any name
    web_system.router,
    page.router,
)


def create_app(state: ServerState, door: Door) -> FastAPI:
    """The application. It starts `state` when it starts, and closes it when it stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(state.start)
        yield
        await run_in_threadpool(state.close)

    app = _with_routes(PublishedApi(lifespan=lifespan))
    app.state.server = state
    app.add_middleware(Guard, door=door, on_answer=state.metrics.on_request)
    handlers: dict[type[Exception], Callable[[Request, Exception], Response]] = {
        PersonaSteeringError: _on_error,
        RequestValidationError: _on_invalid,
        HTTPException: _on_http,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    return app


def interface() -> dict[str, Any]:
    """The OpenAPI document of every server, without one."""
    return _with_routes(PublishedApi()).openapi()


def _with_routes(app: PublishedApi) -> PublishedApi:
    for router in ROUTERS:
        app.include_router(router)
    return app


def _respond(request: Request, error: ApiError) -> Response:
    # escaped, since what was sent may hold halves of characters, which UTF-8 cannot carry
    text = json.dumps(body_at(request.url.path, error, request.state.request_id))
    return Response(text, error.status, headers=error.headers, media_type="application/json")


def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PersonaSteeringError)
    answer = as_api_error(error)
    if answer.status == 500:
        _log.error("%s failed", request.state.request_id, exc_info=error)
    return _respond(request, answer)


def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kinds: dict[int, tuple[ErrorType, str]] = {404: ("not_found_error", "not_found")}
    kind, code = kinds.get(error.status_code, ("invalid_request_error", "invalid_request"))
    return _respond(request, ApiError(error.status_code, kind, code, f"{error.detail}.", headers=error.headers))


def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    body = getattr(request.scope.get("route"), "body_field", None)
    return _respond(request, as_refusal(error, body and body.field_info.annotation))
