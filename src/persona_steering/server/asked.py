"""From a chat request to what the engine takes: the recipe that it asks for, sampling, messages and schema."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pydantic import JsonValue

from persona_steering.backends.base import Message, Request, Role, Sampling
from persona_steering.engine.service import describe_action
from persona_steering.engine.steering import Steering
from persona_steering.errors import PersonaSteeringError, unknown
from persona_steering.interventions import Add, parse_blend
from persona_steering.server.errors import ApiError, as_api_error
from persona_steering.server.schemas import (
    MAX_VECTORS,
    AppliedCap,
    AppliedSteering,
    AppliedVector,
    ChatRequest,
    ResponseFormat,
    SteeredVector,
    SteeringRequest,
)
from persona_steering.server.serving import Serving

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def steering_of(body: ChatRequest, serving: Serving) -> Steering:
    """The recipe of a request: of its model id, and of `steering`, which has the last word on each name.

    Raises ApiError: 404 for an unknown model or name, 400 for what cannot be honoured.
    """
    blend = serving.names_in(body.model)
    try:
        asked = _asked(body, serving)
        vectors = {vector.name: vector for vector in _each_once(asked, serving)}
        blend |= {name: vector.coefficient for name, vector in vectors.items()}
        if len(blend) > MAX_VECTORS:
            raise ApiError(
                400, "invalid_request_error", "invalid_steering", f"more than {MAX_VECTORS} vectors.", param="steering"
            )
        layers = {name: vector.layers for name, vector in vectors.items() if vector.layers}
        return serving.steering(blend, safety=asked.safety, layers=layers)
    except ApiError:
        raise
    except PersonaSteeringError as error:
        raise _named(as_api_error(error, param="steering")) from error


def _named(error: ApiError) -> ApiError:
    if error.code == "not_found":
        error.code = "persona_not_found"
    elif error.code == "invalid_value":
        error.code = "invalid_steering"
    return error


def _asked(body: ChatRequest, serving: Serving) -> SteeringRequest:
    if isinstance(body.steering, SteeringRequest):
        return body.steering
    if body.steering is None:
        return SteeringRequest()
    blend = parse_blend(body.steering, default=serving.config.steering.default_strength)
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
    for name, times in Counter(vector.name for vector in found).items():
        if times > 1:
            raise ApiError(
                400,
                "invalid_request_error",
                "duplicate_vector",
                f"steering names {name!r} {times} times.",
                param="steering",
                hint="Give each name once.",
            )
    return found


def requests_of(body: ChatRequest, steering: Steering, serving: Serving) -> list[Request]:
    """One request for each of the `n` answers; their seeds follow each other. Raises ApiError."""
    _refuse_unsupported(body)
    request = Request(
        tuple(Message(_ROLES[message.role], message.text) for message in body.messages),
        recipe=steering.recipe,
        sampling=_sampling(body, serving),
        schema=_schema(body.response_format),
    )
    first = request.sampling.seed
    return [
        replace(request, sampling=request.sampling.model_copy(update={"seed": first + place}))
        for place in range(body.n or 1)
    ]


def _sampling(body: ChatRequest, serving: Serving) -> Sampling:
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    base = Sampling.configured(serving.config.generation, seed=body.seed, max_new_tokens=limit)
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    changes: dict[str, object] = {"stop": stop}
    changes |= {key: value for key in ("temperature", "top_p") if (value := getattr(body, key)) is not None}
    return base.model_copy(update=changes)


def _schema(form: ResponseFormat | None) -> dict[str, JsonValue] | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {"type": "object"}
    if form.json_schema is None:
        raise ApiError(
            400,
            "invalid_request_error",
            "invalid_value",
            "response_format of type 'json_schema' has no schema.",
            param="response_format.json_schema",
        )
    return form.json_schema.schema_


def _refuse_unsupported(body: ChatRequest) -> None:
    for name in ("logprobs", "top_logprobs", "tools"):
        if getattr(body, name):
            raise ApiError(
                400,
                "invalid_request_error",
                "unsupported_parameter",
                f"this server does not support {name}.",
                param=name,
                hint="Leave it out.",
            )


def echo(steering: Steering, serving: Serving, *, caps_engaged: int | None = None) -> AppliedSteering | None:
    """What an answer says of its steering; None where the model was left as it is."""
    if not steering.recipe:
        return None
    applied, caps = [], []
    for item in steering.recipe.interventions:
        action, name = describe_action(item), item.vector.name
        if isinstance(item, Add):
            kind, weight = item.vector.metadata.kind, steering.blend[name]
            applied.append(
                AppliedVector(
                    name=name,
                    kind=kind,
                    coefficient=weight,
                    layers=list(item.layers),
                    relative_dose=action.relative_dose,
                )
            )
        else:
            caps.append(AppliedCap(axis=name, op=item.op, layers=list(item.layers)))
    return AppliedSteering(
        hash=steering.recipe.hash,
        applied=applied,
        caps=caps,
        safety=steering.safety,
        recipe=steering.recipe.to_list(),
        warnings=list(steering.warnings),
        caps_engaged=caps_engaged,
    )
