"""Models as clients see them, without where they lie."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from persona_steering.server.model.slot import SlotStatus
from persona_steering.vectors.values import Closed


class ListedModel(Closed):
    """A model that can be loaded."""

    id: str = Field(description="what POST /api/v1/models/load takes as its name")
    name: str = Field(description="for people")
    kind: Literal["embedded", "local", "cached", "remote"] = Field(
        description="came as a package, a folder, in the hub's cache, or to be downloaded first"
    )
    size_bytes: int | None = Field(description="on disk; null where it is not known")
    loaded: bool = False
    configured: bool = Field(default=False, description="whether it is the one that the server starts with")


class Models(Closed):
    """The place of the loaded model, and what could be there."""

    slot: SlotStatus
    available: list[ListedModel]
