"""Steering vectors: the value itself, its algebra, its store, and the files of other tools."""

from __future__ import annotations

from persona_steering.vectors.algebra import (
    blend_vectors,
    compute_safe_floor,
    cosine,
    normalize,
    orthogonalize_persona,
    project_onto,
    remove_component,
)
from persona_steering.vectors.card import Card, Status, Surroundings, make_cards
from persona_steering.vectors.evidence import Evidence
from persona_steering.vectors.metadata import (
    NAME_PATTERN,
    SCHEMA_VERSION,
    Calibration,
    ModelIdentity,
    VectorKind,
    VectorMetadata,
    check_name,
    suggest_name,
)
from persona_steering.vectors.store import StoredVector, VectorStore
from persona_steering.vectors.values import Interval
from persona_steering.vectors.vector import (
    Direction,
    GGUFConvention,
    SteeringVector,
    check_same_model,
    layer_from_assistant_axis_index,
    layer_from_gguf_index,
    layer_from_persona_vectors_row,
    replace_metadata,
)

__all__ = [
    "NAME_PATTERN",
    "SCHEMA_VERSION",
    "Calibration",
    "Card",
    "Direction",
    "Evidence",
    "GGUFConvention",
    "Interval",
    "ModelIdentity",
    "Status",
    "SteeringVector",
    "StoredVector",
    "Surroundings",
    "VectorKind",
    "VectorMetadata",
    "VectorStore",
    "blend_vectors",
    "check_name",
    "check_same_model",
    "compute_safe_floor",
    "cosine",
    "layer_from_assistant_axis_index",
    "layer_from_gguf_index",
    "layer_from_persona_vectors_row",
    "make_cards",
    "normalize",
    "orthogonalize_persona",
    "project_onto",
    "remove_component",
    "replace_metadata",
    "suggest_name",
]
