"""How vectors of one model lie to each other, and where the Assistant stands among the personas. No model is loaded.

cosine     of the directions at a layer; for a pair its mean over the layers
overlap    the share of the dimensions that are among the largest tenth of both; a tenth is chance
PCA        of the persona vectors, each layer in units of its median ||h||; the Assistant, which every persona
           vector starts from, is the origin of that space ("The Assistant Axis", arXiv 2601.10387)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from persona_steering.errors import UsageError
from persona_steering.vectors import SteeringVector, check_same_model
from persona_steering.vectors.values import Closed, Layer

LARGEST = 0.1  # of the dimensions
MIN_PCA = 3  # personas; two lie on a line whatever they are
COMPONENTS = 5


class Likeness(Closed):
    """Two vectors. `cosines` are by layer."""

    first: str
    second: str
    cosine: float
    cosines: dict[Layer, float]
    overlap: float


class PersonaSpace(Closed):
    """The principal components of the persona vectors.

    `positions` are coordinates of each persona on the components, `assistant` those of the Assistant, all relative to
    the mean of the personas. `assistant_rank` is the share of personas that lie below the Assistant on the first one.
    """

    explained: tuple[float, ...] = Field(description="share of the variance, by component")
    positions: dict[str, tuple[float, ...]]
    assistant: tuple[float, ...]
    assistant_rank: float
    axis_cosine: float | None = Field(description="of the first component with the assistant axis; None without one")


class Similarity(Closed):
    """All pairs of some vectors, and the space of the personas among them (None: fewer than three)."""

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    pairs: tuple[Likeness, ...]
    chance_overlap: float
    space: PersonaSpace | None

    def cosine(self, first: str, second: str) -> float:
        """The mean cosine of two of the vectors."""
        if first == second:
            return 1.0
        return next(pair.cosine for pair in self.pairs if {pair.first, pair.second} == {first, second})


def compare_vectors(
    vectors: Sequence[SteeringVector],
    *,
    layers: Sequence[int] | None = None,
    axis: SteeringVector | None = None,
) -> Similarity:
    """Compares vectors at `layers`; without any, at the calibrated layers of them all that all of them cover.

    `axis` is the assistant axis, where there is one. Raises UsageError below two vectors, ModelMismatchError for
    vectors of two models, RecipeError for a layer that one does not cover, VectorError for one that is zero there.
    """
    if len(vectors) < 2:
        raise UsageError(f"{len(vectors)} vector cannot be compared.", hint="Name two or more, or make another one.")
    for first, second in itertools.pairwise(vectors):
        check_same_model(first, second)
    chosen = tuple(layers) if layers is not None else common_band(vectors)
    units = {vector.name: {layer: vector.unit(layer).astype(np.float64) for layer in chosen} for vector in vectors}
    personas = [vector for vector in vectors if vector.metadata.kind == "persona"]
    size = vectors[0].hidden_size
    return Similarity(
        names=tuple(units),
        layers=chosen,
        pairs=tuple(_pair(a, b, units[a], units[b]) for a, b in itertools.combinations(units, 2)),
        chance_overlap=_largest(size) / size,
        space=_space(personas, chosen, axis) if len(personas) >= MIN_PCA else None,
    )


def common_band(vectors: Sequence[SteeringVector]) -> tuple[int, ...]:
    """The layers that any vector is calibrated for and all of them cover; all that they share where none is.

    Raises UsageError when they share no layer.
    """
    shared = set.intersection(*(set(vector.layers) for vector in vectors))
    calibrated = {
        layer for vector in vectors if vector.metadata.calibration for layer in vector.metadata.calibration.layers
    }
    found = tuple(sorted(shared & calibrated or shared))
    if not found:
        raise UsageError("the vectors share no layer.", hint="Compare vectors that cover the same layers.")
    return found


def _pair(first: str, second: str, a: Mapping[int, np.ndarray], b: Mapping[int, np.ndarray]) -> Likeness:
    cosines = {layer: float(a[layer] @ b[layer]) for layer in a}
    return Likeness(
        first=first,
        second=second,
        cosine=float(np.mean(list(cosines.values()))),
        cosines=cosines,
        overlap=float(np.mean([_overlap(a[layer], b[layer]) for layer in a])),
    )


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    count = _largest(len(a))
    first, second = (set(np.argsort(-np.abs(v), kind="stable")[:count].tolist()) for v in (a, b))
    return len(first & second) / count


def _largest(size: int) -> int:
    return max(1, round(LARGEST * size))


def _space(
    personas: Sequence[SteeringVector], layers: Sequence[int], axis: SteeringVector | None
) -> PersonaSpace | None:
    rows = np.stack([_flattened(vector, layers, personas[0]) for vector in personas])
    mean = rows.mean(0)
    _, singular, components = np.linalg.svd(rows - mean, full_matrices=False)
    kept = min(COMPONENTS, len(personas) - 1)
    variance = np.square(singular)
    if variance.sum() == 0:
        return None  # one point
    positions = (rows - mean) @ components[:kept].T
    assistant = -mean @ components[:kept].T
    # a component has no sign of its own: the first one points from the personas to the Assistant
    signs = np.where(assistant < 0, -1.0, 1.0)
    positions, assistant, components = positions * signs, assistant * signs, components[:kept] * signs[:, None]
    cosine = None
    if axis is not None and set(layers) <= set(axis.layers):
        along = _flattened(axis, layers, personas[0])
        cosine = float(components[0] @ along / np.linalg.norm(along))
    return PersonaSpace(
        explained=tuple((variance / variance.sum())[:kept].tolist()),
        positions={vector.name: tuple(row.tolist()) for vector, row in zip(personas, positions, strict=True)},
        assistant=tuple(assistant.tolist()),
        assistant_rank=float((positions[:, 0] < assistant[0]).mean()),
        axis_cosine=cosine,
    )


def _flattened(vector: SteeringVector, layers: Sequence[int], scale: SteeringVector) -> np.ndarray:
    """All layers in one row, each in units of the median ||h|| there, so that no layer outweighs the others."""
    norms = scale.metadata.reference_norms
    return np.concatenate([vector.direction(layer).astype(np.float64) / norms.get(layer, 1.0) for layer in layers])
