"""What the paths of the earlier web system do, over the same engine, jobs and slot as all others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pydantic import JsonValue

from persona_steering.backends.base import Request, Sampling, conversation
from persona_steering.engine.names import public_id
from persona_steering.errors import BusyError, ConflictError, NotFoundError, RecipeError, unknown
from persona_steering.server.answers.steering import resolve
from persona_steering.server.errors import ApiError, as_api_error
from persona_steering.server.model.serving import Serving
from persona_steering.server.schemas.reference import (
    SCALES,
    CreatingReply,
    DeletedReply,
    LoadReply,
    NewPersona,
    NewTrait,
    WebChat,
    WebPersona,
    WebStatus,
    WebTrait,
)
from persona_steering.server.schemas.steering import CapRequest, SteeringRequest
from persona_steering.server.state import ServerState
from persona_steering.vectors.metadata import SAFETY_AXIS, VectorKind, VectorMetadata


def status(state: ServerState) -> WebStatus:
    """Everything its clients ask for every few seconds."""
    slot = state.slot.status
    return WebStatus(
        model_loaded=slot.state == "ready",
        model_loading=slot.state == "loading",
        model_name=slot.model or public_id(state.config.model.name),
        safety_axis_available=slot.state == "ready" and state.manager().has_safety_axis(),
        safety_floor=_floor(state) if slot.state == "ready" else None,
        creating_persona=_in_the_making(state, "persona.create"),
        creating_trait=_in_the_making(state, "trait.create"),
        steering_scale=state.reference_scale,
    )


def load(state: ServerState) -> LoadReply:
    """Loads the configured model where there is none; returns when it is there. Raises what loading raises."""
    slot = state.slot.status.state
    if slot == "ready":
        return LoadReply(status="already_loaded")
    with contextlib.suppress(ConflictError):
        state.slot.load()
        return LoadReply(status="loaded")
    return LoadReply(status="already_loading")


def set_scale(state: ServerState, scale: float) -> float:
    """Multiplies the weights of these paths from now on, until the server stops. Returns what it is, within bounds."""
    low, high = SCALES
    state.reference_scale = min(max(scale, low), high)
    return state.reference_scale


def personas(state: ServerState) -> list[WebPersona]:
    """The stored personas, by name."""
    loaded = _loaded(state)
    return [
        WebPersona(
            name=one.name,
            source=one.source,
            description=one.description,
            traits=list(one.tags),
            loaded=one.name in loaded,
        )
        for one in stored(state, "persona")
    ]


def traits(state: ServerState) -> list[WebTrait]:
    """The stored traits, by name."""
    loaded = _loaded(state)
    return [WebTrait(name=one.name, opposite=one.opposite, loaded=one.name in loaded) for one in stored(state, "trait")]


def create_persona(state: ServerState, asked: NewPersona) -> CreatingReply:
    """Queues a job that makes it. Raises ApiError 400 as the earlier system: busy, no name, or there already."""
    with refused_at_once():
        params: dict[str, JsonValue] = {"name": asked.name, "description": asked.description}
        params |= {"prompts": asked.num_prompts, "questions": asked.num_questions}
        job = state.jobs.submit("persona.create", params)
    return CreatingReply(name=job.subject.name if job.subject else asked.name)


def create_trait(state: ServerState, asked: NewTrait) -> CreatingReply:
    """Queues a job that makes it. Raises as `create_persona`."""
    with refused_at_once():
        params: dict[str, JsonValue] = {"word": asked.word, "opposite": asked.opposite or None}
        job = state.jobs.submit("trait.create", params | {"questions": asked.num_questions})
    return CreatingReply(name=job.subject.name if job.subject else asked.word)


def delete(state: ServerState, kind: VectorKind, name: str) -> DeletedReply:
    """Removes a persona or trait of the loaded model. Raises NotFoundError, also for one of the other kind."""
    if name not in (known := [one.name for one in stored(state, kind)]):
        raise unknown(kind, name, known)
    state.library.remove(name, (kind,), expected=None)
    return DeletedReply(name=name)


def request_of(state: ServerState, asked: WebChat) -> tuple[Serving, Request]:
    """The model, and what it is asked: the recipe holds the floor whenever safety is on, steered or not.

    Raises ApiError: 503 without a model, 404 for an unknown name, 400 for what cannot be honoured.
    """
    serving = state.slot.serving
    messages = conversation(asked.message)
    steered = resolve(_steering(state, asked, serving), serving, state.presets)
    sampling = Sampling.configured(serving.config.generation)
    return serving, Request(messages, recipe=steered.recipe, sampling=sampling)


def _steering(state: ServerState, asked: WebChat, serving: Serving) -> SteeringRequest:
    if asked.safety_strength != 1:
        raise ApiError(
            400,
            "invalid_request_error",
            "invalid_value",
            f"safety_strength {asked.safety_strength:g}: the floor on the safety axis holds wholly or not at all.",
            param="safety_strength",
            hint="Send 1.0, or safety_enabled: false.",
        )
    personas = {name: weight for name, weight in asked.personas.items() if weight}
    traits = {name: weight for name, weight in asked.traits.items() if weight}
    # what steers brings the floor along; the model as it is gets it by name, where the model has the axis
    alone = asked.safety_enabled and not (personas or traits) and serving.manager.has_safety_axis()
    floor = CapRequest(axis=SAFETY_AXIS, floor=f"p{serving.config.steering.safety_floor_percentile:g}")
    return SteeringRequest(
        personas=personas,
        traits=traits,
        scale=state.reference_scale,
        safety=asked.safety_enabled,
        caps=[floor] if alone else [],
    )


@contextlib.contextmanager
def refused_at_once() -> Iterator[None]:
    """The earlier system said 400 to whatever kept it from beginning."""
    try:
        yield
    except (ConflictError, BusyError) as error:
        refusal = as_api_error(error)
        if refusal.status in (409, 429):
            refusal.status = 400
        raise refusal from error


def _in_the_making(state: ServerState, type: str) -> str | None:
    names = [job.subject.name for job in state.jobs.store.unfinished() if job.type == type and job.subject]
    return names[0] if names else None


def _floor(state: ServerState) -> float | None:
    """Its threshold at the middle of the layers where it acts; None where the model has none at that percentile."""
    with contextlib.suppress(NotFoundError, RecipeError):
        floor = state.slot.serving.safety_floor()
        return floor.values[floor.layers[len(floor.layers) // 2]]
    return None


def stored(state: ServerState, kind: VectorKind) -> list[VectorMetadata]:
    """What is known of those of a kind, by name: of the loaded model, or of all where none is loaded."""
    found = [entry.metadata for entry in state.manager().entries()]
    return sorted((one for one in found if one is not None and one.kind == kind), key=lambda one: one.name)


def _loaded(state: ServerState) -> list[str]:
    return state.slot.serving.loaded() if state.slot.status.state == "ready" else []
