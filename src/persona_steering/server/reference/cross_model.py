"""What the paths of the earlier cross-model system do, over the same engine, jobs and slot as all others."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import JsonValue

from persona_steering.authoring.generator import DatasetGenerator
from persona_steering.backends.base import Request, Sampling, conversation
from persona_steering.engine.names import public_id
from persona_steering.errors import ConflictError, NotFoundError, UsageError, unknown
from persona_steering.personas import Trait
from persona_steering.personas.datasets import Datasets
from persona_steering.server.answers.steering import Steered, resolve
from persona_steering.server.errors import ApiError
from persona_steering.server.jobs.results import read_data
from persona_steering.server.library.shipped import writer_of
from persona_steering.server.model.serving import Serving
from persona_steering.server.model.slot import SlotStatus
from persona_steering.server.paging import PageQuery
from persona_steering.server.reference.web_system import stored
from persona_steering.server.schemas.reference import (
    Answered,
    CustomTrait,
    CustomTraitReply,
    CustomTraits,
    ModelRow,
    ModelRows,
    NewCustomTrait,
    PromptPair,
    ReferenceModelFacts,
    Said,
    SteeringTest,
    StoredTrait,
    VectorMade,
    VectorOrder,
    VectorRow,
    VectorRows,
)
from persona_steering.server.schemas.runs import LayersData
from persona_steering.server.schemas.steering import SteeredVector, SteeringRequest
from persona_steering.server.state import ServerState
from persona_steering.server.stores.job_models import Job
from persona_steering.vectors import SteeringVector, VectorMetadata, suggest_name

MAX_CUSTOM = 100
TEMPERATURE = 0.7
_RATHER_THAN = " rather than "


def models(state: ServerState) -> ModelRows:
    """The model in the slot, or the configured one where it is empty."""
    return ModelRows(models=[_model_row(state)])


def model_facts(state: ServerState, model_id: str) -> ReferenceModelFacts:
    """What is known of it. Raises NotFoundError for a model that is not listed."""
    row = _checked_row(state, model_id)
    if state.slot.status.state != "ready":
        return ReferenceModelFacts(
            **row.model_dump(), loaded=False, num_layers=None, hidden_size=None, device=None, dtype=None
        )
    backend = state.slot.open_backend()
    return ReferenceModelFacts(
        **row.model_dump(),
        loaded=True,
        num_layers=backend.identity.num_layers,
        hidden_size=backend.identity.hidden_size,
        device=backend.info.device,
        dtype=backend.info.dtype,
    )


def unload(state: ServerState, model_id: str) -> Said:
    """Frees the model. Raises NotFoundError, and ConflictError while a job wants it."""
    _checked_row(state, model_id)
    if state.slot.status.state == "empty":
        return Said(message=f"{model_id} is not loaded.")
    state.unload_model()
    return Said(message=f"{model_id} was unloaded.")


def plain_request(state: ServerState, model_id: str, prompt: str) -> tuple[Serving, Request]:
    """A question to the model as it is. Raises ApiError: 503 without a model, 404 for another one."""
    serving = _serving(state, model_id)
    return serving, Request(conversation(prompt), sampling=Sampling.configured(serving.config.generation))


def steered_pair(state: ServerState, asked: SteeringTest) -> tuple[Serving, Steered, list[Request]]:
    """The same question without and with the trait, with one seed. Raises as `plain_request` and `resolve`."""
    serving, plain = plain_request(state, asked.model_id, asked.user_prompt)
    wish = SteeringRequest(vectors=[SteeredVector(name=asked.trait_id, coefficient=asked.coefficient)])
    steered = resolve(wish, serving, state.presets)
    return serving, steered, [plain, Request(plain.messages, recipe=steered.recipe, sampling=plain.sampling)]


def custom_traits(state: ServerState) -> CustomTraits:
    """The traits whose instructions the workspace holds."""
    datasets = Datasets(state.config.datasets_dir)
    found = [_custom(datasets, trait) for trait in datasets.traits().values()]
    return CustomTraits(traits=found, count=len(found), max_allowed=MAX_CUSTOM)


def write_custom(state: ServerState, asked: NewCustomTrait, cancelled: Callable[[], bool]) -> CustomTraitReply:
    """Has the model write a trait, beside the chats, and keeps it for editing.

    Raises: UsageError for what is no word, a name in use, and what cannot be chosen; QualityError; as `writer_of`.
    """
    datasets, name = Datasets(state.config.datasets_dir), suggest_name(asked.trait_name)
    known = datasets.traits()
    if name in known:
        raise UsageError(f"there is a trait {name!r} already.", hint="Delete it first, or choose another name.")
    if len(known) >= MAX_CUSTOM:
        raise UsageError(f"there are {len(known)} traits already.", hint="Delete some of them.")
    if asked.temperature != TEMPERATURE:
        raise UsageError(f"temperature {asked.temperature:g} cannot be chosen.", hint=f"Send {TEMPERATURE}.")
    written = DatasetGenerator(writer_of(state), cancelled=cancelled).generate_trait(
        asked.positive_trait, asked.negative_trait
    )
    trait = written.model_copy(update={"name": name, "pairs": written.pairs[: asked.num_pairs]})
    datasets.save_trait(trait)
    return CustomTraitReply(
        trait_id=name,
        trait_name=asked.trait_name,
        prompt_pairs=_pairs(trait),
        evaluation_questions=list(trait.evaluation_questions),
        eval_prompt=trait.eval_prompt,
        num_custom_traits=len(known) + 1,
    )


def delete_custom(state: ServerState, name: str) -> Said:
    """Removes the instructions of a trait; a vector made of them stays. Raises NotFoundError."""
    Datasets(state.config.datasets_dir).delete_trait(name)
    return Said(message=f"{name} was deleted.")


def delete_all_custom(state: ServerState) -> Said:
    """Removes all of them."""
    datasets = Datasets(state.config.datasets_dir)
    names = list(datasets.traits())
    for name in names:
        datasets.delete_trait(name)
    return Said(message=f"{len(names)} were deleted.")


def submit_vector(state: ServerState, asked: VectorOrder) -> Job:
    """A job that makes the vector of a custom trait, of one that ships with the package, or of a word.

    Raises as `plain_request` and `JobRunner.submit`.
    """
    _serving(state, asked.model_id)
    trait = Datasets(state.config.datasets_dir).traits().get(asked.trait_id)
    if trait is None:
        return state.jobs.submit("trait.create", {"word": asked.trait_id})
    params: dict[str, JsonValue] = {"name": trait.name, "word": _word(trait), "opposite": trait.opposite or None}
    params["pairs"] = [{"positive": pair.pos, "negative": pair.neg} for pair in trait.pairs]
    return state.jobs.submit("trait.create", params | {"questions": list(trait.questions) or None})


def made_vector(state: ServerState, asked: VectorOrder, job: Job) -> VectorMade:
    """What the job has made."""
    name = job.subject.name if job.subject else asked.trait_id
    vector = state.manager().load(name)
    return VectorMade(
        model_id=asked.model_id,
        trait_id=asked.trait_id,
        generation_time=_seconds(job),
        num_layers=len(vector.layers),
        effectiveness_scores=_effectiveness(state, name),
        metadata=_counts(vector),
    )


def vectors(state: ServerState) -> VectorRows:
    """The stored traits of the loaded model, or of all."""
    manager = state.manager()
    entries = [entry for entry in manager.entries() if entry.metadata and entry.metadata.kind == "trait"]
    return VectorRows(
        vectors=[
            VectorRow(
                model_id=_public_model(entry.metadata),
                trait_id=entry.name,
                generation_time=None,
                effectiveness_scores=_effectiveness(state, entry.name),
                metadata={"num_layers_processed": len(entry.layers), **entry.metadata.counts},
                generated_at=entry.metadata.created,
                num_layers=len(entry.layers),
            )
            for entry in entries
            if entry.metadata
        ]
    )


def stored_vector(state: ServerState, model_id: str, name: str) -> StoredTrait:
    """A stored trait with its directions. Raises as `plain_request`, and NotFoundError."""
    _serving(state, model_id)
    check_trait(state, name)
    vector = state.manager().load(name)
    return StoredTrait(
        model_id=model_id,
        trait_id=name,
        generation_time=None,
        effectiveness_scores=_effectiveness(state, name),
        metadata=_counts(vector),
        generated_at=vector.metadata.created,
        vectors={f"layer_{layer}": [float(x) for x in row] for layer, row in vector.directions.items()},
        responses=Answered(positive=[], negative=[]),
    )


def check_trait(state: ServerState, name: str) -> None:
    """Raises NotFoundError with the nearest names for what is no stored trait."""
    if name not in (known := [one.name for one in stored(state, "trait")]):
        raise unknown("trait", name, known)


def check_model(state: ServerState, model_id: str) -> None:
    """Raises ApiError: 503 without a model, 404 for another than the loaded one."""
    _serving(state, model_id)


def _serving(state: ServerState, model_id: str) -> Serving:
    serving = state.slot.serving
    if serving.variant_of(model_id) != (None, None):
        raise ApiError(
            404,
            "not_found_error",
            "model_not_found",
            f"{model_id!r} is a persona of the model.",
            param="model_id",
            hint=f"This server has {serving.model_id!r}.",
        )
    return serving


def _model_row(state: ServerState) -> ModelRow:
    status: SlotStatus = state.slot.status
    name = status.model or public_id(state.config.model.name)
    if status.state != "ready":
        return ModelRow(id=name, name=name, type="unknown")
    return ModelRow(id=name, name=name, type=state.slot.open_backend().identity.model_type or "unknown")


def _checked_row(state: ServerState, model_id: str) -> ModelRow:
    row = _model_row(state)
    if model_id != row.id:
        raise unknown("model", model_id, [row.id])
    return row


def _custom(datasets: Datasets, trait: Trait) -> CustomTrait:
    made = datetime.fromtimestamp(datasets.trait_path(trait.name).stat().st_mtime, UTC)
    return CustomTrait(
        id=trait.name,
        name=trait.name,
        description=trait.description,
        prompt_pairs=_pairs(trait),
        evaluation_questions=list(trait.evaluation_questions),
        eval_prompt=trait.eval_prompt,
        created_at=made.isoformat(timespec="seconds"),
        metadata={"positive_trait": _word(trait), "negative_trait": trait.opposite or f"not at all {_word(trait)}"},
    )


def _pairs(trait: Trait) -> list[PromptPair]:
    return [PromptPair(pos=pair.pos, neg=pair.neg) for pair in trait.pairs]


def _word(trait: Trait) -> str:
    """The adjective that it was written for, which its description begins with; else its name."""
    word, found, _ = trait.description.partition(_RATHER_THAN)
    return word if found else trait.name.replace("_", " ").replace("-", " ")


def _seconds(job: Job) -> float | None:
    if job.started_at is None:
        return None
    return round((job.finished_at or time.time()) - job.started_at, 2)


def _counts(vector: SteeringVector) -> dict[str, JsonValue]:
    counts: dict[str, JsonValue] = dict(vector.metadata.counts)
    return counts | {"num_layers_processed": len(vector.layers)}


def _public_model(metadata: VectorMetadata) -> str:
    return public_id(metadata.model.id) if metadata.model else ""


def _effectiveness(state: ServerState, name: str) -> dict[str, float]:
    """What each layer did when it was steered alone, in nats per token, where the newest scan still holds."""
    found = state.runs.page(PageQuery(limit=1), kind="layers", name=name).data
    try:
        data = read_data(found[0], state.config.runs_dir).root if found else None
    except (ConflictError, NotFoundError):
        data = None
    if not isinstance(data, LayersData):
        return {}
    return {f"layer_{row.layer}": row.steered.gain.mean for row in data.result.rows}
