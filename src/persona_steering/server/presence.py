"""Tells the other commands of the workspace where the server is, and which model it has."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from persona_steering.engine.remote.presence import Announcement
from persona_steering.errors import StorageError
from persona_steering.server.model.slot import SlotStatus
from persona_steering.server.state import ServerState

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def announced(state: ServerState, url: str, *, key: str | None) -> Iterator[None]:
    """Keeps the state file until the block ends. Where it cannot be written the server serves all the same."""
    announcement, telling = Announcement(state.config, url, key=key), threading.Lock()

    def tell(status: SlotStatus | None = None) -> None:
        try:
            with telling:  # of two changes the later one is asked about last
                announcement.tell(state.slot.model_name)
        except StorageError as error:
            _log.warning("other commands will not find this server: %s", error)

    state.slot.listen(tell)
    tell()
    try:
        yield
    finally:
        announcement.withdraw()
