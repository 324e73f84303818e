"""Vectors as clients see them, made from what the library has: nothing in them tells of the machine."""

from __future__ import annotations

from collections.abc import Collection

from persona_steering.engine.library import Entry
from persona_steering.engine.names import public_id
from persona_steering.server.errors import without_paths
from persona_steering.server.schemas.library import (
    LayerData,
    Measured,
    Status,
    VectorCalibration,
    VectorCard,
    VectorData,
    VectorDetail,
    VectorModel,
)
from persona_steering.vectors import Calibration, SteeringVector, VectorMetadata
from persona_steering.vectors.card import Status as CardStatus
from persona_steering.vectors.metadata import FORKED_FROM

_STATUS: dict[CardStatus, Status] = {
    "ready": "ready",
    "weak": "weak",
    "stale": "stale",
    "not calibrated": "uncalibrated",
    "other model": "other_model",
    "broken": "broken",
}


def card_of(entry: Entry, *, loaded: Collection[str], default_strength: float) -> VectorCard:
    """A vector in short. `loaded` are the names of the model's own that are in memory."""
    card, about = entry.card, entry.card.metadata
    return VectorCard(
        id=entry.id,
        kind=card.kind,
        name=card.name,
        description=about.description if about else "",
        status=_STATUS[card.status],
        status_reason=without_paths(card.reason),
        model=None if about is None else _model(about),
        layers=list(card.layers),
        calibration=None if about is None else _calibration(about),
        max_strength=card.max_strength,
        default_strength=default_strength,
        tags=list(about.tags) if about else [],
        source=without_paths(about.source) if about else "",
        created=(about.created or None) if about else None,
        size_bytes=entry.size,
        loaded=entry.own and card.name in loaded,
        version=entry.version,
    )


def detail_of(entry: Entry, *, loaded: Collection[str], default_strength: float) -> VectorDetail:
    """A vector with what it was made from."""
    card, about = entry.card, entry.card.metadata
    short = card_of(entry, loaded=loaded, default_strength=default_strength)
    return VectorDetail(
        **short.model_dump(exclude={"calibration"}),
        calibration=short.calibration,
        system_prompts=list(about.system_prompts) if about else [],
        opposite=about.opposite if about else "",
        sign=about.sign if about else "",
        kept=card.kept,
        dropped=card.dropped,
        forked_from=about.made_as if about and FORKED_FROM in about.settings else None,
        evidence=card.evidence,
    )


def data_of(vector: SteeringVector, *, directions: bool) -> VectorData:
    """Its norms, and with `directions` its values."""
    references = vector.metadata.reference_norms
    layers = [
        LayerData(
            layer=layer,
            norm=vector.norms[layer],
            reference_norm=references.get(layer),
            direction=[float(x) for x in vector.direction(layer)] if directions else None,
        )
        for layer in vector.layers
    ]
    return VectorData(
        name=vector.name,
        kind=vector.metadata.kind,
        digest=vector.digest,
        hidden_size=vector.hidden_size,
        layers=layers,
    )


def portable_id(given: str) -> str:
    """A model's id for files that leave this machine: of a folder its last part only."""
    shown = without_paths(public_id(given))
    return given if given == f"hf:{shown}" else shown


def _model(metadata: VectorMetadata) -> VectorModel | None:
    model = metadata.model
    return None if model is None else VectorModel(id=without_paths(public_id(model.id)), fingerprint=model.fingerprint)


def _calibration(metadata: VectorMetadata) -> VectorCalibration | None:
    found, safe = metadata.calibration or metadata.safe_calibration, metadata.safe_calibration
    if found is None:
        return None
    return VectorCalibration.model_validate({**_fields(found), "safe": None if safe is None else _fields(safe)})


def _fields(found: Calibration) -> dict[str, object]:
    return {key: getattr(found, key) for key in Measured.model_fields}
