"""Writing vectors in the formats of other tools, and saying what each of them cannot hold.

To add a format: one line in FORMATS. `keeps` names the metadata that come back when the file is read again; what a
vector has beyond these is lost on the way, and `losses` says so in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from persona_steering.errors import UsageError, VectorError, nearest
from persona_steering.vectors.formats import (
    archive,
    assistant_axis_pt,
    gguf,
    legacy,
    persona_vectors_pt,
    safetensors,
)
from persona_steering.vectors.metadata import VectorKind, VectorMetadata, known_percentiles
from persona_steering.vectors.vector import SteeringVector, layer_ranges

ALL = frozenset(VectorMetadata.model_fields)
DIRECTIONS: tuple[VectorKind, ...] = ("persona", "trait", "axis")


@dataclass(frozen=True)
class Format:
    """One way to write a vector."""

    name: str
    suffix: str
    about: str
    write: Callable[[Path, SteeringVector], None]
    keeps: Callable[[VectorMetadata], frozenset[str]]  # the fields that come back
    kinds: tuple[VectorKind, ...] = DIRECTIONS
    holds: Callable[[SteeringVector, int], bool] = lambda vector, layer: True  # whether a layer comes back


def write(path: Path, vector: SteeringVector, name: str) -> None:
    """Write a vector in the format of that name, atomically.

    Raises: UsageError for an unknown format or a kind that it cannot hold, VectorError for layers that it needs or
        cannot hold, StorageError.
    """
    format = find_format(path, name)
    kind = vector.metadata.kind
    if kind not in format.kinds:
        raise VectorError(
            f"{vector.name!r} is {_a(kind)}, which the format {format.name!r} cannot hold.",
            hint=f"Formats for {_a(kind)}: {', '.join(f.name for f in FORMATS.values() if kind in f.kinds)}.",
        )
    format.write(path, vector)


def find_format(path: Path, name: str | None = None) -> Format:
    """The format of that name, else the one that the ending of the path stands for.

    Raises: UsageError for an unknown name, and for an ending that stands for none or for several formats.
    """
    if name is not None:
        if name not in FORMATS:
            raise UsageError(
                f"unknown format {name!r}.", hint=nearest(name, FORMATS) or f"Known: {', '.join(FORMATS)}."
            )
        return FORMATS[name]
    suffix = path.suffix.lower()
    meant = [format for format in FORMATS.values() if format.suffix == suffix]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UsageError(
            f"{suffix!r} is the ending of several formats.",
            hint=f"Add --format with one of {', '.join(format.name for format in meant)}.",
        )
    endings = ", ".join(f"{format.name} ({format.suffix})" for format in FORMATS.values())
    raise UsageError(
        f"{path.name!r} has no ending that stands for a format.", hint=f"Add --format with one of {endings}."
    )


def losses(vector: SteeringVector, format: Format) -> tuple[str, ...]:
    """What this vector has and a file of this format does not hold, in words; empty when nothing is lost."""
    metadata = vector.metadata
    kept = format.keeps(metadata)
    dropped = [layer for layer in vector.layers if not format.holds(vector, layer)]
    lost = [f"the direction at layer {layer_ranges(dropped)}"] if dropped else []
    rest = [layer for layer in vector.layers if layer not in dropped]
    if dropped and rest:  # a calibration that needs a dropped layer goes with it
        remaining = vector.restrict(rest).metadata
        kept = frozenset(field for field in kept if bool(getattr(remaining, field)) == bool(getattr(metadata, field)))
    lost += [text for field, text in NOT_HELD.items() if field not in kept and getattr(metadata, field)]
    return (*lost, *_provenance(metadata, kept))


def _provenance(metadata: VectorMetadata, kept: frozenset[str]) -> Iterator[str]:
    known = [field.replace("_", " ") for field in PROVENANCE if field not in kept and getattr(metadata, field)]
    if known:
        yield f"where it comes from ({', '.join(known)})"


def _a(kind: VectorKind) -> str:
    return f"an {kind}" if kind == "axis" else f"a {kind}"


NOT_HELD = {
    "calibration": "the calibration (what strength 1.0 means)",
    "safe_calibration": "the calibration of its safe form",
    "thresholds": "the thresholds for floors",
    "evidence": "the evidence measured for it",
    "reference_norms": "the norms of the model's hidden states",
    "model": "the identity of its model",
    "name": "its name",
    "kind": "its kind",
    "tags": "its tags",
}
PROVENANCE = ("description", "opposite", "system_prompts", "counts", "judge", "seed", "data_hashes")


def _all(metadata: VectorMetadata) -> frozenset[str]:
    return ALL


def _only(*fields: str) -> Callable[[VectorMetadata], frozenset[str]]:
    return lambda metadata: frozenset(fields)


def _assistant_axis(metadata: VectorMetadata) -> frozenset[str]:
    return {"axis": frozenset({"name", "kind", "sign"}), "baseline": frozenset({"name", "kind"})}.get(
        metadata.kind, frozenset()
    )


def _capping(metadata: VectorMetadata) -> frozenset[str]:
    whole = len(known_percentiles(metadata.thresholds)) == len(metadata.thresholds)
    return frozenset({"name", "kind", "sign"} | ({"thresholds"} if whole else set()))


def _legacy_pt(metadata: VectorMetadata) -> frozenset[str]:
    if metadata.kind in ("persona", "trait"):
        return frozenset({"name", "kind", "description"} | ({"opposite"} if metadata.kind == "trait" else set()))
    return frozenset({"kind"} | ({"thresholds"} if len(metadata.thresholds) == 1 else set()))


def _legacy_json(metadata: VectorMetadata) -> frozenset[str]:
    return frozenset({"name"} | ({"kind"} if metadata.kind == "trait" else set()))


def _before_the_last(vector: SteeringVector, layer: int) -> bool:
    return vector.metadata.model is not None and layer < vector.metadata.model.num_layers - 1


FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        Format("safetensors", ".safetensors", "the native file", safetensors.write, _all, kinds=get_args(VectorKind)),
        Format(
            archive.FORMAT,
            ".zip",
            "the vector with its axes, card and prompts",
            lambda path, vector: archive.write(path, archive.Archive(vector)),
            _all,
            kinds=get_args(VectorKind),
        ),
        Format(
            gguf.FORMAT,
            ".gguf",
            "a control vector of llama.cpp and repeng",
            gguf.write,
            _all,
            holds=lambda vector, layer: layer > 0,
        ),
        Format(
            persona_vectors_pt.FORMAT,
            ".pt",
            "a bare tensor [layers + 1, hidden]",
            persona_vectors_pt.write,
            _only(),
            holds=_before_the_last,
        ),
        Format(
            assistant_axis_pt.FORMAT,
            ".pt",
            "a tensor [layers, hidden]: an axis, a direction or a mean",
            assistant_axis_pt.write,
            _assistant_axis,
            kinds=get_args(VectorKind),
        ),
        Format(
            assistant_axis_pt.CAPPING_FORMAT,
            ".pt",
            "an axis with its floors, as assistant-axis caps",
            assistant_axis_pt.write_capping_config,
            _capping,
            kinds=("axis",),
            holds=lambda vector, layer: layer in assistant_axis_pt.capped_layers(vector),
        ),
        Format(
            legacy.FORMAT_PT,
            ".pt",
            "the earlier web system's file",
            legacy.write_pt,
            _legacy_pt,
            kinds=get_args(VectorKind),
        ),
        Format(legacy.FORMAT_JSON, ".json", "the earlier cross-model system's file", legacy.write_json, _legacy_json),
    )
}
