"""Vectors of random directions on models that exist only by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from persona_steering.vectors import ModelIdentity, SteeringVector, VectorKind, VectorMetadata

MakeModel = Callable[..., ModelIdentity]
MakeVector = Callable[..., SteeringVector]


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    def make(
        id: str = "hf:tiny/llama",
        *,
        fingerprint: str = "0123456789abcdef",
        num_layers: int = 6,
        hidden_size: int = 8,
    ) -> ModelIdentity:
        return ModelIdentity(
            id=id, fingerprint=fingerprint, num_layers=num_layers, hidden_size=hidden_size, model_type="llama"
        )

    return make


@pytest.fixture(scope="session")
def make_vector(make_model: MakeModel) -> MakeVector:
    def make(
        name: str = "sage",
        *,
        kind: VectorKind = "persona",
        model: ModelIdentity | None = None,
        layers: Iterable[int] | None = None,
        seed: int = 0,
        **metadata: object,
    ) -> SteeringVector:
        model = model or make_model()
        rng = np.random.default_rng(seed)
        covered = range(model.num_layers) if layers is None else layers
        directions = {i: rng.normal(size=model.hidden_size).astype(np.float32) for i in covered}
        fields = {"name": name, "kind": kind, "model": model, "sign": "+ is more", "source": "test"}
        return SteeringVector(directions, VectorMetadata.model_validate(fields | metadata))

    return make
