"""Find persona and trait directions in a language model's residual stream, and steer the model with them.

The names below are imported when first used: `import persona_steering` loads no model library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from persona_steering.authoring.generator import DatasetGenerator
    from persona_steering.backends.wrapper import ModelWrapper
    from persona_steering.config import Config, get_config
    from persona_steering.engine.create import Creator
    from persona_steering.engine.steering import SteeringEngine
    from persona_steering.errors import PersonaSteeringError
    from persona_steering.extraction.extractor import ActivationExtractor
    from persona_steering.interventions import Recipe
    from persona_steering.personas.manager import PersonaManager
    from persona_steering.vectors import (
        SteeringVector,
        blend_vectors,
        compute_safe_floor,
        normalize,
        orthogonalize_persona,
        project_onto,
        remove_component,
    )

__all__ = [
    "ActivationExtractor",
    "Config",
    "Creator",
    "DatasetGenerator",
    "ModelWrapper",
    "PersonaManager",
    "PersonaSteeringError",
    "Recipe",
    "SteeringEngine",
    "SteeringVector",
    "blend_vectors",
    "compute_safe_floor",
    "get_config",
    "normalize",
    "orthogonalize_persona",
    "project_onto",
    "remove_component",
]

_HOMES = {
    "ActivationExtractor": "extraction.extractor",
    "Config": "config",
    "Creator": "engine.create",
    "DatasetGenerator": "authoring.generator",
    "ModelWrapper": "backends.wrapper",
    "PersonaManager": "personas.manager",
    "PersonaSteeringError": "errors",
    "Recipe": "interventions",
    "SteeringEngine": "engine.steering",
    "SteeringVector": "vectors",
    "blend_vectors": "vectors",
    "compute_safe_floor": "vectors",
    "get_config": "config",
    "normalize": "vectors",
    "orthogonalize_persona": "vectors",
    "project_onto": "vectors",
    "remove_component": "vectors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
