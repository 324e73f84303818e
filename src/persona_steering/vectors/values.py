"""Small values that stand in the metadata of vectors."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Layer = Annotated[int, Field(ge=0)]


class Closed(BaseModel):
    """No unknown keys, no changes, no numbers that are none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Interval(Closed):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float
