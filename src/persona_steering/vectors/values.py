"""Small values that stand in the metadata of vectors."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Layer = Annotated[int, Field(ge=0)]


class Closed(BaseModel):
    """No unknown keys, no changes, no numbers that are none."""

    # What is written out always has all its fields, and its schema says so.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )


class Interval(Closed):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float
