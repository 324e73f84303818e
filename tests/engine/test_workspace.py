"""The steps of a new workspace."""

from __future__ import annotations

from persona_steering.engine.workspace import STARTERS
from persona_steering.extraction.axes import MIN_PERSONAS
from persona_steering.personas import list_archetypes


def test_the_personas_of_a_new_workspace_ship_with_the_package_and_make_an_assistant_axis() -> None:
    assert set(STARTERS) <= set(list_archetypes())
    assert len(STARTERS) >= MIN_PERSONAS
