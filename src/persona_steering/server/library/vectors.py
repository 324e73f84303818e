"""The library of a running server: the vectors of its model, shown, changed, written to files and read from them."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from persona_steering.config import Config
from persona_steering.engine.examples import find_examples
from persona_steering.engine.exchange import Exchange
from persona_steering.engine.library import Entry, Library
from persona_steering.errors import ConflictError
from persona_steering.personas.datasets import Datasets
from persona_steering.personas.manager import PersonaManager
from persona_steering.server.errors import ApiError, without_paths
from persona_steering.server.feeds.feed import LibraryChange
from persona_steering.server.jobs.kinds import Change
from persona_steering.server.library.shown import card_of, data_of, detail_of, portable_id
from persona_steering.server.model.slot import ModelSlot
from persona_steering.server.paging import Page, page_of
from persona_steering.server.schemas.library import (
    ExportFormat,
    ImportedVector,
    VectorCard,
    VectorChanges,
    VectorData,
    VectorDetail,
    VectorExamples,
    VectorQuery,
)
from persona_steering.server.stores.versions import check_version
from persona_steering.vectors import ModelIdentity, VectorKind
from persona_steering.vectors.formats import Writer, archive
from persona_steering.vectors.formats.writing import FORMATS

Kinds = Sequence[VectorKind]
_TOLD: dict[VectorKind, Literal["persona", "trait", "axis"]] = {
    "persona": "persona",
    "trait": "trait",
    "axis": "axis",
    "baseline": "axis",
}


@dataclass(frozen=True)
class Download:
    """A file for a client. It is called as the vector is, whose name is safe anywhere."""

    name: str
    content: bytes
    warnings: tuple[str, ...]

    @property
    def headers(self) -> dict[str, str]:
        """Those with which a browser saves it, and the warnings as a JSON list."""
        warnings = json.dumps([without_paths(text) for text in self.warnings])
        return {"content-disposition": f'attachment; filename="{self.name}"', "x-warnings": warnings}


@dataclass(frozen=True)
class Upload:
    """A file that came in, with what it does not say of itself."""

    file: Path
    name: str | None = None
    kind: VectorKind | None = None
    written_by: Writer | None = None
    overwrite: bool = False


class VectorLibrary:
    """The vectors of the loaded model; without one, of all. Any thread may ask. Changes are made one at a time.

    `tell` hears of every change. Names that are not there raise NotFoundError with the nearest.
    """

    def __init__(self, config: Config, slot: ModelSlot, tell: Callable[[LibraryChange], None]) -> None:
        self._config, self._slot, self._tell = config, slot, tell
        self._changing = threading.Lock()

    def page(self, kinds: Kinds, query: VectorQuery) -> Page[VectorCard]:
        """The vectors of some kinds, by id."""
        loaded, strength = self._loaded(), self._config.steering.default_strength
        entries = self._open().entries(kinds, all_models=query.all_models)
        cards = [card_of(entry, loaded=loaded, default_strength=strength) for entry in entries]
        return page_of(cards, query, lambda card: card.id)

    def get(self, reference: str, kinds: Kinds) -> VectorDetail:
        """One vector, by its name or id."""
        return self._shown(self._open().find(reference, kinds))

    def data(self, reference: str, kinds: Kinds, *, directions: bool) -> VectorData:
        """Its values. Raises VectorFileError for a damaged file."""
        library = self._open()
        return data_of(library.read(library.find(reference, kinds)), directions=directions)

    def examples(self, reference: str, kinds: Kinds) -> VectorExamples:
        """What it does to answers, as far as that was kept."""
        digest = self._open().find(reference, kinds).card.digest
        found = find_examples(digest, self._config.runs_dir) if digest else None
        if found is None:
            return VectorExamples(source=None, strength=None, safe=None, data=[])
        return VectorExamples(source=found.source, strength=found.strength, safe=found.safe, data=list(found.data))

    def change(self, reference: str, kinds: Kinds, changes: VectorChanges, *, expected: int | None) -> VectorDetail:
        """Sets what is given. Raises VersionError where another version than `expected` is there."""
        with self._changing:
            library = self._open()
            entry = _of_version(library.find(reference, kinds), expected)
            entry = library.change(entry, description=changes.description, tags=changes.tags)
        self._announce(entry, "changed")
        return self._shown(entry)

    def fork(self, reference: str, kinds: Kinds, name: str) -> VectorDetail:
        """A copy under another name. Raises ConflictError for a name in use."""
        with self._changing:
            library = self._open()
            entry = library.fork(library.find(reference, kinds), name)
        self._announce(entry, "made")
        return self._shown(entry)

    def remove(self, reference: str, kinds: Kinds, *, expected: int | None) -> None:
        """Deletes it, with the assistant axis that a persona was part of. Raises VersionError as `change`."""
        with self._changing:
            library = self._open()
            entry = _of_version(library.find(reference, kinds), expected)
            gone = library.remove(entry)
        self._announce(entry, "deleted")
        if len(gone) > 1:
            self._tell(LibraryChange(kind="axis", name=gone[1].stem, change="deleted"))

    def export(
        self, reference: str, kinds: Kinds, format: ExportFormat, *, safe: bool = False, strength: float | None = None
    ) -> Download:
        """It as a file of some format. Raises as `Exchange.export`."""
        library = self._open()
        vector = library.read(library.find(reference, kinds))
        chosen = FORMATS[archive.FORMAT if format == "zip" else format]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{vector.name}{chosen.suffix}"
            done = self._exchange().export(vector, path, format=chosen.name, safe=safe, strength=strength)
            return Download(path.name, path.read_bytes(), done.warnings)

    def take(self, upload: Upload) -> ImportedVector:
        """Stores the vector of a file for the loaded model. Raises as `Exchange.read`; ApiError 503 without a model."""
        model = self._slot.serving.manager.model
        with self._changing:
            try:
                done = self._exchange(model).read(
                    upload.file,
                    name=upload.name,
                    kind=upload.kind,
                    model=model,
                    written_by=upload.written_by,
                    overwrite=upload.overwrite,
                )
            except ConflictError as error:
                raise ConflictError(error.message, hint="Give it another ?name=, or add ?overwrite=true.") from error
            entry = self._open().find(done.vector.name, (done.vector.metadata.kind,))
        self._announce(entry, "made")
        for axis in done.axes:
            self._tell(LibraryChange(kind="axis", name=axis, change="made"))
        return ImportedVector(
            vector=self._shown(entry),
            axes=list(done.axes),
            has_prompts=done.persona is not None,
            warnings=[without_paths(text) for text in done.warnings],
        )

    def sources(self) -> set[str]:
        """What the loaded model's vectors were made from, such as "archetype:sage"."""
        entries = self._open().entries(("persona", "trait"))
        return {entry.card.metadata.source for entry in entries if entry.own and entry.card.metadata}

    def _open(self) -> Library:
        return Library(self._config, self._model())

    def _model(self) -> ModelIdentity | None:
        try:
            return self._slot.serving.manager.model
        except ApiError:
            return None

    def _loaded(self) -> list[str]:
        try:
            return self._slot.serving.loaded()
        except ApiError:
            return []

    def _exchange(self, model: ModelIdentity | None = None) -> Exchange:
        manager = PersonaManager(self._config, model=model)
        return Exchange(manager, Datasets(self._config.datasets_dir), named=portable_id)

    def _shown(self, entry: Entry) -> VectorDetail:
        return detail_of(entry, loaded=self._loaded(), default_strength=self._config.steering.default_strength)

    def _announce(self, entry: Entry, change: Change) -> None:
        self._tell(LibraryChange(kind=_TOLD[entry.card.kind], name=entry.card.name, change=change))


def _of_version(entry: Entry, expected: int | None) -> Entry:
    check_version(f"{entry.card.kind} {entry.card.name!r}", entry.version, expected)
    return entry
