"""A tiny model in a folder, a store with vectors of it, and the command line as a function."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest
from tests.backends.tiny import LAYERS, open_tiny, save_tiny

from persona_steering.cli.main import run
from persona_steering.engine import create
from persona_steering.vectors import Calibration, Interval, ModelIdentity, SteeringVector, VectorMetadata, VectorStore


@dataclass(frozen=True)
class Result:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Result]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> ModelIdentity:
    """A random Llama in a folder, which its id names."""
    folder = save_tiny("llama", tmp_path_factory.mktemp("cli") / "llama", max_position_embeddings=1024)
    with open_tiny(folder) as backend:
        return backend.info.identity


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's settings and vectors but the test's."""
    monkeypatch.setenv("PERSONA_STEER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("PERSONA_STEER_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: str, stdin: str | TextIO = "") -> Result:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin) if isinstance(stdin, str) else stdin)
        capsys.readouterr()
        code = run(arguments)
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture
def on_tiny(cli: Cli, tiny_model: ModelIdentity) -> Cli:
    """The command line on the tiny model."""

    def call(*arguments: str, stdin: str | TextIO = "") -> Result:
        command, *rest = arguments
        return cli(command, "--model", tiny_model.id, *rest, stdin=stdin)

    return call


@pytest.fixture
def store(home: Path) -> VectorStore:
    return VectorStore(home / "data" / "vectors")


@pytest.fixture
def stored(store: VectorStore, tiny_model: ModelIdentity) -> VectorStore:
    """sage (ready), bland (weak), raw (not calibrated), a trait, and the safety axis of the tiny model."""
    for vector in (
        make_vector(tiny_model, "sage", calibration=make_calibration()),
        make_vector(tiny_model, "bland", calibration=make_calibration(weak_reason="persona score 0.12")),
        make_vector(tiny_model, "raw"),
        make_vector(tiny_model, "calm", kind="trait", calibration=make_calibration()),
        make_vector(tiny_model, "safety", kind="axis", thresholds={"1": dict.fromkeys(range(LAYERS), -0.5)}),
    ):
        store.save(vector)
    return store


@pytest.fixture
def little_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least that makes and measures a vector."""
    little = create.Effort(
        prompts_per_question=1,
        questions=16,
        max_new_tokens=12,
        calibration_questions=12,
        search_questions=4,
        coarse_questions=2,
        coarse_doses=(0.2,),
        controls=1,
        safety_prompts=8,
    )
    monkeypatch.setattr(create, "EFFORTS", {"quick": little, "standard": little, "thorough": little})


def make_calibration(*, weak_reason: str = "") -> Calibration:
    return Calibration(
        layers=(1, 2),
        coefficients={1: 0.4, 2: 0.3},
        relative_dose=0.24,
        weak=bool(weak_reason),
        weak_reason=weak_reason,
        persona_score=Interval(mean=0.83, low=0.71, high=0.95),
        coherence=Interval(mean=78.4, low=70.1, high=85.2),
        control_score=Interval(mean=0.03, low=-0.05, high=0.11),
        num_answers=20,
        num_controls=2,
    )


def make_vector(model: ModelIdentity, name: str, **metadata: object) -> SteeringVector:
    rng = np.random.default_rng(list(name.encode()))
    directions = {layer: rng.normal(size=model.hidden_size).astype(np.float32) for layer in range(model.num_layers)}
    fields: dict[str, object] = {
        "name": name,
        "kind": "persona",
        "model": model,
        "sign": f"+ is more {name}",
        "source": "test",
        "reference_norms": dict.fromkeys(range(model.num_layers), 5.0),
        "created": "2026-01-01T00:00:00+00:00",
    }
    return SteeringVector(directions, VectorMetadata.model_validate(fields | metadata))
