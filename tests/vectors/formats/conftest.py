"""Files as the other tools write them, made with torch itself and not with the code under test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")


class RunsCode:
    """A pickle of this creates `path` when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def saved(tmp_path):
    def save(payload, name="file.pt"):
        torch.save(payload, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def runs_code(tmp_path):
    """The payload, and the file whose existence proves that it ran."""
    return RunsCode(tmp_path / "it-ran"), tmp_path / "it-ran"
