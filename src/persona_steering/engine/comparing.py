"""The use case behind `similarity`: stored vectors of one model, compared. No model is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from persona_steering.engine.names import public_id
from persona_steering.evaluation.pages import similarity_report
from persona_steering.evaluation.similarity import Similarity, compare_vectors
from persona_steering.files import write_atomically
from persona_steering.personas.manager import PersonaManager
from persona_steering.vectors import ModelIdentity
from persona_steering.vectors.metadata import ASSISTANT_AXIS
from persona_steering.vectors.vector import layer_ranges


def compare_stored(
    manager: PersonaManager, names: Sequence[str] = (), *, layers: Sequence[int] | None = None
) -> Similarity:
    """The personas and traits of these names, or all of the model's.

    Raises NotFoundError for an unknown name, UsageError below two vectors or where the model is not known, and what
    `compare_vectors` raises.
    """
    vectors = [manager.load(name) for name in dict.fromkeys(names or manager.list_available())]
    model = manager.model if vectors else None
    has_axis = model is not None and manager.store.exists("axis", ASSISTANT_AXIS, model)
    axis = manager.store.load("axis", ASSISTANT_AXIS, manager.model) if has_axis else None
    return compare_vectors(vectors, layers=layers, axis=axis)


def write_comparison(found: Similarity, model: ModelIdentity, runs: Path, out: Path | None = None) -> Path:
    """Writes similarity.json and report.html to `out`, else to a folder of `runs`; returns the report's path.

    Raises StorageError.
    """
    data = found.model_dump_json(indent=1).encode()
    folder = out or runs / f"similarity-{hashlib.sha256(data).hexdigest()[:8]}"
    facts = {"model": public_id(model.id), "layers": layer_ranges(found.layers)}
    write_atomically(folder / "similarity.json", data + b"\n")
    similarity_report(found, facts).write(folder / "report.html")
    return folder / "report.html"
