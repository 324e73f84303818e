"""Setting a projection to a value: `h + (t - h·u)·u`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from persona_steering.interventions.base import Clamp, Intervention


@dataclass(frozen=True, eq=False, kw_only=True)
class Set(Intervention):
    """`h + (t - h·u)·u`. `values` are the targets t, projections on the unit direction."""

    op: ClassVar[str] = "set"
    value_name: ClassVar[str] = "targets"
    order: ClassVar[int] = 2

    def step(self, layer: int) -> Clamp:
        target = float(self.values[layer])
        return Clamp(self.vector.unit(layer), target, target)
