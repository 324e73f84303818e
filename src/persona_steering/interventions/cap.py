"""Activation capping: a floor or a ceiling on the projection along a unit axis.

Source: "The Assistant Axis" (arXiv 2601.10387), equation 1. A floor on an axis at τ and a ceiling on the negated
axis at -τ are the same intervention; published capping files use the second spelling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from persona_steering.interventions.base import UNBOUNDED, Clamp, Intervention


@dataclass(frozen=True, eq=False, kw_only=True)
class Floor(Intervention):
    """`h + max(τ - h·u, 0)·u`. `values` are the thresholds τ, projections on the unit axis."""

    op: ClassVar[str] = "floor"
    value_name: ClassVar[str] = "thresholds"
    order: ClassVar[int] = 3

    def step(self, layer: int) -> Clamp:
        return Clamp(self.vector.unit(layer), float(self.values[layer]), UNBOUNDED)


@dataclass(frozen=True, eq=False, kw_only=True)
class Ceiling(Intervention):
    """`h - max(h·u - τ, 0)·u`. `values` are the thresholds τ, projections on the unit axis."""

    op: ClassVar[str] = "ceiling"
    value_name: ClassVar[str] = "thresholds"
    order: ClassVar[int] = 3

    def step(self, layer: int) -> Clamp:
        return Clamp(self.vector.unit(layer), -UNBOUNDED, float(self.values[layer]))
