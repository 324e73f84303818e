"""Traits: dimensions of behaviour, and their vectors."""

from __future__ import annotations

import threading

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from persona_steering.server.deps import ServingDep, StateDep
from persona_steering.server.feeds.waiting import on_leaving
from persona_steering.server.jobs.params import TraitParams
from persona_steering.server.jobs.requests import BEGUN, AskingDep, begin
from persona_steering.server.library.shipped import trait_preview
from persona_steering.server.routes.vectors import editing_router
from persona_steering.server.schemas.library import TraitPreview, TraitPreviewRequest
from persona_steering.server.stores.job_models import Job

router = editing_router("traits", "Trait", ("trait",))


@router.post("", operation_id="createTrait", status_code=202, response_model=Job, responses=BEGUN)
def create_trait(body: TraitParams, state: StateDep, asking: AskingDep) -> Response:
    """Makes a trait's vector, chooses its layers and dose, and measures what it does."""
    return begin(state, "trait.create", body, asking)


@router.post("/preview", operation_id="previewTrait")
async def preview(body: TraitPreviewRequest, request: Request, state: StateDep, serving: ServingDep) -> TraitPreview:
    """Both sides of a trait and its questions, to be read and edited. Nothing is kept."""
    left = threading.Event()
    async with on_leaving(request, left.set):
        return await run_in_threadpool(trait_preview, state, body, left.is_set)
