"""Personas: characters, and their vectors."""

from __future__ import annotations

import threading

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from persona_steering.server.deps import ServingDep, StateDep
from persona_steering.server.feeds.waiting import on_leaving
from persona_steering.server.jobs.params import PersonaParams
from persona_steering.server.jobs.requests import BEGUN, AskingDep, begin
from persona_steering.server.library.shipped import persona_preview
from persona_steering.server.routes.vectors import editing_router
from persona_steering.server.schemas.library import PersonaPreview, PersonaPreviewRequest
from persona_steering.server.stores.job_models import Job

router = editing_router("personas", "Persona", ("persona",))


@router.post("", operation_id="createPersona", status_code=202, response_model=Job, responses=BEGUN)
def create_persona(body: PersonaParams, state: StateDep, asking: AskingDep) -> Response:
    """Makes a persona's vector, chooses its layers and dose, and measures what it does."""
    return begin(state, "persona.create", body, asking)


@router.post("/preview", operation_id="previewPersona")
async def preview(
    body: PersonaPreviewRequest, request: Request, state: StateDep, serving: ServingDep
) -> PersonaPreview:
    """Has a model write the system prompts of a description, to be read and edited. Nothing is kept."""
    left = threading.Event()
    async with on_leaving(request, left.set):
        return await run_in_threadpool(persona_preview, state, body, left.is_set)
