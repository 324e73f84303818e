"""A killed creation resumes with the same command and ends with the vector of an uninterrupted one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.backends.tiny import save_tiny

SCRIPT = Path(__file__).with_name("create_persona.py")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("model"), max_position_embeddings=4096)


def create(model: Path, workspace: Path, die_at: str = "never") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(model), str(workspace), die_at]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def uninterrupted(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    done = create(model_folder, tmp_path_factory.mktemp("whole"))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("die_at", ["baseline:32", "persona:32", "bands:0"])
def test_killed_in_the_middle_the_same_command_gives_the_same_vector(
    die_at: str, model_folder: Path, uninterrupted: str, tmp_path: Path
) -> None:
    killed = create(model_folder, tmp_path, die_at)
    assert killed.returncode == -signal.SIGKILL
    assert not list((tmp_path / "vectors").rglob("cook.safetensors"))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    assert files, "the batches that had ended are on disk"
    resumed = create(model_folder, tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == uninterrupted
    assert {path: path.stat().st_mtime_ns for path in files} == files, "no batch was made twice"
