"""Which personas and traits are in memory, so that no answer waits for their files."""

from __future__ import annotations

from fastapi import APIRouter

from persona_steering.server.deps import ERRORS, ServingDep
from persona_steering.server.schemas.memory import LoadedVectors

router = APIRouter(prefix="/api/v1/memory", tags=["library"], responses=ERRORS)


@router.get("", operation_id="listLoadedVectors")
def list_loaded(serving: ServingDep) -> LoadedVectors:
    """What is in memory now. An answer takes what it needs there by itself."""
    return LoadedVectors(loaded=serving.loaded())


@router.post("/{name}", operation_id="loadVector")
def load(name: str, serving: ServingDep) -> LoadedVectors:
    """Takes a persona or trait into memory; its file is checked now, and not in the middle of an answer."""
    serving.load(name)
    return LoadedVectors(loaded=serving.loaded())


@router.delete("/{name}", operation_id="unloadVector")
def unload(name: str, serving: ServingDep) -> LoadedVectors:
    """Drops a persona or trait from memory. Its file stays, and the next answer that wants it reads it again."""
    serving.unload(name)
    return LoadedVectors(loaded=serving.loaded())
