"""What every test stands on: no hub, nobody's own data, and the embedded model once a session."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from persona_steering.config import user_cache_dir

_user_cache = user_cache_dir()
# Before anything imports transformers or reads the settings.
os.environ["HF_HUB_OFFLINE"] = "1"
_home = tempfile.TemporaryDirectory(prefix="persona-steer-tests-")
os.environ["PERSONA_STEER_HOME"] = _home.name

if TYPE_CHECKING:
    from persona_steering.backends.transformers.backend import TransformersBackend


def pytest_unconfigure() -> None:
    _home.cleanup()


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """Where converted models are kept from one run of the tests to the next."""
    found = os.environ.get("PERSONA_STEER_TEST_CACHE")
    return Path(found) if found else _user_cache


@pytest.fixture(scope="session")
def embedded_backend(model_cache: Path) -> Iterator[TransformersBackend]:
    """The embedded model on the CPU, in float32."""
    from persona_steering.backends import load
    from persona_steering.errors import DependencyError

    try:
        backend = load("embedded", device="cpu", dtype="float32", cache=model_cache)
    except DependencyError as error:
        pytest.skip(str(error))
    with backend:
        yield backend  # type: ignore[misc]
