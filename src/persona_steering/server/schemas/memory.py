"""What is in memory."""

from __future__ import annotations

from persona_steering.vectors.values import Closed


class LoadedVectors(Closed):
    """The names of the personas and traits in memory."""

    loaded: list[str]
