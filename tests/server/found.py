"""A server of a tiny model that the command line finds: it serves the workspace in a home of its own, and says so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.api import Api, make_state, running

from persona_steering.config import HOME_VARIABLE
from persona_steering.server.door.security import Door
from persona_steering.server.presence import announced

KEY = "k3y"


@contextlib.contextmanager
def found_server(home: Path, *, key: str | None = KEY) -> Iterator[Api]:
    """Serves `home`'s workspace until the block ends. `at_home` has to hold meanwhile."""
    with at_home(home):
        state = make_state(home / "data")
        with running(state, Door.at("127.0.0.1", api_key=key)) as api, announced(state, api.url, key=key):
            yield api


@contextlib.contextmanager
def at_home(home: Path) -> Iterator[None]:
    """The user's folders are below `home`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(home))
        yield
