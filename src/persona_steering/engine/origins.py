"""Where a stored vector comes from: its persona or trait, and the answers that it was made from.

A run folder holds its plan, so a vector is traced back to the run with the same prompts, questions and settings; the
digest of what that run gives again says whether it really is the one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from persona_steering.backends.base import Backend, ProgressCallback, no_progress
from persona_steering.config import Config
from persona_steering.engine.create import evoking_prompts, run_place
from persona_steering.errors import UsageError
from persona_steering.evaluation.card import Missing
from persona_steering.evaluation.held_out import Sides
from persona_steering.extraction.contrast import (
    ExtractionSettings,
    data_hash,
    extract_baseline,
    extract_persona,
    extract_trait,
)
from persona_steering.extraction.run import Run
from persona_steering.personas import (
    Persona,
    Trait,
    list_archetypes,
    list_traits,
    load_archetype,
    load_library_trait,
    trait_from_word,
)
from persona_steering.personas.datasets import Datasets
from persona_steering.vectors import ModelIdentity, SteeringVector


@dataclass(frozen=True)
class Origin:
    """What a vector is of. `settings` are those of its run; None when there is no run. `said` names the source."""

    subject: Persona | Trait
    settings: ExtractionSettings | None
    said: str


def find_origin(vector: SteeringVector, config: Config, model: ModelIdentity) -> Origin:
    """The persona or trait that a vector was made from.

    It is looked for in the runs, then in the vector's own prompts, then in the library under its name. Raises
    UsageError when none of them knows.
    """
    metadata = vector.metadata
    for plan_file in sorted(config.runs_dir.glob(f"{metadata.made_as}-*/plan.json")):
        origin = _read_plan(plan_file.read_text(), vector, model)
        if origin is not None:
            return origin
    if metadata.kind == "persona" and metadata.system_prompts:
        persona = Persona(name=vector.name, system_prompts=metadata.system_prompts)
        return Origin(persona, None, "its own system prompts")
    if metadata.kind == "trait" and metadata.system_prompts:
        for trait in _traits_like(metadata.source, vector.name):
            if evoking_prompts(trait) == metadata.system_prompts:
                return Origin(trait, None, trait.source or f"the trait {trait.name!r} of the library")
    elif vector.name in list_traits():
        return Origin(load_library_trait(vector.name), None, f"the trait {vector.name!r} of the library, by its name")
    elif vector.name in list_archetypes():
        return Origin(load_archetype(vector.name), None, f"the archetype {vector.name!r}, by its name")
    raise UsageError(
        f"it is not known which system prompts {vector.name!r} stands for, so there is nothing to measure it against.",
        hint="Give it the name of an archetype or of a trait of the library, or create it here.",
    )


def held_out_questions(subject: Persona | Trait, count: int, datasets: Datasets) -> tuple[str, ...]:
    """`count` questions that no vector is extracted from: the trait's own for evaluation, else the common ones.

    The common ones are taken from the end, since a dose is searched on the first of them. Raises UsageError when
    there are fewer.
    """
    own = subject.evaluation_questions if isinstance(subject, Trait) else ()
    questions = own or datasets.calibration_questions()[::-1]
    if not 2 <= count <= len(questions):
        raise UsageError(
            f"{count} held-out questions were asked for, and there are {len(questions)}.",
            hint=f"Give 2 to {len(questions)}.",
        )
    return questions[:count]


def answers_made_from(
    backend: Backend,
    origin: Origin,
    vector: SteeringVector,
    config: Config,
    *,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Sides | Missing:
    """The kept answers that the vector was made from, with their activations.

    Batches that are gone from the run are answered again with the same seeds. Missing without a run, or when what it
    gives is another vector.
    """
    settings = origin.settings
    if settings is None:
        return Missing("the run that it was made in is not here")

    def run(name: str, subject: Persona | Trait | None) -> Run:
        plan = None if subject is None else subject.model_dump(mode="json")
        return Run(*run_place(config, backend.identity, name, settings, plan))

    baseline = extract_baseline(backend, settings, run=run("baseline", None), progress=progress, cancelled=cancelled)
    subject = origin.subject
    own = run(subject.name, subject)
    if isinstance(subject, Persona):
        found = extract_persona(
            backend, subject, settings, run=own, baseline=baseline, progress=progress, cancelled=cancelled
        )
    else:
        found = extract_trait(
            backend, subject, settings, run=own, baseline=baseline, progress=progress, cancelled=cancelled
        )
    if found.vector.digest != vector.digest:
        return Missing("the run that it was made in gives another vector now")
    return Sides(found.positive, found.negative, settings.layers)


def _read_plan(text: str, vector: SteeringVector, model: ModelIdentity) -> Origin | None:
    """The origin that a plan describes, when it is that of the vector."""
    try:
        plan = json.loads(text)
        identity = ModelIdentity.model_validate(plan["model"])
        settings = ExtractionSettings.model_validate(plan["settings"])
        kind = Persona if "system_prompts" in plan["subject"] else Trait
        subject = kind.model_validate(plan["subject"])
    except (ValueError, KeyError, TypeError, ValidationError):
        return None  # the run of something else
    hashes = {"questions": data_hash(settings.questions), "prompts": data_hash(evoking_prompts(subject))}
    asked = settings.model_dump(mode="json", exclude={"questions", "layers"})
    recorded = {key: vector.metadata.settings.get(key) for key in asked}
    same = (
        subject.name == vector.metadata.made_as
        and identity.is_same_as(model)
        and hashes == {key: vector.metadata.data_hashes.get(key) for key in hashes}
        and asked == recorded
        and settings.layers == vector.layers
    )
    return Origin(subject, settings, "its run") if same else None


def _traits_like(source: str, name: str) -> list[Trait]:
    """The traits that a stored trait may be: of the library, or of a word."""
    scheme, _, words = source.partition(":")
    named = words if scheme == "trait" else name
    found = [load_library_trait(named)] if named in list_traits() else []
    if scheme == "word":
        word, _, opposite = words.partition("/")
        found.append(trait_from_word(word, opposite or None))
    return found
