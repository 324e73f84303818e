"""Texts read along directions, token by token."""

from __future__ import annotations

from fastapi import APIRouter

from persona_steering.server.answers.projecting import alternatives, project
from persona_steering.server.deps import ERRORS, StateDep
from persona_steering.server.schemas.project import Alternatives, AlternativesRequest, ProjectedText, ProjectRequest

router = APIRouter(prefix="/api/v1/project", tags=["project"], responses=ERRORS)


@router.post("", operation_id="projectText")
def project_text(body: ProjectRequest, state: StateDep) -> ProjectedText:
    """Where every token of a text lies along some directions, before and after steering. Nothing is written."""
    return project(state, body)


@router.post("/alternatives", operation_id="listAlternatives")
def list_alternatives(body: AlternativesRequest, state: StateDep) -> Alternatives:
    """The likeliest tokens after the beginning of an answer."""
    return alternatives(state, body)
