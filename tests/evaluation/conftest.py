"""A tiny model, vectors of it, and answers written by hand with activations of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from tests.backends.tiny import make_vector, tiny_backend

from persona_steering.backends.base import Request
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.evaluation.held_out import Sides
from persona_steering.extraction.contrast import Group, Prompted
from persona_steering.extraction.run import Answered
from persona_steering.vectors import SteeringVector

Ask = Callable[[Sequence[Request], str], list[str]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return tiny_backend("llama", tmp_path_factory.getbasetemp() / "evaluation", max_position_embeddings=1024)


@pytest.fixture
def ask(tiny: TransformersBackend) -> Ask:
    """Asks the tiny model; nothing is kept."""
    return lambda requests, phase: [done.text for done in tiny.generate(requests)]


@pytest.fixture
def vector(tiny: TransformersBackend) -> SteeringVector:
    made = make_vector(tiny.identity)
    norms = dict.fromkeys(made.layers, 5.0)
    return SteeringVector(made.directions, made.metadata.model_copy(update={"reference_norms": norms}))


def group(rows: Sequence[tuple[str, np.ndarray]], tokens: Sequence[int] | None = None) -> Group:
    """Answers to questions with given mean activations `[layers, hidden]`."""
    lengths = tokens or [8] * len(rows)
    return Group(
        tuple(Prompted(question, None) for question, _ in rows),
        tuple(
            Answered("text", length, mean.astype(np.float32), None)
            for (_, mean), length in zip(rows, lengths, strict=True)
        ),
    )


def planted_sides(
    vector: SteeringVector, *, signal: float, questions: int = 12, repeats: int = 2, seed: int = 0
) -> Sides:
    """Noise, with `signal` times the unit direction on the positive side at every layer."""
    rng = np.random.default_rng(seed)
    units = np.stack([vector.unit(layer) for layer in vector.layers])
    names = [f"question {i}" for i in range(questions) for _ in range(repeats)]
    noise = rng.normal(size=(2, len(names), *units.shape))
    positive = group([(name, row + signal * units) for name, row in zip(names, noise[0], strict=True)])
    negative = group([(name, row) for name, row in zip(names, noise[1], strict=True)])
    return Sides(positive, negative, vector.layers)
