"""Personas and traits, the questions they are asked, and the library that ships with the package."""

from __future__ import annotations

from persona_steering.personas.persona import Persona, list_archetypes, load_archetype, load_prompts
from persona_steering.personas.questions import (
    Question,
    SafetyKind,
    SafetyPrompt,
    load_questions,
    load_safety_prompts,
)
from persona_steering.personas.trait import (
    InstructionPair,
    Trait,
    find_trait,
    list_traits,
    load_library_trait,
    load_trait,
    save_trait,
    trait_from_word,
)

__all__ = [
    "InstructionPair",
    "Persona",
    "Question",
    "SafetyKind",
    "SafetyPrompt",
    "Trait",
    "find_trait",
    "list_archetypes",
    "list_traits",
    "load_archetype",
    "load_library_trait",
    "load_prompts",
    "load_questions",
    "load_safety_prompts",
    "load_trait",
    "save_trait",
    "trait_from_word",
]
