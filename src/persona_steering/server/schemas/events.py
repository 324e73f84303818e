"""News of the server as clients see them."""

from __future__ import annotations

from pydantic import RootModel

from persona_steering.server.feeds.feed import ConversationChange, LibraryChange
from persona_steering.server.model.slot import SlotStatus
from persona_steering.server.schemas.jobs import PublicJobEvent


class ServerEvent(RootModel[PublicJobEvent | SlotStatus | LibraryChange | ConversationChange]):
    """The data of an event; its name says which of them it is: `job`, `model`, `library` or `conversation`."""
