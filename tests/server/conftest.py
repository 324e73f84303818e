"""A database in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from persona_steering.server.stores.database import Database, database_file


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(database_file(tmp_path))
    yield opened
    opened.close()
