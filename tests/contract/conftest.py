"""Every family as a loaded backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.backends.tiny import FAMILIES, tiny_backend

from persona_steering.backends.transformers.backend import TransformersBackend


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(params=FAMILIES)
def backend(request: pytest.FixtureRequest, tiny_root: Path) -> TransformersBackend:
    """One after the other, every family."""
    return tiny_backend(request.param, tiny_root)


@pytest.fixture
def llama(tiny_root: Path) -> TransformersBackend:
    return tiny_backend("llama", tiny_root)


@pytest.fixture
def gemma(tiny_root: Path) -> TransformersBackend:
    """Windows shorter than the prompts in every other layer."""
    return tiny_backend("gemma3_text", tiny_root)
