"""Directional ablation: the component along a direction is removed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from persona_steering.errors import RecipeError
from persona_steering.interventions.base import Clamp, Intervention
from persona_steering.interventions.scope import Scope
from persona_steering.vectors.vector import SteeringVector


@dataclass(frozen=True, eq=False, kw_only=True)
class Ablate(Intervention):
    """`h - (h·u)u`. `values` is 0 at every layer it acts on; `Ablate.at` spells that."""

    op: ClassVar[str] = "ablate"
    value_name: ClassVar[str] = "targets"
    order: ClassVar[int] = 1

    @classmethod
    def at(cls, vector: SteeringVector, layers: Iterable[int], *, scope: Scope | None = None) -> Ablate:
        """The ablation of `vector` at `layers`."""
        return cls(vector=vector, values=dict.fromkeys(layers, 0.0), scope=scope or Scope())

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(self.values.values()):
            raise RecipeError(
                f"ablate of {self.vector.name!r} has a target that is not 0.",
                hint="Use set to bring a projection to another value.",
            )

    def step(self, layer: int) -> Clamp:
        return Clamp(self.vector.unit(layer), 0.0, 0.0)
