"""The paths of the earlier cross-model system, under which its clients go on."""

from __future__ import annotations

import threading
import time

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from persona_steering.server.answers.answering import Answers
from persona_steering.server.deps import REFERENCE_ERRORS, StateDep
from persona_steering.server.feeds.waiting import job_result, on_leaving
from persona_steering.server.reference import cross_model
from persona_steering.server.reference.web_system import delete, refused_at_once
from persona_steering.server.schemas.reference import (
    CustomTraitReply,
    CustomTraits,
    Health,
    ModelRows,
    ModelTest,
    ModelTestReply,
    NewCustomTrait,
    ReferenceModelFacts,
    Said,
    SteeringTest,
    SteeringTestReply,
    StoredTrait,
    VectorMade,
    VectorOrder,
    VectorRows,
)
from persona_steering.vectors.metadata import package_version

router = APIRouter(tags=["earlier systems"], responses=REFERENCE_ERRORS, deprecated=True)


@router.get("/api/health", operation_id="getReferenceHealth")
async def get_health() -> Health:
    """The process answers."""
    return Health(version=package_version() or "0")


@router.get("/api/models", operation_id="listReferenceModels")
def list_models(state: StateDep) -> ModelRows:
    """The model that is loaded, or that would be."""
    return cross_model.models(state)


@router.get("/api/models/{model_id:path}/info", operation_id="getReferenceModel")
def get_model(model_id: str, state: StateDep) -> ReferenceModelFacts:
    """What is known of a model."""
    return cross_model.model_facts(state, model_id)


@router.delete("/api/models/{model_id:path}/unload", operation_id="unloadReferenceModel")
def unload_model(model_id: str, state: StateDep) -> Said:
    """Frees the model. Refused while a job wants it."""
    return cross_model.unload(state, model_id)


@router.post("/api/models/test", operation_id="testReferenceModel")
async def try_model(body: ModelTest, request: Request, state: StateDep) -> ModelTestReply:
    """Asks the model as it is, without a persona and without a floor."""
    began = time.monotonic()
    serving, asked = await run_in_threadpool(cross_model.plain_request, state, body.model_id, body.prompt)
    with Answers(serving, [asked]) as answers:
        async with on_leaving(request, answers.cancel):
            done = await answers.completions()
    spent = round(time.monotonic() - began, 3)
    return ModelTestReply(model_id=body.model_id, response=done[0].text, generation_time=spent)


@router.get("/api/traits/custom", operation_id="listReferenceCustomTraits")
def list_custom_traits(state: StateDep) -> CustomTraits:
    """The traits whose instructions the workspace holds."""
    return cross_model.custom_traits(state)


@router.post("/api/traits/generate-custom", operation_id="writeReferenceCustomTrait")
async def write_custom_trait(body: NewCustomTrait, request: Request, state: StateDep) -> CustomTraitReply:
    """Has the model write a trait's instructions and questions. Answers when they are written."""
    left = threading.Event()
    async with on_leaving(request, left.set):
        return await run_in_threadpool(cross_model.write_custom, state, body, left.is_set)


@router.delete("/api/traits/custom", operation_id="deleteReferenceCustomTraits")
def delete_custom_traits(state: StateDep) -> Said:
    """Removes the instructions of all custom traits; vectors made of them stay."""
    return cross_model.delete_all_custom(state)


@router.delete("/api/traits/custom/{trait_id}", operation_id="deleteReferenceCustomTrait")
def delete_custom_trait(trait_id: str, state: StateDep) -> Said:
    """Removes the instructions of a custom trait; a vector made of them stays."""
    return cross_model.delete_custom(state, trait_id)


@router.post("/api/vectors/generate", operation_id="makeReferenceVector")
async def make_vector(body: VectorOrder, request: Request, state: StateDep) -> VectorMade:
    """Makes the vector of a trait in a job, and answers when it is made. The job ends when the client leaves."""
    with refused_at_once():
        job = await run_in_threadpool(cross_model.submit_vector, state, body)
    job = await job_result(state.jobs, job, request)
    return await run_in_threadpool(cross_model.made_vector, state, body, job)


@router.get("/api/vectors", operation_id="listReferenceVectors")
def list_vectors(state: StateDep) -> VectorRows:
    """The stored traits."""
    return cross_model.vectors(state)


@router.get("/api/vectors/{model_id:path}/{trait_id}", operation_id="getReferenceVector")
def get_vector(model_id: str, trait_id: str, state: StateDep) -> StoredTrait:
    """A stored trait of the loaded model, with its directions."""
    return cross_model.stored_vector(state, model_id, trait_id)


@router.delete("/api/vectors/{model_id:path}/{trait_id}", operation_id="deleteReferenceVector")
def delete_vector(model_id: str, trait_id: str, state: StateDep) -> Said:
    """Removes a stored trait of the loaded model."""
    cross_model.check_model(state, model_id)
    delete(state, "trait", trait_id)
    return Said(message=f"{trait_id} of {model_id} was deleted.")


@router.post("/api/steering/test", operation_id="testReferenceSteering")
async def try_steering(body: SteeringTest, request: Request, state: StateDep) -> SteeringTestReply:
    """The same question without and with the trait, with the same seed, in one batch."""
    serving, steered, asked = await run_in_threadpool(cross_model.steered_pair, state, body)
    with Answers(serving, asked) as answers:
        async with on_leaving(request, answers.cancel):
            plain, changed = await answers.completions()
    echo = steered.echo()
    layers = echo.applied[0].layers if echo and echo.applied else []
    return SteeringTestReply(
        model_id=body.model_id,
        trait_id=body.trait_id,
        baseline_response=plain.text,
        steered_response=changed.text,
        coefficient=body.coefficient,
        layer=layers[0] if layers else None,
        layers=layers,
        direction="none" if not layers else "positive" if body.coefficient > 0 else "negative",
    )
