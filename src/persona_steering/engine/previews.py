"""What a persona or trait would be made from, to be read and edited before anything is measured. Nothing is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from persona_steering.authoring.generator import DatasetGenerator
from persona_steering.backends.base import Backend
from persona_steering.personas import Persona, Trait, find_trait, list_traits, load_library_trait, trait_from_word
from persona_steering.personas.datasets import Datasets
from persona_steering.vectors import check_name

TraitSource = Literal["library", "template", "written"]


@dataclass(frozen=True)
class PersonaPreview:
    """A persona's prompts as a model has written them, and the questions that it will be asked."""

    persona: Persona
    questions: tuple[str, ...]


@dataclass(frozen=True)
class TraitPreview:
    """A trait, where its pairs come from, and the questions that it will be asked."""

    trait: Trait
    source: TraitSource
    questions: tuple[str, ...]


def preview_persona(
    writer: Backend,
    datasets: Datasets,
    name: str,
    description: str,
    *,
    prompts: int,
    questions: int,
    seed: int = 0,
    cancelled: Callable[[], bool] | None = None,
) -> PersonaPreview:
    """Has system prompts written for a description; another seed gives others.

    Raises: UsageError for a description that is empty or too long, QualityError where too few prompts passed,
    CancelledError, and what the writer raises.
    """
    check_name(name)
    asked = datasets.extraction_questions(questions)  # refused before anything is written
    generator = DatasetGenerator(writer, seed=seed, cancelled=cancelled)
    written = generator.generate_persona_prompts(description, prompts).require("system prompts")
    text = " ".join(description.split())
    return PersonaPreview(Persona(name=name, description=text, system_prompts=written), asked)


def preview_trait(datasets: Datasets, word: str, opposite: str | None = None, *, questions: int) -> TraitPreview:
    """The library's trait of that name, else one of ready-made sentences. Raises UsageError for what is no word."""
    trait_from_word(word, opposite)  # refuses a file's name, which find_trait would read
    trait = find_trait(word, opposite)
    shipped = trait.name in list_traits() and trait == load_library_trait(trait.name)
    asked = trait.questions or datasets.extraction_questions(questions)
    return TraitPreview(trait, "library" if shipped else "template", asked)


def write_trait(
    writer: Backend,
    word: str,
    opposite: str | None = None,
    *,
    seed: int = 0,
    cancelled: Callable[[], bool] | None = None,
) -> TraitPreview:
    """Has pairs and questions written for a word. Raises as `preview_persona`."""
    trait = DatasetGenerator(writer, seed=seed, cancelled=cancelled).generate_trait(word, opposite)
    return TraitPreview(trait, "written", trait.questions)
