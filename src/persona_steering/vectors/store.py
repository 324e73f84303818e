"""Where vectors live: `root/<model>/{personas,traits,axes}/<name>.safetensors`.

A file is written whole or not at all, and read only for the model it was made for. Two ids of one model (a
hub name and a local folder) see each other's vectors, because the fingerprint decides.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from persona_steering.errors import (
    ModelMismatchError,
    PersonaSteeringError,
    VectorError,
    VectorFileError,
    unknown,
)
from persona_steering.vectors.files import storage_error
from persona_steering.vectors.formats import safetensors
from persona_steering.vectors.metadata import ModelIdentity, VectorKind, VectorMetadata, check_name
from persona_steering.vectors.vector import SteeringVector, replace_metadata

KIND_FOLDERS: dict[VectorKind, str] = {
    "persona": "personas",
    "trait": "traits",
    "axis": "axes",
    "baseline": "axes",
}
FOLDER_KINDS: dict[str, VectorKind] = {"personas": "persona", "traits": "trait", "axes": "axis"}
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class StoredVector:
    """One file of the store: its metadata, or why they cannot be read."""

    path: Path
    folder: str  # "personas", "traits" or "axes"
    name: str
    metadata: VectorMetadata | None
    error: str = ""
    layers: tuple[int, ...] = ()
    digest: str = ""


class VectorStore:
    """The vectors under one folder, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def path(self, kind: VectorKind, name: str, model: ModelIdentity) -> Path:
        """Where `save` puts this vector. Raises: UsageError for an invalid name."""
        return self.root / model.slug / KIND_FOLDERS[kind] / f"{check_name(name)}{SUFFIX}"

    def save(self, vector: SteeringVector) -> Path:
        """Write atomically, replacing the vector of that kind, name and model.

        Raises: VectorError when the vector names no model, or an axis and a baseline would share a name;
            StorageError when the disk is full or not writable: then nothing has changed.
        """
        metadata = vector.metadata
        if metadata.model is None:
            raise VectorError(
                f"vector {vector.name!r} does not say which model it was made for, so it has no place.",
                hint="Import it again and name the model.",
            )
        existing = self.find(metadata.kind, vector.name, metadata.model)
        path = existing or self.path(metadata.kind, vector.name, metadata.model)
        if existing and metadata.kind in ("axis", "baseline"):
            there = _describe(existing).metadata
            if there and there.kind != metadata.kind:
                raise VectorError(
                    f"the name {vector.name!r} is taken: this model has the {there.kind} {vector.name!r}.",
                    hint="Choose another name, or delete that one.",
                )
        safetensors.write(path, vector)
        return path

    def load(self, kind: VectorKind, name: str, model: ModelIdentity) -> SteeringVector:
        """The vector of this kind, name and model, verified.

        Raises: NotFoundError with the nearest names; ModelMismatchError when only another model has it;
            VectorFileError when the file is damaged.
        """
        vector = safetensors.read(self._existing(kind, name, model))
        if vector.metadata.kind != kind:
            raise unknown(kind, name, self._names(kind, model))
        vector.check_model(model)
        if vector.name != name:  # the file was renamed: that is the name it is asked for by
            vector = replace_metadata(vector, vector.metadata.model_copy(update={"name": name}))
        return vector

    def exists(self, kind: VectorKind, name: str, model: ModelIdentity) -> bool:
        """Whether there is a file for it, damaged or not. Raises: UsageError for an invalid name."""
        return self.find(kind, name, model) is not None

    def find(self, kind: VectorKind, name: str, model: ModelIdentity) -> Path | None:
        """The file of this vector, damaged or not; None where there is none. Raises: UsageError for an invalid name."""
        file = f"{check_name(name)}{SUFFIX}"
        candidates = (folder / KIND_FOLDERS[kind] / file for folder in self._model_folders(model))
        return next((path for path in candidates if path.is_file()), None)

    def locate(self, kind: VectorKind, name: str, model: ModelIdentity) -> Path:
        """The file of this vector; where there is none, the one that `save` would write. Raises as `find`."""
        return self.find(kind, name, model) or self.path(kind, name, model)

    def delete(self, kind: VectorKind, name: str, model: ModelIdentity) -> None:
        """Remove the file, damaged or not.

        Raises: NotFoundError, ModelMismatchError when only another model has it, StorageError.
        """
        path = self._existing(kind, name, model)
        try:
            path.unlink()
        except FileNotFoundError as exc:
            raise unknown(kind, name, self._names(kind, model)) from exc
        except OSError as exc:
            raise storage_error(exc, path) from exc

    def list(self, model: ModelIdentity | None = None) -> builtins.list[StoredVector]:
        """Every vector of a model, or of all, by folder and name; no tensor is read.

        A damaged file is listed with its `error`.
        """
        roots = self._model_folders(model) if model else sorted(p for p in _children(self.root) if p.is_dir())
        return [
            _describe(path)
            for root in roots
            for folder in dict.fromkeys(KIND_FOLDERS.values())
            for path in _vector_files(root / folder)
        ]

    def _model_folders(self, model: ModelIdentity) -> builtins.list[Path]:
        """The model's own folder first, then those of its other ids."""
        own = self.root / model.slug
        others = (p for p in _children(self.root) if p.name.endswith(f"-{model.fingerprint_slug}") and p != own)
        return [own, *sorted(others)]

    def _existing(self, kind: VectorKind, name: str, model: ModelIdentity) -> Path:
        path = self.find(kind, name, model)
        if path is not None:
            return path
        for folder in sorted(_children(self.root)):
            foreign = folder / KIND_FOLDERS[kind] / f"{name}{SUFFIX}"
            other = _describe(foreign).metadata if foreign.is_file() else None
            if other and other.kind == kind:
                raise ModelMismatchError(
                    f"{kind} {name!r} was made for {other.model}, and the model is {model}.",
                    hint="Extract it again for this model, or transfer it.",
                )
        raise unknown(kind, name, self._names(kind, model))

    def _names(self, kind: VectorKind, model: ModelIdentity) -> set[str]:
        folders = self._model_folders(model)
        files = (_describe(path) for root in folders for path in _vector_files(root / KIND_FOLDERS[kind]))
        return {stored.name for stored in files if stored.metadata is None or stored.metadata.kind == kind}


def _children(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir() if folder.is_dir() else ()
    except OSError as exc:
        raise VectorFileError(f"{folder} cannot be read: {exc.strerror}.", hint="Check its permissions.") from exc


def _vector_files(folder: Path) -> builtins.list[Path]:
    return sorted(path for path in _children(folder) if path.suffix == SUFFIX and path.is_file())


def _describe(path: Path) -> StoredVector:
    folder, name = path.parent.name, path.stem
    try:
        header = safetensors.read_header(path)
    except PersonaSteeringError as exc:
        return StoredVector(path, folder, name, None, str(exc))
    return StoredVector(path, folder, name, header.metadata, layers=header.layers, digest=header.digest)
