"""`PersonaManager`: the personas and traits of one model, on disk and in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from persona_steering.config import Config
from persona_steering.errors import ConflictError, NotFoundError, UsageError, unknown
from persona_steering.vectors import (
    ModelIdentity,
    SteeringVector,
    StoredVector,
    VectorKind,
    VectorMetadata,
    VectorStore,
    blend_vectors,
    check_name,
    orthogonalize_persona,
    replace_metadata,
)
from persona_steering.vectors.formats import read
from persona_steering.vectors.metadata import ASSISTANT_BASELINE, SAFETY_AXIS


class DescriptionCreator(Protocol):
    """Whoever can make a vector from a description, as the engine's `Creator` does."""

    def create_from_description(self, name: str, description: str) -> SteeringVector:
        """The stored vector of a persona that is only described."""


STEERABLE: tuple[VectorKind, ...] = ("persona", "trait")
Stamp = tuple[int, int, int]
_NORMS_OF: tuple[tuple[VectorKind, str], ...] = (("baseline", ASSISTANT_BASELINE), ("axis", SAFETY_AXIS))


@dataclass(frozen=True)
class _Held:
    """A vector in memory, and the file that it stands for as that was; None: it was never stored."""

    vector: SteeringVector
    path: Path | None
    stamp: Stamp | None

    @property
    def is_current(self) -> bool:
        """Whether the file is still the one that was read."""
        return self.path is None or _stamp(self.path) == self.stamp


class PersonaManager:
    """Finds, loads and saves vectors. `bind` it to a model first where the store holds several models'.

    A loaded vector whose file is replaced or deleted, by whomever, is read again at its next use, or gone.
    """

    def __init__(self, config: Config, *, model: ModelIdentity | None = None) -> None:
        self.store = VectorStore(config.vectors_dir)
        self._model = model
        self._loaded: dict[str, _Held] = {}

    def bind(self, model: ModelIdentity) -> None:
        """Says which model's vectors are meant. Loaded vectors of another model are unloaded."""
        if self._model is not None and not self._model.is_same_as(model):
            self._loaded.clear()
        self._model = model

    @property
    def model(self) -> ModelIdentity:
        """The model that is meant: the bound one, else the only one in the store. Raises UsageError."""
        if self._model is None:
            found = [stored.metadata.model for stored in self.entries() if stored.metadata]
            models = {model.fingerprint: model for model in found if model is not None}
            if len(models) != 1:
                raise UsageError(
                    f"the store holds vectors of {len(models)} models, so the model must be said.",
                    hint="Give model=..., or make a SteeringEngine first.",
                )
            self._model = next(iter(models.values()))
        return self._model

    def entries(self) -> list[StoredVector]:
        """Everything in the store, of the bound model or of all; broken files carry their error."""
        return self.store.list(self._model)

    def list_available(self) -> list[str]:
        """Names of the personas and traits on disk."""
        kinds = STEERABLE
        return sorted({stored.name for stored in self.entries() if stored.metadata and stored.metadata.kind in kinds})

    def list_loaded(self) -> list[str]:
        """Names of the personas and traits in memory."""
        return sorted(name for name in [*self._loaded] if self._held(name) is not None)

    def load(self, name: str) -> SteeringVector:
        """The raw vector of a persona or trait. Raises NotFoundError with the nearest names.

        One that came without reference norms, as from another tool's file, gets those of the model.
        """
        vector = self._held(name) or self._read(name)
        if not vector.metadata.reference_norms and (norms := self.reference_norms()):
            vector = replace_metadata(vector, vector.metadata.model_copy(update={"reference_norms": norms}))
            self._loaded[name] = replace(self._loaded[name], vector=vector)
        return vector

    def _held(self, name: str) -> SteeringVector | None:
        """The vector in memory; what no longer is on disk as it was read is dropped."""
        held = self._loaded.get(name)
        if held is not None and held.is_current:
            return held.vector
        self._loaded.pop(name, None)
        return None

    def _read(self, name: str) -> SteeringVector:
        kind = self.kind_of(name)
        path = self.store.find(kind, name, self.model)
        stamp = _stamp(path)  # before reading: what is written meanwhile is noticed at the next use
        vector = self.store.load(kind, name, self.model)
        self._loaded[name] = _Held(vector, path, stamp)
        return vector

    def check_source(self, source: str) -> None:
        """Refuses what `find_vector` cannot find for any model; no model need be known. Raises as it does."""
        if _is_file(source):
            if not Path(source).is_file():
                raise NotFoundError(f"there is no file {source}.", hint="Check the path.")
            return
        known = {stored.name for stored in self.entries()}
        if check_name(source) not in known:
            raise unknown("vector", source, known, hint="Make it with: persona-steer create")

    def find_vector(self, source: str) -> SteeringVector:
        """Any vector of the model: by the name of a persona, trait or axis in the store, or by its file.

        A source with an ending or a folder is a file; one that does not name its model is taken to be of this one.
        Raises NotFoundError with the nearest names, UsageError, ModelMismatchError, VectorFileError.
        """
        if _is_file(source):
            return read(Path(source), model=self.model)
        check_name(source)
        steerable = any(self.store.exists(kind, source, self.model) for kind in STEERABLE)
        if not steerable and self.store.exists("axis", source, self.model):
            return self.store.load("axis", source, self.model)
        return self.load(source)

    def unload(self, name: str) -> None:
        """Drops a vector from memory. Raises NotFoundError when it is not there."""
        if self._held(name) is None:
            raise unknown("loaded persona", name, self._loaded)
        del self._loaded[name]

    def delete(self, name: str) -> None:
        """Removes a vector from disk and memory. Raises NotFoundError."""
        self.store.delete(self.kind_of(name), name, self.model)
        self._loaded.pop(name, None)

    def kind_of(self, name: str) -> VectorKind:
        """Whether a name is a persona or a trait. Raises NotFoundError or ModelMismatchError."""
        check_name(name)
        for kind in STEERABLE:
            if self.store.exists(kind, name, self.model):
                return kind
        try:
            self.store.load("persona", name, self.model)  # explains when it is there for another model
        except NotFoundError:
            raise unknown(
                "persona or trait", name, self.list_available(), hint="Make it with: persona-steer create"
            ) from None
        return "persona"

    def get_vector(self, name: str, *, safe: bool = True) -> SteeringVector:
        """The vector to steer with; with `safe` its component along the safety axis is removed layer by layer.

        Raises NotFoundError, also when `safe` is asked and the model has no safety axis yet.
        """
        vector = self.load(name)
        return orthogonalize_persona(vector, self.safety_axis()) if safe else vector

    def get_composite(self, weights: Mapping[str, float], *, safe: bool = True) -> SteeringVector:
        """The weighted sum of several raw (or safe) vectors."""
        return blend_vectors({name: self.get_vector(name, safe=safe) for name in weights}, weights)

    def safety_axis(self) -> SteeringVector:
        """The model's safety axis. Raises NotFoundError that says how to make it."""
        if not self.has_safety_axis():
            raise NotFoundError(
                f"the model {self.model.id!r} has no safety axis yet.",
                hint="Make it with: persona-steer extract-axes safety, or turn safety off (--no-safety).",
            )
        return self.store.load("axis", SAFETY_AXIS, self.model)

    def has_safety_axis(self) -> bool:
        """Whether the model's safety axis has been extracted."""
        return self.store.exists("axis", SAFETY_AXIS, self.model)

    def reference_norms(self) -> dict[int, float]:
        """The median ||h|| per layer of the model's own answers, as its baseline or safety axis holds them.

        They are a fact of the model, whatever the vector. Empty while it has neither of the two.
        """
        for kind, name in _NORMS_OF:
            if self.store.exists(kind, name, self.model):
                return dict(self.store.load(kind, name, self.model).metadata.reference_norms)
        return {}

    def save(self, vector: SteeringVector) -> Path:
        """Writes a vector to the store; a loaded one of the same name is replaced. Returns its file."""
        path = self.store.save(vector)
        if vector.metadata.kind in STEERABLE:
            self._loaded[vector.name] = _Held(vector, path, _stamp(path))
        return path

    def check_new(self, name: str) -> None:
        """Raises ConflictError for a name that a persona or trait of the model has."""
        if name in self.list_available():
            raise ConflictError(f"{name!r} exists already.", hint=f"Delete it first: persona-steer delete {name}")

    def create_from_description(self, name: str, description: str, *, creator: DescriptionCreator) -> SteeringVector:
        """Has `creator` write system prompts, extract and store a persona; it is loaded then.

        Raises: UsageError for a name in use, and what the creator raises.
        """
        self.check_new(name)
        vector = creator.create_from_description(check_name(name), description)
        path = self.store.find(vector.metadata.kind, name, self.model)
        self._loaded[name] = _Held(vector, path, _stamp(path))
        return vector

    def create_from_data(
        self,
        name: str,
        raw_vector: SteeringVector | Mapping[int, np.ndarray] | np.ndarray,
        *,
        description: str = "",
        model: ModelIdentity | None = None,
        reference_norms: Mapping[int, float] | None = None,
    ) -> SteeringVector:
        """Stores directions of one's own as a persona, not calibrated.

        `raw_vector` is a SteeringVector, a mapping from layers to `[hidden]`, or an array `[layers, hidden]`.
        Raises UsageError for a name in use, VectorFileError where the shapes do not fit the model.
        """
        check_name(name)
        if isinstance(raw_vector, SteeringVector):
            identity = raw_vector.metadata.model or model or self.model
            directions, base = raw_vector.directions, raw_vector.metadata
        else:
            identity = model or self.model
            rows = raw_vector if isinstance(raw_vector, Mapping) else dict(enumerate(np.asarray(raw_vector)))
            directions = {int(layer): np.asarray(row, np.float32) for layer, row in rows.items()}
            base = VectorMetadata(name=name, kind="persona", model=identity, sign=f"+ is more {name}", source="data")
        for kind in STEERABLE:
            if self.store.exists(kind, name, identity):
                raise UsageError(f"{name!r} exists already.", hint=f"Delete it first: persona-steer delete {name}")
        changes: dict[str, object] = {"name": name, "kind": "persona", "model": identity, "source": "data"}
        changes |= {"description": description} if description else {}
        changes |= {"reference_norms": dict(reference_norms)} if reference_norms else {}
        vector = SteeringVector(directions, base.model_copy(update=changes))
        self.bind(identity)
        self.save(vector)
        return vector


def _is_file(source: str) -> bool:
    """Whether a vector is named by its file and not by its name, which has no ending and no folder."""
    path = Path(source)
    return bool(path.suffix) or len(path.parts) > 1


def _stamp(path: Path | None) -> Stamp | None:
    """What changes whenever a file is replaced; None where there is none."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
