"""`ModelWrapper`: one model as most people want it, over any backend.

It loads on first use. For batches, seeds and several recipes at once, use its `backend`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from persona_steering.backends import load
from persona_steering.backends.base import (
    Backend,
    Completion,
    Request,
    Sampling,
    conversation,
)
from persona_steering.config import Config
from persona_steering.errors import UsageError
from persona_steering.interventions import Add, Floor, Recipe
from persona_steering.vectors import ModelIdentity, SteeringVector, VectorMetadata

if TYPE_CHECKING:
    from torch import Tensor

VectorLike = SteeringVector | Mapping[int, np.ndarray] | np.ndarray


class ModelWrapper:
    """The model that a configuration names. Use it as a context manager, or call `close`."""

    def __init__(self, config: Config, *, backend: Backend | None = None) -> None:
        self.config = config
        self._backend = backend

    @property
    def backend(self) -> Backend:
        """The engine; loads the model the first time."""
        if self._backend is None:
            model = self.config.model
            size = self.config.extraction.batch_size
            self._backend = load(
                model.name,
                device=model.device,
                dtype=model.dtype,
                quantization=model.quantization,
                revision=model.revision,
                trust_remote_code=model.trust_remote_code,
                batch_size=None if size == "auto" else size,
                cache=self.config.cache_dir,
            )
        return self._backend

    @property
    def identity(self) -> ModelIdentity:
        """What tells this model from others. Raises CapabilityError for a remote model, which is text only."""
        return self.backend.identity

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers: 0-based decoder blocks."""
        return tuple(range(self.identity.num_layers))

    def sampling(self, *, seed: int | None = None, max_new_tokens: int | None = None) -> Sampling:
        """The configured sampling. Without a seed, given or configured, a fresh one is drawn."""
        return Sampling.configured(self.config.generation, seed=seed, max_new_tokens=max_new_tokens)

    def generate(self, prompt: str, system: str | None = None, *, sampling: Sampling | None = None) -> str:
        """The model's own answer."""
        return self._complete(prompt, system, Recipe(), sampling=sampling).text

    def generate_with_activations(
        self, prompt: str, system: str | None = None, *, sampling: Sampling | None = None
    ) -> tuple[str, dict[int, Tensor]]:
        """The answer, and the mean response activation of every layer as float32 `[hidden]`."""
        import torch

        done = self._complete(prompt, system, Recipe(), sampling=sampling, capture=self.layers)
        means = {} if done.activations is None else done.activations.mean
        return done.text, {layer: torch.from_numpy(mean) for layer, mean in means.items()}

    def generate_with_steering(
        self,
        prompt: str,
        system: str | None = None,
        *,
        steering_vector: VectorLike,
        strength: float,
        layers: Sequence[int],
        sampling: Sampling | None = None,
    ) -> str:
        """The answer with `strength` times the raw vector added, shared equally over `layers`."""
        if not layers:
            raise UsageError("no layers were given.", hint="Name the layers to steer, for instance [12, 13].")
        vector = self.as_vector(steering_vector)
        add = Add(vector=vector, values=dict.fromkeys(layers, strength / len(layers)))
        return self._complete(prompt, system, Recipe((add,)), sampling=sampling).text

    def generate_with_capping(
        self,
        prompt: str,
        system: str | None = None,
        *,
        axis: VectorLike,
        floor: float | Mapping[int, float],
        layers: Sequence[int],
        sampling: Sampling | None = None,
    ) -> str:
        """The answer with the projection on the unit axis kept at or above `floor` at every one of `layers`."""
        thresholds = floor if isinstance(floor, Mapping) else dict.fromkeys(layers, float(floor))
        if missing := [layer for layer in layers if layer not in thresholds]:
            raise UsageError(f"no floor was given for layers {missing}.", hint="Give one number, or one a layer.")
        cap = Floor(vector=self.as_vector(axis), values={layer: thresholds[layer] for layer in layers})
        return self._complete(prompt, system, Recipe((cap,)), sampling=sampling).text

    def as_vector(self, data: VectorLike, *, name: str = "unnamed") -> SteeringVector:
        """Directions of this model as a vector: one array `[layers, hidden]`, or a mapping from layers."""
        if isinstance(data, SteeringVector):
            return data
        rows = data if isinstance(data, Mapping) else dict(enumerate(np.asarray(data, np.float32)))
        directions = {int(layer): np.asarray(row, np.float32) for layer, row in rows.items()}
        metadata = VectorMetadata(name=name, kind="persona", model=self.identity, sign="+ as given", source="array")
        return SteeringVector(directions, metadata)

    def close(self) -> None:
        """Frees the model; the next use loads it again."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _complete(
        self,
        prompt: str,
        system: str | None,
        recipe: Recipe,
        *,
        sampling: Sampling | None,
        capture: tuple[int, ...] = (),
    ) -> Completion:
        request = Request(
            conversation(prompt, system), recipe=recipe, sampling=sampling or self.sampling(), capture=capture
        )
        return self.backend.generate([request])[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
