"""Presets as requests say them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from persona_steering.server.paging import PageQuery
from persona_steering.server.schemas.bodies import ClosedBody
from persona_steering.server.schemas.steering import Name, SteeringField, SteeringRequest


def _of_its_own(steering: str | SteeringRequest) -> str | SteeringRequest:
    if isinstance(steering, SteeringRequest) and steering.preset is not None:
        raise ValueError("a preset does not build on another: say what steers")
    return steering


PresetSteering = Annotated[SteeringField, AfterValidator(_of_its_own)]


class PresetQuery(PageQuery):
    """Which page of the presets."""

    order: Literal["asc", "desc"] = Field(default="asc", description="asc: by name, from A to Z")


class PresetRequest(ClosedBody):
    """A new preset."""

    name: Name
    steering: PresetSteering = Field(description='or the short form "sage:0.6,formal:-0.3"')
    description: str = Field(default="", max_length=2000)


class PresetChanges(ClosedBody):
    """What is to be changed; the rest stays."""

    steering: PresetSteering | None = None
    description: str | None = Field(default=None, max_length=2000)
