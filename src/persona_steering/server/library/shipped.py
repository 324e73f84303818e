"""What personas and traits can be made from: what ships with the package, and what a model writes to be edited."""

from __future__ import annotations

from collections.abc import Callable

from persona_steering.backends.base import Backend
from persona_steering.engine.previews import preview_persona, preview_trait, write_trait
from persona_steering.engine.writing import open_writer
from persona_steering.personas import list_archetypes, list_traits, load_archetype, load_library_trait
from persona_steering.personas.datasets import Datasets
from persona_steering.server.jobs.params import InstructionPair
from persona_steering.server.model.lane import LanedBackend
from persona_steering.server.paging import Page
from persona_steering.server.schemas.library import (
    Archetype,
    ArchetypeDetail,
    BuiltinTrait,
    PersonaPreview,
    PersonaPreviewRequest,
    TraitPreview,
    TraitPreviewRequest,
)
from persona_steering.server.state import ServerState


def archetypes(state: ServerState) -> Page[Archetype]:
    """All of them, by name."""
    made = state.library.sources()
    names = list_archetypes()
    data = [Archetype.model_validate(_archetype(name, made)) for name in names]
    return Page[Archetype](data=data, first_id=names[0], last_id=names[-1])


def archetype(state: ServerState, name: str) -> ArchetypeDetail:
    """One with its prompts. Raises NotFoundError."""
    found = load_archetype(name)
    fields = _archetype(found.name, state.library.sources())
    return ArchetypeDetail.model_validate({**fields, "system_prompts": found.system_prompts})


def builtin_traits(state: ServerState) -> Page[BuiltinTrait]:
    """All of them, by name."""
    made = state.library.sources()
    data = [
        BuiltinTrait(name=trait.name, opposite=trait.opposite, description=trait.description, made=trait.source in made)
        for trait in map(load_library_trait, list_traits())
    ]
    return Page[BuiltinTrait](data=data, first_id=data[0].name, last_id=data[-1].name)


def persona_preview(state: ServerState, asked: PersonaPreviewRequest, cancelled: Callable[[], bool]) -> PersonaPreview:
    """Has the prompts written. Raises as `preview_persona`."""
    found = preview_persona(
        writer_of(state),
        Datasets(state.config.datasets_dir),
        asked.name,
        asked.description,
        prompts=asked.prompts,
        questions=asked.questions or state.config.extraction.num_questions,
        seed=asked.seed,
        cancelled=cancelled,
    )
    return PersonaPreview(
        name=found.persona.name,
        description=found.persona.description,
        system_prompts=list(found.persona.system_prompts),
        questions=list(found.questions),
    )


def trait_preview(state: ServerState, asked: TraitPreviewRequest, cancelled: Callable[[], bool]) -> TraitPreview:
    """Both sides of a trait, ready-made or newly written. Raises as `preview_trait` and `write_trait`."""
    if asked.write:
        found = write_trait(writer_of(state), asked.word, asked.opposite, seed=asked.seed, cancelled=cancelled)
    else:
        count = asked.questions or state.config.extraction.num_questions
        found = preview_trait(Datasets(state.config.datasets_dir), asked.word, asked.opposite, questions=count)
    trait = found.trait
    return TraitPreview(
        name=trait.name,
        opposite=trait.opposite,
        description=trait.description,
        pairs=[InstructionPair(positive=pair.pos, negative=pair.neg) for pair in trait.pairs],
        questions=list(found.questions),
        source=found.source,
    )


def _archetype(name: str, made: set[str]) -> dict[str, object]:
    persona = load_archetype(name)
    return {
        "name": name,
        "description": persona.description,
        "num_prompts": len(persona.system_prompts),
        "made": persona.source in made,
    }


def writer_of(state: ServerState) -> Backend:
    """Who writes: the configured generator, else the loaded model, in turns with the answers.

    Raises ApiError 503 where that is needed and not there.
    """

    def local() -> Backend:
        _ = state.slot.serving
        return LanedBackend(state.slot.open_backend(), state.slot.turn)

    return open_writer(None, state.config, local=local)
