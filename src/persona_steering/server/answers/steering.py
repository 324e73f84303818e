"""From what a request says of steering to the recipe, and to the echo that its answer carries.

What is asked comes in layers, each with the last word on its names: the model id, a preset, the request itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from persona_steering.backends.tokens import Trace
from persona_steering.calibration.caps import Cap, CapOp
from persona_steering.config import Config
from persona_steering.engine.service import describe_action
from persona_steering.engine.steering import Steering
from persona_steering.errors import NotFoundError, PersonaSteeringError, unknown
from persona_steering.interventions import Add, Ceiling, Floor, Recipe, format_blend, parse_blend
from persona_steering.server.errors import ApiError, as_api_error
from persona_steering.server.limits import LIMITS
from persona_steering.server.model.serving import Serving
from persona_steering.server.schemas.steering import (
    AppliedCap,
    AppliedSteering,
    AppliedVector,
    CapRequest,
    SteeredVector,
    SteeringField,
    SteeringRequest,
    TracedAxis,
    TraceRequest,
)
from persona_steering.server.stores.presets import PresetStore


@dataclass(frozen=True)
class Steered:
    """What a request's steering comes to on the loaded model."""

    steering: Steering
    preset: str | None = None
    readings: tuple[Trace, ...] = ()

    @property
    def recipe(self) -> Recipe:
        """What is done to the model."""
        return self.steering.recipe

    @property
    def traces(self) -> list[TracedAxis]:
        """What is read of every token, for the answer."""
        return [TracedAxis(axis=one.label, layer=one.layer) for one in self.readings]

    @property
    def short(self) -> str:
        """Names and strengths, as `parse_blend` reads them; empty for the base model."""
        return format_blend({name: weight for name, weight in self.steering.blend.items() if weight})

    def echo(self, *, caps_engaged: int | None = None) -> AppliedSteering | None:
        """What an answer says of its steering; None where the model is left as it is."""
        if not self.recipe:
            return None
        items = self.recipe.interventions
        return AppliedSteering(
            hash=self.recipe.hash,
            short=self.short,
            preset=self.preset,
            applied=[self._vector(item) for item in items if isinstance(item, Add)],
            caps=[_cap_echo(item) for item in items if isinstance(item, Floor | Ceiling)],
            safety=self.steering.safety,
            recipe=self.recipe.to_list(),
            warnings=list(self.steering.warnings),
            caps_engaged=caps_engaged,
        )

    def _vector(self, item: Add) -> AppliedVector:
        kind = item.vector.metadata.kind
        return AppliedVector(
            name=item.vector.name,
            kind="trait" if kind == "trait" else "persona",
            coefficient=self.steering.blend[item.vector.name],
            layers=list(item.layers),
            relative_dose=describe_action(item).relative_dose,
        )


def resolve(
    asked: SteeringField | None, serving: Serving, presets: PresetStore, *, model: str | None = None
) -> Steered:
    """What `steering` comes to, on top of what the model id `model` says.

    Raises ApiError: 404 for an unknown model, name, axis or preset, 400 for what cannot be honoured.
    """
    under = _Wish() if model is None else _wish(request_of_model(model, serving, presets), _Wish(), serving, presets)
    try:
        wish = _wish(of_form(asked, serving.config), under, serving, presets)
        _check(wish, serving)
        steering = serving.steering(
            {name: vector.coefficient for name, vector in wish.vectors.items()},
            safety=wish.safety,
            layers={name: vector.layers for name, vector in wish.vectors.items() if vector.layers},
            caps=[_cap(cap) for cap in wish.caps.values()],
        )
        axes = wish.trace.axes if wish.trace else ()
        readings = tuple(Trace(name, *serving.reading(name)) for name in axes)
        return Steered(steering, wish.preset, readings)
    except ApiError:
        raise
    except PersonaSteeringError as error:
        raise _named(as_api_error(error, param="steering")) from error


@dataclass(frozen=True)
class _Wish:
    """Steering with presets and scales worked in: strengths and bounds by name."""

    vectors: Mapping[str, SteeredVector] = field(default_factory=dict)
    safety: bool | None = None
    caps: Mapping[tuple[str, CapOp], CapRequest] = field(default_factory=dict)
    trace: TraceRequest | None = None
    preset: str | None = None

    def under(self, above: _Wish) -> _Wish:
        """Both, `above` having the last word."""
        return _Wish(
            {**self.vectors, **above.vectors},
            self.safety if above.safety is None else above.safety,
            {**self.caps, **above.caps},
            above.trace or self.trace,
            above.preset or self.preset,
        )

    def scaled(self, scale: float) -> _Wish:
        """With all strengths multiplied."""
        scaled = {
            name: vector.model_copy(update={"coefficient": scale * vector.coefficient})
            for name, vector in self.vectors.items()
        }
        return _Wish(scaled, self.safety, self.caps, self.trace, self.preset)


def _wish(asked: SteeringRequest, under: _Wish, serving: Serving, presets: PresetStore) -> _Wish:
    if asked.preset is not None:
        under = under.under(_wish(_of_preset(asked.preset, presets), _Wish(), serving, presets))
    own = _Wish(
        {vector.name: vector for vector in _each_once(asked, serving)},
        asked.safety,
        _caps_once(asked.caps),
        asked.trace,
        asked.preset,
    )
    return under.under(own).scaled(asked.scale)


def request_of_model(model: str, serving: Serving, presets: PresetStore) -> SteeringRequest:
    """What a model id asks for. Raises ApiError: 404 for an unknown one."""
    name, strength = serving.variant_of(model)
    if name is None:
        return SteeringRequest()
    if strength is not None:
        return SteeringRequest(vectors=[SteeredVector(name=name, coefficient=strength)])
    try:
        presets.get(name)
    except NotFoundError as error:
        raise ApiError(
            404,
            "not_found_error",
            "model_not_found",
            f"unknown model {model!r}: {error.message}",
            param="model",
            hint=error.hint,
        ) from None
    return SteeringRequest(preset=name)


def _of_preset(name: str, presets: PresetStore) -> SteeringRequest:
    try:
        return presets.get(name).steering
    except NotFoundError as error:
        raise ApiError(
            404, "not_found_error", "preset_not_found", error.message, param="steering.preset", hint=error.hint
        ) from None


def of_form(asked: SteeringField | None, config: Config) -> SteeringRequest:
    """The object form of what is asked. Raises RecipeError for a short form that is none."""
    if asked is None:
        return SteeringRequest()
    if isinstance(asked, SteeringRequest):
        return asked
    blend = parse_blend(asked, default=config.steering.default_strength)
    return SteeringRequest(vectors=[SteeredVector(name=name, coefficient=x) for name, x in blend.items()])


def _each_once(asked: SteeringRequest, serving: Serving) -> list[SteeredVector]:
    """All that is named. Raises NotFoundError for a trait among the personas, or a persona among the traits."""
    found = list(asked.vectors)
    for kind, weights in (("persona", asked.personas), ("trait", asked.traits)):
        for name in weights:
            if serving.kind_of(name) != kind:
                known = [other for other in serving.names() if serving.kind_of(other) == kind]
                raise unknown(kind, name, known, hint=f"{name!r} is a {serving.kind_of(name)}.")
        found += [SteeredVector(name=name, coefficient=weight) for name, weight in weights.items()]
    _refuse_repeated(repr(vector.name) for vector in found)
    return found


def _caps_once(caps: list[CapRequest]) -> dict[tuple[str, CapOp], CapRequest]:
    _refuse_repeated(f"the {_op(cap)} of {cap.axis!r}" for cap in caps)
    return {(cap.axis, _op(cap)): cap for cap in caps}


def _refuse_repeated(names: Iterable[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise _refusal("duplicate_vector", f"steering names {name} {times} times.", hint="Give each once.")


def _check(wish: _Wish, serving: Serving) -> None:
    """What can be refused before any vector is read."""
    if len(wish.vectors) > LIMITS.vectors:
        raise _refusal("invalid_steering", f"more than {LIMITS.vectors} vectors.")
    last = serving.num_layers - 1
    for name, layers in (
        *((vector.name, vector.layers) for vector in wish.vectors.values()),
        *((cap.axis, cap.layers) for cap in wish.caps.values()),
    ):
        if layers and layers[-1] > last:
            message = f"layer {layers[-1]} of {name!r} is beyond the model's last, {last}."
            raise _refusal("layer_out_of_range", message, hint=f"Name layers from 0 to {last}.")
    for cap in wish.caps.values():
        serving.find_axis(cap.axis)


def _refusal(code: str, message: str, *, hint: str = "") -> ApiError:
    return ApiError(400, "invalid_request_error", code, message, param="steering", hint=hint)


def _named(error: ApiError) -> ApiError:
    if error.code == "not_found":
        error.code = "persona_not_found"
    elif error.code == "invalid_value":
        error.code = "invalid_steering"
    return error


def _op(cap: CapRequest) -> CapOp:
    return "ceiling" if cap.floor is None else "floor"


def _cap(cap: CapRequest) -> Cap:
    at = cap.ceiling if cap.floor is None else cap.floor
    assert at is not None  # the schema wants one of them
    return Cap(cap.axis, _op(cap), at, tuple(cap.layers or ()))


def _cap_echo(item: Floor | Ceiling) -> AppliedCap:
    return AppliedCap(
        axis=item.vector.name,
        op="floor" if isinstance(item, Floor) else "ceiling",
        layers=list(item.layers),
        thresholds={str(layer): item.values[layer] for layer in item.layers},
    )
