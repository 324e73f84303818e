"""The stored vectors as a library: found by name, described, copied under another name, removed.

The vectors of one model are meant, or where there is none, those of all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from persona_steering.config import Config
from persona_steering.errors import ConflictError, UsageError, unknown
from persona_steering.files import storage_error
from persona_steering.personas.manager import STEERABLE
from persona_steering.personas.preload import PreloadList
from persona_steering.vectors import (
    ModelIdentity,
    SteeringVector,
    VectorKind,
    VectorMetadata,
    VectorStore,
    check_name,
    replace_metadata,
)
from persona_steering.vectors.card import Card, make_cards
from persona_steering.vectors.formats import safetensors
from persona_steering.vectors.metadata import ASSISTANT_AXIS, FORKED_FROM


@dataclass(frozen=True)
class Entry:
    """One file of the store: its card, and where it is. `own` says whether it is of the model in use."""

    card: Card
    path: Path
    own: bool

    @property
    def id(self) -> str:
        """Its name; where it is another model's, NAME@MODEL."""
        return self.card.name if self.own else f"{self.card.name}@{self.path.parent.parent.name.rpartition('-')[2]}"

    @property
    def version(self) -> int:
        """Another one whenever its values or its metadata change."""
        metadata = self.card.metadata
        content = self.card.reason if metadata is None else f"{self.card.digest} {metadata.model_dump_json()}"
        return int(hashlib.sha256(content.encode()).hexdigest()[:13], 16)  # a number that JavaScript holds exactly

    @property
    def size(self) -> int:
        """Of its file in bytes; 0 where that is gone by now."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


class Library:
    """The vectors in a workspace, for one model (None: of all)."""

    def __init__(self, config: Config, model: ModelIdentity | None) -> None:
        self._config, self._model = config, model
        self._store = VectorStore(config.vectors_dir)

    def entries(self, kinds: Collection[VectorKind], *, all_models: bool = False) -> list[Entry]:
        """Those of some kinds by id, damaged ones too; with `all_models` also those of other models."""
        own = {} if self._model is None else {one.path: one for one in self._store.list(self._model)}
        stored = {**own}
        if all_models or self._model is None:
            stored |= {one.path: one for one in self._store.list()}
        cards = make_cards(stored.values(), self._model, safety=self._config.steering.safety)
        found: dict[str, Entry] = {}
        for card, path in zip(cards, stored, strict=True):
            if card.kind in kinds:
                entry = Entry(card, path, own=path in own)
                found.setdefault(entry.id, entry)  # of two folders of one model the first counts, as on loading
        return sorted(found.values(), key=lambda entry: entry.id)

    def find(self, reference: str, kinds: Sequence[VectorKind]) -> Entry:
        """The one of this name or id. Raises NotFoundError, and UsageError for a name that several models have."""
        check_name(reference.partition("@")[0])
        everything = self.entries(kinds, all_models=True)
        found = [entry for entry in everything if entry.id == reference]
        found = found or [entry for entry in everything if entry.card.name == reference]
        if not found:
            raise unknown(kinds[0], reference, [entry.id for entry in everything])
        if len(found) > 1:
            ids = ", ".join(entry.id for entry in found)
            raise UsageError(f"{reference!r} is there for several models.", hint=f"Say which: {ids}.")
        return found[0]

    def read(self, entry: Entry) -> SteeringVector:
        """Its directions, verified. Raises VectorFileError."""
        vector = safetensors.read(entry.path)
        return replace_metadata(vector, vector.metadata.model_copy(update={"name": entry.card.name}))

    def change(self, entry: Entry, *, description: str | None = None, tags: Sequence[str] | None = None) -> Entry:
        """Sets what is given, and stores it. Raises VectorFileError, StorageError."""
        changes: dict[str, object] = {} if description is None else {"description": description}
        changes |= {} if tags is None else {"tags": tuple(dict.fromkeys(tags))}
        vector = self.read(entry)
        safetensors.write(entry.path, replace_metadata(vector, vector.metadata.model_copy(update=changes)))
        return self.find(entry.id, (entry.card.kind,))

    def fork(self, entry: Entry, name: str) -> Entry:
        """A copy under another name, with all that was measured. Raises ConflictError for a name in use."""
        vector = self.read(entry)
        metadata = vector.metadata
        self._check_free(name, metadata)
        settings: dict[str, JsonValue] = {FORKED_FROM: metadata.made_as, **metadata.settings}
        copy = metadata.model_copy(update={"name": name, "settings": settings})
        path = self._store.save(replace_metadata(vector, copy))
        return next(one for one in self.entries((metadata.kind,), all_models=True) if one.path == path)

    def remove(self, entry: Entry) -> list[Path]:
        """Deletes it as `remove_vector` does. Raises UsageError for an axis, StorageError."""
        if entry.card.kind not in STEERABLE:
            raise UsageError(
                f"{entry.card.name!r} is the model's own {entry.card.kind}, not a persona or trait.",
                hint="It is made again when axes are extracted.",
            )
        return remove_vector(self._store, PreloadList(self._config.workspace), entry.card, entry.path)

    def _check_free(self, name: str, metadata: VectorMetadata) -> None:
        check_name(name)
        for kind in STEERABLE if metadata.kind in STEERABLE else (metadata.kind,):
            if metadata.model is not None and self._store.find(kind, name, metadata.model):
                raise ConflictError(f"there is a {kind} {name!r} of this model already.", hint="Choose another name.")


def files_of(store: VectorStore, card: Card, path: Path) -> Iterator[Path]:
    """What goes when a vector is deleted: its file, and the assistant axis that a persona was part of."""
    yield path
    model = card.metadata.model if card.metadata else None
    axis = store.find("axis", ASSISTANT_AXIS, model) if model is not None and card.kind == "persona" else None
    if axis is not None:
        yield axis


def remove_vector(store: VectorStore, preload: PreloadList, card: Card, path: Path) -> list[Path]:
    """Deletes the files of a vector, and takes its name off the preload list. Returns them. Raises StorageError."""
    gone = list(files_of(store, card, path))
    for file in gone:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, file) from error
    if card.metadata is not None and card.metadata.model is not None:
        preload.discard(card.metadata.model, [card.name])
    return gone
