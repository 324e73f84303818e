"""What may be done to a hidden state: data plus one formula.

Every intervention lowers, layer by layer, to one of two steps, and those two are the only lines in the project
that change a hidden state. They use `* + - @` and comparison alone, so the same lines run on numpy and torch,
for one token or a batch in which every row has its own direction and bounds.

    Shift   h + delta
    Clamp   h + (clip(h·u, low, high) - h·u) u       floor, ceiling, set and ablate are bounds of this
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import JsonValue

from persona_steering.errors import RecipeError
from persona_steering.interventions.scope import Scope
from persona_steering.vectors.vector import SteeringVector

UNBOUNDED = 1e30  # stands for infinity: infinity times zero would be nan in the formula below

# numpy or torch; the formulas are written for both, and neither is a common type.
Array = Any


@dataclass(frozen=True, slots=True)
class Shift:
    """`h + delta`; delta is `[hidden]`."""

    delta: np.ndarray


@dataclass(frozen=True, slots=True)
class Clamp:
    """Brings the projection on the unit direction `[hidden]` into `[low, high]`."""

    direction: np.ndarray
    low: float
    high: float


Step = Shift | Clamp


def shift(hidden: Array, delta: Array) -> Array:
    """`h + delta` for hidden `[..., hidden]` and a delta that broadcasts to it."""
    return hidden + delta


def clamp_excess(projection: Array, low: Array, high: Array) -> Array:
    """How far a projection must move to lie in `[low, high]`: positive below, negative above, else zero."""
    below, above = low - projection, projection - high
    return below * (below > 0) - above * (above > 0)


def displacement(hidden: Array, direction: Array, low: Array, high: Array) -> Array:
    """How far each hidden `[..., hidden]` must move along the unit `direction` for its projection to be in bounds.

    `direction` broadcasts to hidden; `low`, `high` and the result have the shape of hidden without its last axis.
    """
    return clamp_excess((hidden * direction).sum(-1), low, high)


def displace(hidden: Array, direction: Array, distance: Array) -> Array:
    """hidden `[..., hidden]`, moved by `distance` along the unit `direction`."""
    return hidden + distance[..., None] * direction


def clamp(hidden: Array, direction: Array, low: Array, high: Array) -> Array:
    """Moves hidden along the unit `direction` until its projection lies in `[low, high]`; shapes as above."""
    return displace(hidden, direction, displacement(hidden, direction, low, high))


@dataclass(frozen=True, eq=False, kw_only=True)
class Intervention(ABC):
    """One operation at one or more layers, on the positions of its scope.

    `values` maps a layer (0-based decoder block) to the number that the operation takes there.
    """

    op: ClassVar[str]
    value_name: ClassVar[str]
    order: ClassVar[int]  # within a layer: additions first, bounds last, so that a bound has the last word

    vector: SteeringVector
    values: Mapping[int, float]
    scope: Scope = field(default_factory=Scope)

    def __post_init__(self) -> None:
        if not self.values:
            raise RecipeError(f"{self.op} of {self.vector.name!r} names no layer.", hint="Give at least one layer.")
        # a copy: a caller's later change would leave the hash of a recipe behind
        object.__setattr__(self, "values", dict(self.values))
        for layer, value in self.values.items():
            if layer not in self.vector.directions:
                raise RecipeError(
                    f"{self.vector.name!r} has no direction at layer {layer}.",
                    hint=f"It covers layers {_spans(self.vector.layers)}.",
                )
            if not np.isfinite(value):
                raise RecipeError(f"the {self.value_name} of {self.vector.name!r} at layer {layer} is {value}.")

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted(self.values))

    @abstractmethod
    def step(self, layer: int) -> Step:
        """The step at one of `layers`."""

    def to_dict(self) -> dict[str, JsonValue]:
        """The canonical form: layers ascending, the vector by name and digest."""
        # adding 0.0 makes -0.0 and 0.0, which are equal, look equal
        values: dict[str, JsonValue] = {str(layer): float(self.values[layer]) + 0.0 for layer in self.layers}
        return {
            "op": self.op,
            "vector": {"name": self.vector.name, "sha256": self.vector.digest},
            self.value_name: values,
            "scope": str(self.scope),
        }


def _spans(layers: tuple[int, ...]) -> str:
    if layers == tuple(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]}-{layers[-1]}"
    return ", ".join(map(str, layers))
