"""Recipe: the full list of interventions of one request, with a canonical form and a hash.

The short form of a blend is `sage:0.5,formal:-0.3`: names with strengths. Turning a blend into a recipe takes
calibrated vectors and is the engine's work; this module knows only the grammar.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import JsonValue

from persona_steering.errors import RecipeError, nearest
from persona_steering.interventions.ablate import Ablate
from persona_steering.interventions.add import Add
from persona_steering.interventions.assign import Set
from persona_steering.interventions.base import Intervention, Step
from persona_steering.interventions.cap import Ceiling, Floor
from persona_steering.interventions.scope import Scope
from persona_steering.vectors.vector import SteeringVector, check_name

INTERVENTIONS: dict[str, type[Intervention]] = {kind.op: kind for kind in (Add, Ablate, Set, Floor, Ceiling)}

MAX_STRENGTH = 2.0


@dataclass(frozen=True)
class Recipe:
    """An ordered list of interventions. The empty recipe leaves the model as it is."""

    interventions: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        # A stable sort: additions before bounds, equals in the order in which they were given.
        ordered = tuple(sorted(self.interventions, key=lambda item: item.order))
        object.__setattr__(self, "interventions", ordered)

    def __bool__(self) -> bool:
        return bool(self.interventions)

    @property
    def layers(self) -> tuple[int, ...]:
        """Every layer that any intervention acts on, ascending."""
        return tuple(sorted({layer for item in self.interventions for layer in item.layers}))

    def steps(self, layer: int) -> Iterator[tuple[Step, Scope]]:
        """What happens at `layer`, in order."""
        for item in self.interventions:
            if layer in item.values:
                yield item.step(layer), item.scope

    def to_list(self) -> list[JsonValue]:
        """The canonical form as JSON values."""
        return [item.to_dict() for item in self.interventions]

    @cached_property
    def hash(self) -> str:
        """SHA-256 (16 hex digits) of the canonical JSON. Equal recipes have equal hashes on every machine."""
        text = json.dumps(self.to_list(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_list(
        cls, items: Iterable[Mapping[str, JsonValue]], resolve: Callable[[str, str], SteeringVector]
    ) -> Recipe:
        """The inverse of `to_list`; `resolve(name, sha256)` yields the vectors.

        Raises RecipeError on an unknown operation or key, and when a resolved vector has another digest.
        """
        return cls(tuple(_intervention(item, resolve) for item in items))


def _intervention(item: Mapping[str, JsonValue], resolve: Callable[[str, str], SteeringVector]) -> Intervention:
    op = str(item.get("op"))
    if op not in INTERVENTIONS:
        raise RecipeError(f"unknown operation {op!r}.", hint=nearest(op, INTERVENTIONS))
    kind = INTERVENTIONS[op]
    known = {"op", "vector", kind.value_name, "scope"}
    for key in item:
        if key not in known:
            raise RecipeError(f"unknown key {key!r} in {op}.", hint=nearest(key, known))
    reference, values = item.get("vector"), item.get(kind.value_name)
    if not isinstance(reference, dict) or not isinstance(values, dict):
        raise RecipeError(f"{op} needs the objects 'vector' and {kind.value_name!r}.")
    vector = resolve(str(reference.get("name")), str(reference.get("sha256")))
    if vector.digest != reference.get("sha256"):
        raise RecipeError(
            f"{vector.name!r} is not the vector this recipe was made with.", hint="Make the recipe again."
        )
    try:
        numbers = {int(layer): float(str(value)) for layer, value in values.items()}
    except ValueError as error:
        raise RecipeError(f"{op} of {vector.name!r} has a value that is not a number: {error}.") from error
    if len(numbers) != len(values):
        raise RecipeError(f"{op} of {vector.name!r} names a layer twice.", hint="Give each layer once.")
    return kind(vector=vector, values=numbers, scope=Scope.parse(str(item.get("scope", "response"))))


Blend = dict[str, float]


def parse_strength(text: str | float) -> float:
    """A strength in [-2, 2]. Raises RecipeError."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        raise RecipeError(f"{text!r} is not a strength.", hint="Give a number from -2 to 2.") from None
    if not math.isfinite(value) or abs(value) > MAX_STRENGTH:
        raise RecipeError(f"strength {text} is out of range.", hint="Give a number from -2 to 2.")
    return value


def parse_blend(text: str, *, default: float = 1.0) -> Blend:
    """Reads `sage:0.5,formal:-0.3`; a name without a number has strength `default`.

    Raises RecipeError on an empty blend, a name given twice or a strength that is not a number.
    """
    blend: Blend = {}
    for part in text.split(","):
        name, colon, number = (piece.strip() for piece in part.partition(":"))
        if not name:
            raise RecipeError(f"{text!r} is not a blend.", hint="Write name:strength,name:strength.")
        check_name(name)
        if name in blend:
            raise RecipeError(f"the blend names {name!r} twice.", hint="Give each name once.")
        blend[name] = parse_strength(number) if colon else default
    return blend


def format_blend(blend: Mapping[str, float]) -> str:
    """The short form of a blend; `parse_blend` reads it back."""
    return ",".join(f"{name}:{_shortest(strength)}" for name, strength in blend.items())


def _shortest(number: float) -> str:
    short = f"{number:g}"
    return short if float(short) == number else repr(float(number))
