"""The seam between what people use and where the model runs: in this process, or behind a server.

A `SteeringService` is asked in plain data (messages, blends, sampling) and answers in plain data, so that nobody
who uses it can tell the one from the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from persona_steering.backends.base import Completion, Message, ModelInfo, Sampling
from persona_steering.calibration.layers import relative_dose
from persona_steering.engine.steering import Steering, SteeringEngine
from persona_steering.interventions import Add, Intervention, format_blend


@dataclass(frozen=True, slots=True)
class Action:
    """One intervention of a recipe, for people.

    `relative_dose` belongs to an addition: the sum over its layers of ||c·v|| / ||h||. None where it is unknown.
    """

    op: str
    vector: str
    layers: tuple[int, ...]
    relative_dose: float | None = None


@dataclass(frozen=True)
class Plan:
    """What a blend comes to on a model. `recipe` is the canonical form, `recipe_hash` its hash."""

    blend: Mapping[str, float]
    safety: bool
    warnings: tuple[str, ...]
    recipe: list[JsonValue]
    recipe_hash: str
    actions: tuple[Action, ...]

    def describe(self) -> str:
        """The short form, which `parse_blend` reads back; "base" for the unsteered model."""
        return format_blend(self.blend) if self.blend else "base"


class SteeringService(ABC):
    """Answers conversations with one model."""

    @property
    @abstractmethod
    def model(self) -> ModelInfo:
        """What is loaded and where it runs."""

    @abstractmethod
    def plan(self, blend: Mapping[str, float], *, safety: bool | None = None) -> Plan:
        """What a blend would do; `safety` None takes the configured choice.

        Raises NotFoundError, ModelMismatchError or RecipeError.
        """

    @abstractmethod
    def stream(
        self,
        messages: Sequence[Message],
        plan: Plan,
        *,
        sampling: Sampling,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[str | Completion]:
        """Pieces of the answer as they are written, then its Completion."""

    @abstractmethod
    def answers(
        self,
        messages: Sequence[Message],
        plans: Sequence[Plan],
        *,
        sampling: Sampling,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Completion]:
        """The answer of every plan to the same conversation with the same seed, in one batch, in order."""

    @abstractmethod
    def available(self) -> list[str]:
        """Names of the personas and traits there are for the model."""

    @abstractmethod
    def loaded(self) -> list[str]:
        """Names of the personas and traits held in memory."""

    @abstractmethod
    def load(self, name: str) -> None:
        """Takes a persona or trait into memory. Raises NotFoundError with the nearest names."""

    @abstractmethod
    def unload(self, name: str) -> None:
        """Drops a persona or trait from memory. Raises NotFoundError when it is not there."""


class LocalService(SteeringService):
    """The service of a model in this process."""

    def __init__(self, engine: SteeringEngine) -> None:
        self._engine = engine
        engine.manager.bind(engine.model.identity)

    @property
    def model(self) -> ModelInfo:
        return self._engine.model.backend.info

    def plan(self, blend: Mapping[str, float], *, safety: bool | None = None) -> Plan:
        steering = self._engine.steering(blend, safety=safety)
        return Plan(
            blend=dict(steering.blend),
            safety=steering.safety,
            warnings=steering.warnings,
            recipe=steering.recipe.to_list(),
            recipe_hash=steering.recipe.hash,
            actions=tuple(map(describe_action, steering.recipe.interventions)),
        )

    def stream(
        self,
        messages: Sequence[Message],
        plan: Plan,
        *,
        sampling: Sampling,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[str | Completion]:
        return self._engine.stream(messages, self._steering(plan), sampling=sampling, cancelled=cancelled)

    def answers(
        self,
        messages: Sequence[Message],
        plans: Sequence[Plan],
        *,
        sampling: Sampling,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Completion]:
        requests = [self._engine.request(messages, self._steering(plan), sampling) for plan in plans]
        return self._engine.model.backend.generate(requests, cancelled=cancelled)

    def available(self) -> list[str]:
        return self._engine.manager.list_available()

    def loaded(self) -> list[str]:
        return self._engine.manager.list_loaded()

    def load(self, name: str) -> None:
        self._engine.manager.load(name)

    def unload(self, name: str) -> None:
        self._engine.manager.unload(name)

    def _steering(self, plan: Plan) -> Steering:
        return self._engine.steering(plan.blend, safety=plan.safety)


def describe_action(item: Intervention) -> Action:
    """An intervention for people."""
    norms = item.vector.metadata.reference_norms
    known = isinstance(item, Add) and all(layer in norms for layer in item.vector.layers)
    dose = relative_dose(item.vector, dict(item.values)) if known else None
    return Action(item.op, item.vector.name, item.layers, dose)
