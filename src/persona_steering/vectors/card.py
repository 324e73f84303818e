"""The card of a vector: what is known of it, what was measured, and whether that still holds where it is used.

A file alone does not say whether it can be used: that depends on the model in use, on whether safety is on, and
on what else is in the store now. These are the `Surroundings`. What no longer holds in them is "stale": measured
with a safety axis that has been replaced, made from personas that have changed, or for a model whose weights
have changed under its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from persona_steering.vectors.evidence import Evidence
from persona_steering.vectors.metadata import (
    ASSISTANT_AXIS,
    SAFETY_AXIS,
    Calibration,
    ModelIdentity,
    VectorKind,
    VectorMetadata,
)
from persona_steering.vectors.store import FOLDER_KINDS, StoredVector
from persona_steering.vectors.values import Layer
from persona_steering.vectors.vector import SteeringVector

Status = Literal["ready", "weak", "stale", "not calibrated", "other model", "broken"]

# Key of a safe calibration's settings: the digest of the safety axis that it was measured with.
MEASURED_WITH = "safety_axis"


class Card(BaseModel):
    """What is known about one vector. The default of a field means: not known, or not measured."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    kind: VectorKind
    status: Status
    reason: str = Field(default="", description="why the status is not ready")
    fits: bool = Field(default=False, description="whether it was made for the model in use")
    model_name: str = Field(description="the id of its model, or the folder of a file that cannot be read")
    safety: bool = Field(default=True, description="whether the status is that of its safe form")
    layers: tuple[Layer, ...] = ()
    norms: dict[Layer, float] = Field(default={}, description="||v||; empty when the values were not read")
    digest: str = ""
    metadata: VectorMetadata | None = Field(default=None, description="None for a file that cannot be read")

    @property
    def calibration(self) -> Calibration | None:
        """What strength 1.0 means in this use: with safety, as measured on the safe form."""
        return None if self.metadata is None else active_calibration(self.metadata, safety=self.safety)

    @property
    def evidence(self) -> Evidence | None:
        """What `persona-steer card` measured; None when it was not run, or on other directions than these."""
        found = None if self.metadata is None else self.metadata.evidence
        return found if found is not None and found.digest == self.digest else None

    @property
    def max_strength(self) -> float | None:
        """The strongest strength measured to stay coherent; None when it was not measured."""
        return None if self.calibration is None else 1.0

    @property
    def kept(self) -> int | None:
        """How many answers the direction was made from."""
        return None if self.metadata is None else self.metadata.counts.get("kept")

    @property
    def dropped(self) -> int | None:
        """How many answers were left out of it."""
        return None if self.metadata is None else self.metadata.counts.get("dropped")


@dataclass(frozen=True)
class Surroundings:
    """Where a vector is used: the model (None when it is not known), whether with safety, and its neighbours.

    `digests` are those of the model's vectors by (kind, name); without them nothing is found stale.
    """

    model: ModelIdentity | None
    safety: bool = True
    digests: Mapping[tuple[VectorKind, str], str] = field(default_factory=dict)

    def fit(self, metadata: VectorMetadata) -> bool:
        """Whether a vector was made for the model."""
        return bool(self.model and metadata.model and metadata.model.is_same_as(self.model))

    @classmethod
    def of(cls, stored: Iterable[StoredVector], model: ModelIdentity | None, *, safety: bool = True) -> Self:
        """The surroundings of a model in a store."""
        around = cls(model, safety)
        digests = {
            (one.metadata.kind, one.name): one.digest for one in stored if one.metadata and around.fit(one.metadata)
        }
        return cls(model, safety, digests)


def make_cards(stored: Iterable[StoredVector], model: ModelIdentity | None, *, safety: bool = True) -> list[Card]:
    """A card for every file of a store, damaged ones too, in the same order. Values are not read."""
    files = list(stored)
    around = Surroundings.of(files, model, safety=safety)
    return [stored_card(one, around) for one in files]


def stored_card(stored: StoredVector, around: Surroundings) -> Card:
    """The card of one file. Its name is that of the file."""
    if stored.metadata is None:
        return Card(
            name=stored.name,
            kind=FOLDER_KINDS[stored.folder],
            status="broken",
            reason=stored.error,
            model_name=stored.path.parent.parent.name,
            safety=around.safety,
        )
    card = metadata_card(stored.metadata, around)
    return card.model_copy(update={"name": stored.name, "layers": stored.layers, "digest": stored.digest})


def vector_card(vector: SteeringVector, around: Surroundings) -> Card:
    """The card of a vector in memory, with its norms."""
    facts = {"layers": vector.layers, "digest": vector.digest, "norms": vector.norms}
    return metadata_card(vector.metadata, around).model_copy(update=facts)


def metadata_card(metadata: VectorMetadata, around: Surroundings) -> Card:
    """The card of a vector of which nothing but the metadata is at hand."""
    status, reason = _judged(metadata, around)
    return Card(
        name=metadata.name,
        kind=metadata.kind,
        status=status,
        reason=reason,
        fits=around.fit(metadata),
        model_name=metadata.model.id if metadata.model else "unknown",
        safety=around.safety,
        metadata=metadata,
    )


def active_calibration(metadata: VectorMetadata, *, safety: bool) -> Calibration | None:
    """The calibration that holds for how the vector is used: with safety, that of its safe form if there is one."""
    return (metadata.safe_calibration if safety else None) or metadata.calibration


def _judged(metadata: VectorMetadata, around: Surroundings) -> tuple[Status, str]:
    """The status and the reason for it."""
    made_for = metadata.model
    if made_for is None:
        return "other model", "it does not say which model it was made for"
    if not around.fit(metadata):
        if around.model and around.model.id == made_for.id:
            return "stale", f"the weights of {made_for.id!r} have changed since it was made"
        return "other model", f"it was made for {made_for.id!r}"
    if metadata.kind == "baseline":
        return "ready", ""
    return _judged_axis(metadata, around) if metadata.kind == "axis" else _judged_persona(metadata, around)


def _judged_axis(metadata: VectorMetadata, around: Surroundings) -> tuple[Status, str]:
    if metadata.name == ASSISTANT_AXIS and around.digests and metadata.data_hashes:
        present = {name: digest for (kind, name), digest in around.digests.items() if kind == "persona"}
        changed = sorted(dict(present.items() ^ metadata.data_hashes.items()))
        if changed:
            return "stale", f"personas have come, gone or changed since it was made: {', '.join(changed)}"
    if not metadata.thresholds:
        return "not calibrated", "it carries no thresholds for a floor"
    return "ready", ""


def _judged_persona(metadata: VectorMetadata, around: Surroundings) -> tuple[Status, str]:
    calibration = active_calibration(metadata, safety=around.safety)
    if calibration is None:
        return "not calibrated", "its strength was not measured on this model"
    measured_with = calibration.settings.get(MEASURED_WITH)
    if around.safety and around.digests and measured_with is not None:
        present = around.digests.get(("axis", SAFETY_AXIS))
        if present is None:
            return "stale", "the safety axis that it was measured with is not there"
        if present != measured_with:
            return "stale", "it was measured with another safety axis than the present one"
    return ("weak", calibration.weak_reason) if calibration.weak else ("ready", "")
