"""What ships with the package, and what comes in from files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from persona_steering.server.deps import ERRORS, ServingDep, StateDep
from persona_steering.server.library.shipped import archetype, archetypes, builtin_traits
from persona_steering.server.library.vectors import Upload
from persona_steering.server.paging import Page
from persona_steering.server.schemas.library import Archetype, ArchetypeDetail, BuiltinTrait, ImportedVector
from persona_steering.server.schemas.steering import Name
from persona_steering.vectors import VectorKind
from persona_steering.vectors.formats import Writer

router = APIRouter(prefix="/api/v1", tags=["library"], responses=ERRORS)
_FILE = {
    "requestBody": {
        "required": True,
        "description": "the file as it is",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get("/archetypes", operation_id="listArchetypes")
def list_all_archetypes(state: StateDep) -> Page[Archetype]:
    """The personas that ship with the package, all of them."""
    return archetypes(state)


@router.get("/archetypes/{name}", operation_id="getArchetype")
def get_archetype(name: str, state: StateDep) -> ArchetypeDetail:
    """One of them with its system prompts, to be edited into a persona of one's own."""
    return archetype(state, name)


@router.get("/builtin-traits", operation_id="listBuiltinTraits")
def list_builtin_traits(state: StateDep) -> Page[BuiltinTrait]:
    """The traits that ship with the package, all of them. Their pairs: POST /api/v1/traits/preview."""
    return builtin_traits(state)


@router.post("/import", operation_id="importVector", status_code=201, openapi_extra=_FILE)
async def import_vector(
    request: Request,
    state: StateDep,
    serving: ServingDep,
    filename: Annotated[
        str, Query(min_length=1, max_length=128, description="what the file is called, without a path")
    ],
    name: Annotated[Name | None, Query(description="what to call the vector; left out: as the file says")] = None,
    kind: Annotated[VectorKind | None, Query(description="what a file that does not say holds")] = None,
    written_by: Annotated[Writer | None, Query(description="who made a bare tensor or a GGUF file")] = None,
    overwrite: Annotated[bool, Query(description="replaces the vector of that name")] = False,
) -> ImportedVector:
    """Stores the vector of a file: safetensors, an archive, GGUF, tensors-only .pt, or an earlier system's JSON.

    The format is told by the content. A file of another model than the loaded one is refused, and so is one that
    would execute code.
    """
    async with state.uploads.received(request, filename) as file:
        return await run_in_threadpool(state.library.take, Upload(file, name, kind, written_by, overwrite))
