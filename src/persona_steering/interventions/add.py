"""Additive steering (activation addition): `h + c·v`, with the raw direction `v`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from persona_steering.interventions.base import Intervention, Shift


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Intervention):
    """`h + c·v`. `values` are the coefficients of the raw direction; negative ones steer away."""

    op: ClassVar[str] = "add"
    value_name: ClassVar[str] = "coefficients"
    order: ClassVar[int] = 0

    def step(self, layer: int) -> Shift:
        return Shift(np.float32(self.values[layer]) * self.vector.directions[layer])
