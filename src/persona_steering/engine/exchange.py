"""Vectors to files and back: the use case behind `export` and `import`.

Exported is the raw vector, the canonical form, unless another is asked for: the safe form (without its component
along the safety axis), or, for llama.cpp, what is added at a strength. What a file does not hold is said. Imported
is what the file holds; nothing that it does not say is made up, so a vector of another tool is not calibrated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, ValidationError

from persona_steering.errors import ConflictError, UsageError, VectorError, VectorFileError
from persona_steering.personas import Persona
from persona_steering.personas.datasets import Datasets
from persona_steering.personas.manager import STEERABLE, PersonaManager
from persona_steering.vectors import (
    ModelIdentity,
    SteeringVector,
    VectorKind,
    formats,
    orthogonalize_persona,
    replace_metadata,
)
from persona_steering.vectors.algebra import at_strength
from persona_steering.vectors.card import MEASURED_WITH, Surroundings, vector_card
from persona_steering.vectors.formats import archive, gguf, writing
from persona_steering.vectors.formats.archive import Archive
from persona_steering.vectors.metadata import SAFETY_AXIS


@dataclass(frozen=True)
class Exported:
    """A file that was written, and what its user should know of it."""

    path: Path
    format: str
    vector: SteeringVector  # as it was written
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Imported:
    """A vector that was stored, and what came with it."""

    vector: SteeringVector
    path: Path
    warnings: tuple[str, ...]
    axes: tuple[str, ...] = ()
    persona: Path | None = None  # where the prompts were written


class Exchange:
    """Writes vectors of a store to files, and files into the store.

    `named` says how a model is called in what goes out, as where its id is a folder that nobody is to know.
    """

    def __init__(
        self, manager: PersonaManager, datasets: Datasets, *, named: Callable[[str], str] = lambda model: model
    ) -> None:
        self._manager, self._named = manager, named
        self._store = manager.store
        self._datasets = datasets

    def export(
        self,
        vector: SteeringVector,
        path: Path,
        *,
        format: str | None = None,
        safe: bool = False,
        strength: float | None = None,
        overwrite: bool = False,
    ) -> Exported:
        """Writes a vector to a file, atomically.

        format: a name in `writing.FORMATS`; without one the ending of the path decides.
        safe: without the component along the model's safety axis.
        strength: with the calibrated coefficients times this in its values, for llama.cpp at scale 1.
        Raises: UsageError for a format that is not clear, options that do not go together or a file that exists;
            NotFoundError without a safety axis; VectorError for what the format cannot hold; StorageError.
        """
        chosen = writing.find_format(path, format)
        if path.is_dir():
            raise UsageError(f"{path} is a folder.", hint="Name a file in it.")
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists already.", hint="Add --force to replace it, or name another file.")
        if strength is not None and chosen.name != gguf.FORMAT:
            raise UsageError(
                f"the format {chosen.name!r} holds directions, which its readers multiply themselves.",
                hint="A strength can be written into a GGUF control vector only: --format gguf.",
            )
        source = self._outward(self._safe_form(vector) if safe else vector)
        written = source if strength is None else at_strength(source, strength)
        if strength is not None and 0 in written.layers:
            raise VectorError(
                f"{vector.name!r} is calibrated at layer 0, which llama.cpp cannot steer.",
                hint="Leave the strength out, or create the vector again at other layers.",
            )
        lost = writing.losses(written, chosen)
        warnings = list(self._cautions(vector, safety=safe or strength is None))
        warnings += [f"the {chosen.name} file does not hold {'; '.join(lost)}."] if lost else []
        if chosen.name == gguf.FORMAT:
            warnings.append(_for_llama_cpp(source, strength))
        if chosen.name == archive.FORMAT:
            archive.write(path, self._archive(written))
        else:
            writing.write(path, written, chosen.name)
        return Exported(path, chosen.name, written, tuple(warnings))

    def read(
        self,
        path: Path,
        *,
        name: str | None = None,
        kind: VectorKind | None = None,
        model: ModelIdentity | None = None,
        written_by: formats.Writer | None = None,
        overwrite: bool = False,
    ) -> Imported:
        """Stores the vector of a file, with the axes and the prompts of an archive where there are none yet.

        The options say what the file does not; see `formats.read`. Nothing is stored unless all of it can be.
        Raises: NotFoundError, ConflictError for a name that is taken, ModelMismatchError, VectorError for a vector
            without a model, VectorFileError for a file that is refused, StorageError.
        """
        vector = formats.read(path, name=name, kind=kind, model=model, written_by=written_by)
        if vector.metadata.model is None:
            raise VectorError(
                f"{path} does not say which model it was made for.",
                hint=f"Name that model with --model. It must have {vector.hidden_size} values a layer, and the layers "
                f"up to {vector.layers[-1]}.",
            )
        parts = archive.read(path) if formats.container(path) == archive.FORMAT else Archive(vector)
        persona = None if parts.persona is None else _persona(path, parts.persona, vector)
        axes, warnings = self._new_axes(path, parts, vector.metadata.model)
        self._check_free(vector, vector.metadata.model, overwrite=overwrite)
        self._manager.bind(vector.metadata.model)
        saved = self._manager.save(vector)
        for axis in axes:
            self._manager.save(axis)
        written = None
        if persona is not None and not self._datasets.persona_path(persona.name).exists():
            written = self._datasets.save_persona(persona)
        warnings += self._on_arrival(vector)
        return Imported(vector, saved, tuple(warnings), tuple(axis.name for axis in axes), written)

    def _on_arrival(self, vector: SteeringVector) -> Iterator[str]:
        """What the user of an imported vector should know."""
        metadata = vector.metadata
        if metadata.kind == "baseline":
            yield f"{vector.name!r} is a mean activation and not a direction, so nothing can be steered with it."
        if "at_strength" in metadata.settings:
            yield f"{vector.name!r} has a strength in its values, for llama.cpp; the raw vector is the one to keep."
        if metadata.source == f"import:{gguf.FORMAT}" and metadata.settings.get("written_by") == "unknown":
            yield (
                "direction.N was read as layer N. If llama.cpp's own generator or repeng wrote the file, import it "
                "again with --written-by cvector-generator or --written-by repeng."
            )
        if metadata.kind in STEERABLE and not (metadata.reference_norms or self._manager.reference_norms()):
            yield (
                "how long the hidden states of this model are has not been measured; before you steer with the vector, "
                "run: persona-steer extract-axes safety"
            )

    def _safe_form(self, vector: SteeringVector) -> SteeringVector:
        metadata = vector.metadata
        if metadata.kind not in STEERABLE or metadata.model is None:
            raise UsageError(f"{vector.name!r} has no safe form.", hint="Only personas and traits of a model have one.")
        self._manager.bind(metadata.model)
        axis = self._manager.safety_axis()
        safe = orthogonalize_persona(vector, axis)
        calibration = safe.metadata.calibration
        changes: dict[str, object] = {
            "settings": {**metadata.settings, "without": {"axis": axis.name, "digest": axis.digest}},
            "safe_calibration": None,
            "evidence": None,
        }
        if calibration is not None and calibration.settings.get(MEASURED_WITH, axis.digest) != axis.digest:
            changes["calibration"] = None  # it was measured without another axis than this one
        return replace_metadata(safe, safe.metadata.model_copy(update=changes))

    def _outward(self, vector: SteeringVector) -> SteeringVector:
        """The vector with its models called as they are to be called elsewhere."""
        models = {field: getattr(vector.metadata, field) for field in ("model", "transferred_from")}
        changes = {
            field: model.model_copy(update={"id": self._named(model.id)}) for field, model in models.items() if model
        }
        return replace_metadata(vector, vector.metadata.model_copy(update=changes))

    def _cautions(self, vector: SteeringVector, *, safety: bool) -> Iterator[str]:
        """What holds of the vector wherever it goes: that what was measured is weak, or no longer true."""
        card = vector_card(vector, self._surroundings(vector, safety=safety))
        if card.status in ("stale", "weak"):
            yield f"{vector.name!r} is {card.status}: {card.reason}."

    def _surroundings(self, vector: SteeringVector, *, safety: bool = True) -> Surroundings:
        model = vector.metadata.model
        return Surroundings.of(self._store.list(model) if model else (), model, safety=safety)

    def _archive(self, vector: SteeringVector) -> Archive:
        metadata, model = vector.metadata, vector.metadata.model
        axes = {}
        measured_with = metadata.safe_calibration.settings.get(MEASURED_WITH) if metadata.safe_calibration else None
        if model is not None and self._store.exists("axis", SAFETY_AXIS, model):
            axis = self._store.load("axis", SAFETY_AXIS, model)
            axes = {SAFETY_AXIS: self._outward(axis)} if axis.digest == measured_with else {}
        card = vector_card(vector, self._surroundings(vector)).model_dump(mode="json", exclude={"metadata"})
        return Archive(vector, axes, card, _prompts(vector))

    def _new_axes(self, path: Path, parts: Archive, model: ModelIdentity) -> tuple[list[SteeringVector], list[str]]:
        """The axes of an archive that the model has not, and a warning for one that it has otherwise."""
        axes, warnings = [], []
        for name, axis in parts.axes.items():
            metadata = axis.metadata
            if (metadata.kind, metadata.name) != ("axis", name) or not (metadata.model or model).is_same_as(model):
                raise VectorFileError(f"{path}: its axis {name!r} is not an axis of the same model.")
            if not self._store.exists("axis", name, model):
                axes.append(axis)
            elif self._store.load("axis", name, model).digest != axis.digest:
                warnings.append(
                    f"this model has another {name} axis than the one that the vector was measured with; yours is kept."
                )
        return axes, warnings

    def _check_free(self, vector: SteeringVector, model: ModelIdentity, *, overwrite: bool) -> None:
        kind = vector.metadata.kind
        for other in STEERABLE if kind in STEERABLE else (kind,):
            if not self._store.exists(other, vector.name, model) or (overwrite and other == kind):
                continue
            hint = "Add --force to replace it, or --name for another name."
            raise ConflictError(
                f"there is {'an' if other == 'axis' else 'a'} {other} {vector.name!r} of this model already.",
                hint=hint if other == kind else "Choose another name with --name.",
            )


def _for_llama_cpp(vector: SteeringVector, strength: float | None) -> str:
    if strength is not None:
        return "llama.cpp (--control-vector FILE, at scale 1) adds it to every token, and sets no floor on an axis."
    measured = "--at-strength 1.0 writes the measured dose" if vector.metadata.calibration else "none was measured"
    return f"the directions are raw, so llama.cpp's scale is not a strength; {measured}."


def _prompts(vector: SteeringVector) -> dict[str, JsonValue] | None:
    """The persona that a vector was made from, as far as its metadata hold it."""
    metadata = vector.metadata
    if metadata.kind != "persona" or not metadata.system_prompts:
        return None
    try:
        persona = Persona(name=vector.name, description=metadata.description, system_prompts=metadata.system_prompts)
    except ValidationError:  # prompts that this package would not have made; the vector's metadata have them still
        return None
    return persona.model_dump(mode="json", exclude={"source"})


def _persona(path: Path, data: Mapping[str, JsonValue], vector: SteeringVector) -> Persona:
    try:
        return Persona.model_validate({**data, "name": vector.name})
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise VectorFileError(f"{path}: its persona is not valid at {where}: {first['msg']}.") from exc
