"""Presets: steering under a name. Any answer can ask for one, and MODEL:preset/NAME is a model id."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from persona_steering.server.answers.steering import of_form
from persona_steering.server.deps import ERRORS, ExpectedDep, StateDep, tag
from persona_steering.server.feeds.feed import LibraryChange
from persona_steering.server.paging import Page
from persona_steering.server.schemas.presets import PresetChanges, PresetQuery, PresetRequest
from persona_steering.server.stores.presets import Preset

router = APIRouter(prefix="/api/v1/presets", tags=["presets"], responses=ERRORS)


@router.get("", operation_id="listPresets")
def list_presets(state: StateDep, query: Annotated[PresetQuery, Depends()]) -> Page[Preset]:
    """The presets, by name."""
    return state.presets.page(query)


@router.post("", operation_id="createPreset", status_code=201)
def create_preset(body: PresetRequest, state: StateDep, response: Response) -> Preset:
    """Keeps steering under a name. Whether its vectors exist is seen when it is used, for each model anew."""
    made = state.presets.create(body.name, of_form(body.steering, state.config), description=body.description)
    state.feed.tell(LibraryChange(kind="preset", name=made.name, change="made"))
    response.headers["location"] = f"/api/v1/presets/{made.name}"
    tag(response, made.version)
    return made


@router.get("/{name}", operation_id="getPreset")
def get_preset(name: str, state: StateDep, response: Response) -> Preset:
    """One preset, with the ETag of its version."""
    found = state.presets.get(name)
    tag(response, found.version)
    return found


@router.patch("/{name}", operation_id="updatePreset")
def update_preset(name: str, body: PresetChanges, state: StateDep, expected: ExpectedDep, response: Response) -> Preset:
    """Sets what is given."""
    steering = None if body.steering is None else of_form(body.steering, state.config)
    changed = state.presets.change(name, steering=steering, description=body.description, expected=expected)
    state.feed.tell(LibraryChange(kind="preset", name=name, change="changed"))
    tag(response, changed.version)
    return changed


@router.delete("/{name}", operation_id="deletePreset", status_code=204)
def delete_preset(name: str, state: StateDep, expected: ExpectedDep) -> None:
    """Forgets one."""
    state.presets.delete(name, expected=expected)
    state.feed.tell(LibraryChange(kind="preset", name=name, change="deleted"))
