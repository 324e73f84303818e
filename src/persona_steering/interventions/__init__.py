"""What is done to a hidden state: add, floor, ceiling, ablate, set; where (scope); and all of it together (recipe)."""

from persona_steering.interventions.ablate import Ablate
from persona_steering.interventions.add import Add
from persona_steering.interventions.assign import Set
from persona_steering.interventions.base import (
    Clamp,
    Intervention,
    Shift,
    Step,
    clamp,
    clamp_excess,
    displace,
    displacement,
    shift,
)
from persona_steering.interventions.cap import Ceiling, Floor
from persona_steering.interventions.recipe import (
    INTERVENTIONS,
    Blend,
    Recipe,
    format_blend,
    parse_blend,
    parse_strength,
)
from persona_steering.interventions.scope import END, Scope

__all__ = [
    "END",
    "INTERVENTIONS",
    "Ablate",
    "Add",
    "Blend",
    "Ceiling",
    "Clamp",
    "Floor",
    "Intervention",
    "Recipe",
    "Scope",
    "Set",
    "Shift",
    "Step",
    "clamp",
    "clamp_excess",
    "displace",
    "displacement",
    "format_blend",
    "parse_blend",
    "parse_strength",
    "shift",
]
