"""What personas, traits and axes have in common: they are listed, looked into, copied and given out as files."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from persona_steering.interventions.recipe import MAX_STRENGTH
from persona_steering.server.deps import ERRORS, ExpectedDep, StateDep, tag
from persona_steering.server.library.vectors import Kinds
from persona_steering.server.paging import Page
from persona_steering.server.schemas.library import (
    ExportFormat,
    Fork,
    VectorCard,
    VectorChanges,
    VectorData,
    VectorDetail,
    VectorExamples,
    VectorQuery,
)

Reference = Annotated[str, Path(max_length=80, description="a name; for another model's vector its id")]
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the file; what it cannot hold is said in x-warnings, a JSON list",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "x-warnings": {"schema": {"type": "string"}},
            "content-disposition": {"schema": {"type": "string"}},
        },
    }
}


def reading_router(plural: str, noun: str, kinds: Kinds) -> APIRouter:
    """Routes that change nothing, below /api/v1/PLURAL; `noun` is how their operations call one."""
    router = APIRouter(prefix=f"/api/v1/{plural}", tags=[plural], responses=ERRORS)
    many = "Axes" if noun == "Axis" else f"{noun}s"

    @router.get("", operation_id=f"list{many}", summary=f"List {plural}")
    def list_vectors(state: StateDep, query: Annotated[VectorQuery, Query()]) -> Page[VectorCard]:
        """Those of the loaded model, by name; without a model, all."""
        return state.library.page(kinds, query)

    @router.get("/{name}", operation_id=f"get{noun}", summary=f"Get one of the {plural}")
    def get_vector(name: Reference, state: StateDep, response: Response) -> VectorDetail:
        """One, with what it was made from and what was measured on it."""
        found = state.library.get(name, kinds)
        tag(response, found.version)
        return found

    @router.get("/{name}/vectors", operation_id=f"get{noun}Vectors", summary="Get its directions")
    def get_data(
        name: Reference,
        state: StateDep,
        directions: Annotated[bool, Query(description="the values too, which are many")] = False,
    ) -> VectorData:
        """Its norms at every layer."""
        return state.library.data(name, kinds, directions=directions)

    @router.get(
        "/{name}/export", operation_id=f"export{noun}", summary="Download it", response_class=Response, responses=_FILE
    )
    def export_vector(
        name: Reference,
        state: StateDep,
        format: Annotated[ExportFormat, Query(description="zip has its axes, card and prompts too")] = "safetensors",
        safe: Annotated[bool, Query(description="without the component along the safety axis")] = False,
        strength: Annotated[
            float | None, Query(ge=-MAX_STRENGTH, le=MAX_STRENGTH, description="gguf: with the measured dose in it")
        ] = None,
    ) -> Response:
        """It as a file, for this package or for other tools."""
        file = state.library.export(name, kinds, format, safe=safe, strength=strength)
        return Response(file.content, media_type="application/octet-stream", headers=file.headers)

    return router


def editing_router(plural: str, noun: str, kinds: Kinds) -> APIRouter:
    """As `reading_router`, with routes that change, copy and delete."""
    router = reading_router(plural, noun, kinds)

    @router.get("/{name}/examples", operation_id=f"get{noun}Examples", summary="Get answers before and after")
    def get_examples(name: Reference, state: StateDep) -> VectorExamples:
        """Questions answered plainly and steered, as its creation or its newest sweep measured them."""
        return state.library.examples(name, kinds)

    @router.patch("/{name}", operation_id=f"update{noun}", summary="Change its description or tags")
    def update(
        name: Reference, body: VectorChanges, state: StateDep, expected: ExpectedDep, response: Response
    ) -> VectorDetail:
        """Changes its description or tags; its directions are never changed."""
        found = state.library.change(name, kinds, body, expected=expected)
        tag(response, found.version)
        return found

    @router.delete("/{name}", operation_id=f"delete{noun}", summary="Delete it", status_code=204)
    def delete(name: Reference, state: StateDep, expected: ExpectedDep) -> None:
        """Deletes it. The assistant axis goes with a persona, since it was made with it."""
        state.library.remove(name, kinds, expected=expected)

    @router.post("/{name}/fork", operation_id=f"fork{noun}", summary="Copy it", status_code=201)
    def fork(name: Reference, body: Fork, state: StateDep, response: Response) -> VectorDetail:
        """A copy under another name, with all that was measured on it."""
        made = state.library.fork(name, kinds, body.name)
        response.headers["location"] = f"/api/v1/{plural}/{made.id}"
        tag(response, made.version)
        return made

    return router
