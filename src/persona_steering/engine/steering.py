"""`SteeringEngine`: names and settings become a recipe, and the recipe an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from persona_steering.backends.base import Completion, Message, Request, Sampling, conversation
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.calibration.caps import Cap, capping_band, floor_at_percentile, make_cap
from persona_steering.calibration.layers import addition
from persona_steering.config import Config
from persona_steering.config.schema import Layers
from persona_steering.errors import RecipeError
from persona_steering.interventions import Add, Ceiling, Floor, Intervention, Recipe, format_blend, parse_strength
from persona_steering.personas.manager import PersonaManager
from persona_steering.vectors import Calibration, SteeringVector
from persona_steering.vectors.card import active_calibration

# A vector without a calibration has no measured strength. It gets the middle of the doses that the calibration
# searches, shared over the middle of its layers, and a warning that says so.
UNCALIBRATED_DOSE = 0.2
UNCALIBRATED_BAND = (0.32, 0.58)


@dataclass(frozen=True)
class Steering:
    """A recipe, and what its user should know of it."""

    recipe: Recipe
    blend: Mapping[str, float]
    safety: bool
    warnings: tuple[str, ...] = ()

    def describe(self) -> str:
        """The short form, for people."""
        return format_blend(self.blend) if self.blend else "base"


class SteeringEngine:
    """Answers in character. Strength 1.0 is the strongest dose measured to stay coherent."""

    def __init__(self, model: ModelWrapper, manager: PersonaManager, config: Config) -> None:
        self.model = model
        self.manager = manager
        self._config = config
        self._settings = config.steering
        self._percentile = config.steering.safety_floor_percentile
        self._default_strength = config.steering.default_strength

    def set_safety_floor(self, percentile: float) -> None:
        """Where the floor on the safety axis lies: a percentile (0-100) of the answers to safe prompts."""
        if not 0 <= percentile <= 100:
            raise RecipeError(f"{percentile} is not a percentile.", hint="Give a number from 0 to 100.")
        self._percentile = float(percentile)

    def set_default_strength(self, strength: float) -> None:
        """The strength of a persona that is asked for without one, -2 to 2."""
        self._default_strength = parse_strength(strength)

    @property
    def default_strength(self) -> float:
        return self._default_strength

    def generate(
        self,
        prompt: str,
        *,
        persona: str | None = None,
        persona_strength: float | None = None,
        system: str | None = None,
        safety: bool | None = None,
        sampling: Sampling | None = None,
    ) -> str:
        """The answer of one persona, or of the base model when none is named."""
        strength = self._default_strength if persona_strength is None else persona_strength
        blend = {} if persona is None else {persona: strength}
        return self.generate_with_composite(prompt, blend, system=system, safety=safety, sampling=sampling)

    def generate_with_composite(
        self,
        prompt: str,
        blend: Mapping[str, float],
        *,
        system: str | None = None,
        safety: bool | None = None,
        sampling: Sampling | None = None,
    ) -> str:
        """The answer of several personas and traits at once, each with its own strength.

        Where safety is on and the model has no safety axis yet, one is extracted first (once a model; half a
        minute on a CPU) and stored.
        """
        if self._is_safe(safety) and any(blend.values()):
            self._ensure_safety_axis(blend)
        steering = self.steering(blend, safety=safety)
        return self.complete(conversation(prompt, system), steering, sampling=sampling).text

    def complete(
        self, messages: Sequence[Message], steering: Steering, *, sampling: Sampling | None = None
    ) -> Completion:
        """The whole answer to a conversation."""
        return self.model.backend.generate([self.request(messages, steering, sampling)])[0]

    def stream(
        self,
        messages: Sequence[Message],
        steering: Steering,
        *,
        sampling: Sampling | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[str | Completion]:
        """Pieces of the answer as they are written, then its Completion."""
        return self.model.backend.stream(self.request(messages, steering, sampling), cancelled=cancelled)

    def request(self, messages: Sequence[Message], steering: Steering, sampling: Sampling | None) -> Request:
        """The request that both of the above send."""
        return Request(tuple(messages), recipe=steering.recipe, sampling=sampling or self.model.sampling())

    def steering(
        self,
        blend: Mapping[str, float],
        *,
        safety: bool | None = None,
        layers: Mapping[str, Sequence[int]] | None = None,
        caps: Sequence[Cap] = (),
    ) -> Steering:
        """The recipe of a blend; `safety` None takes the configured choice.

        `layers` says for some of the names where to steer instead; the dose is then shared over them. `caps` are bounds
        of one's own, beside the floor of safety.
        With safety every vector loses its component along the safety axis, and a floor on that axis is added.
        The base model is left as it is. Raises NotFoundError, ModelMismatchError or RecipeError.
        """
        self.manager.bind(self.model.identity)
        safe = self._is_safe(safety)
        weights = {name: parse_strength(weight) for name, weight in blend.items()}
        active = {name: weight for name, weight in weights.items() if weight}
        items: list[Intervention] = []
        warnings: list[str] = []
        for name, weight in active.items():
            raw = self.manager.load(name)
            vector = self.manager.get_vector(name, safe=safe)
            calibration = vector.metadata.calibration or raw.metadata.calibration
            chosen = tuple(layers[name]) if layers and name in layers else self._settings.steering_layers
            items.append(self._addition(vector, calibration, weight, chosen))
            warnings += _cautions(name, weight, calibration)
            if layers and name in layers and calibration is not None:
                warnings.append(f"{name!r} was not measured at these layers.")
        if sum(map(abs, active.values())) > 1 and len(active) > 1:
            warnings.append("the strengths add up to more than 1: coherence was not measured for this blend.")
        if safe and active:
            items.append(self.safety_floor())
        bounds = [self.cap(cap) for cap in caps]
        _check_bounds(bounds)
        items += bounds
        return Steering(Recipe(tuple(items)), weights, safe and bool(active), tuple(warnings))

    def safety_floor(self) -> Floor:
        """The floor on the safety axis, at the configured layers and percentile."""
        axis = self.manager.safety_axis()
        return floor_at_percentile(axis, self._percentile, self.capping_layers(axis))

    def cap(self, cap: Cap) -> Floor | Ceiling:
        """A bound on the projection along any vector of the model. Raises NotFoundError and RecipeError."""
        self.manager.bind(self.model.identity)
        axis = self.manager.find_vector(cap.axis)
        return make_cap(cap, axis, cap.layers or self.capping_layers(axis))

    def capping_layers(self, axis: SteeringVector) -> tuple[int, ...]:
        """Where an axis is capped unless somebody says otherwise: as configured."""
        layers = self._settings.capping_layers
        return capping_band(axis, self.model.identity.num_layers) if layers == "auto" else tuple(layers)

    def reading_layer(self, vector: SteeringVector) -> int:
        """Where a vector is read unless somebody says otherwise: the last layer that it steers, or is capped at."""
        if vector.metadata.kind == "axis":
            return self.capping_layers(vector)[-1]
        calibration = active_calibration(vector.metadata, safety=self._settings.safety)
        if calibration is not None:
            return calibration.layers[-1]
        return _middle(vector, self.model.identity.num_layers)[-1]

    def _is_safe(self, safety: bool | None) -> bool:
        return self._settings.safety if safety is None else safety

    def _ensure_safety_axis(self, names: Iterable[str]) -> None:
        self.manager.bind(self.model.identity)
        for name in names:
            self.manager.load(name)  # an unknown name is refused before anything is made
        if not self.manager.has_safety_axis():
            from persona_steering.engine.create import EFFORTS, Creator  # late: it builds on this module

            Creator(self.model, self.manager, self._config, effort=EFFORTS["quick"]).extract_safety_axis()

    def _addition(self, vector: SteeringVector, calibration: Calibration | None, weight: float, chosen: Layers) -> Add:
        strength = weight * self._settings.steering_scale
        if calibration is not None and chosen == "auto":
            return Add(vector=vector, values={k: strength * c for k, c in calibration.coefficients.items()})
        dose = UNCALIBRATED_DOSE if calibration is None else calibration.relative_dose
        layers = _middle(vector, self.model.identity.num_layers) if chosen == "auto" else tuple(chosen)
        return addition(vector, layers, strength * dose)


def _check_bounds(bounds: Sequence[Floor | Ceiling]) -> None:
    """Raises RecipeError where a floor lies above a ceiling: the one applied last would undo the other."""
    for low in (one for one in bounds if isinstance(one, Floor)):
        for high in (one for one in bounds if isinstance(one, Ceiling) and one.vector.digest == low.vector.digest):
            for layer in low.values.keys() & high.values.keys():
                if low.values[layer] > high.values[layer]:
                    raise RecipeError(
                        f"the floor on {low.vector.name!r} lies above its ceiling at layer {layer}.",
                        hint="Give a floor below the ceiling.",
                    )


def _middle(vector: SteeringVector, num_layers: int) -> tuple[int, ...]:
    low, high = (depth * num_layers for depth in UNCALIBRATED_BAND)
    return tuple(layer for layer in vector.layers if low <= layer <= high) or vector.layers


def _cautions(name: str, weight: float, calibration: Calibration | None) -> Iterator[str]:
    if calibration is None:
        yield f"{name!r} is not calibrated, so its strength is not a measured one."
        return
    if calibration.weak:
        yield f"{name!r} is weak on this model: {calibration.weak_reason}."
    if abs(weight) > 1:
        yield f"strength {weight:g} of {name!r} is beyond the strongest dose measured to stay coherent (1.0)."
