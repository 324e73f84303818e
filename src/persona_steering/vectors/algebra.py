"""Arithmetic on directions: numpy arrays `[hidden]` or `[layers, hidden]`, the last axis being the direction.

Everything is computed in float64; an array comes back in the floating type of its first argument. Whole
`SteeringVector`s are combined by `orthogonalize_persona` and `blend_vectors`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persona_steering.errors import RecipeError, UsageError, VectorError, unknown
from persona_steering.vectors.metadata import VectorMetadata
from persona_steering.vectors.vector import SteeringVector, check_same_model

FloatArray = NDArray[np.floating[Any]]

# A remainder below this share of the original is rounding noise of float32 data, not a direction.
NOTHING_LEFT = 1e-6


def normalize(v: ArrayLike) -> FloatArray:
    """`v / ||v||` over the last axis. Raises: VectorError for a zero vector."""
    return _like(v, _unit(v))


def project_onto(v: ArrayLike, axis: ArrayLike) -> FloatArray:
    """The component of `v` along `axis`, as a vector of the shape of `v`.

    Raises: VectorError for a zero axis or shapes that do not fit.
    """
    return _like(v, _component(v, axis))


def remove_component(v: ArrayLike, axis: ArrayLike) -> FloatArray:
    """`v` without its component along `axis`: orthogonal to it.

    Raises: VectorError for a zero axis or shapes that do not fit.
    """
    return _like(v, _rest(v, axis))


def cosine(a: ArrayLike, b: ArrayLike) -> float | FloatArray:
    """Cosine similarity: a float for `[hidden]`, an array `[layers]` for `[layers, hidden]`.

    Raises: VectorError for a zero vector or shapes that do not fit.
    """
    first, second = _unit(a), _unit(b)
    _check_fit(first, second)
    similarity = (first * second).sum(axis=-1)
    return float(similarity) if similarity.ndim == 0 else similarity


def compute_safe_floor(projections: ArrayLike, percentile: float) -> float | FloatArray:
    """The floor below which only `percentile` percent of safe responses project.

    projections: `[n]` on the unit safety axis of one layer, or `[n, layers]`.
    Returns: a float, or an array `[layers]`.
    Raises: UsageError for a percentile outside 0..100, VectorError for no or non-finite projections.
    """
    if not 0 <= percentile <= 100:
        raise UsageError(f"a percentile of {percentile} does not exist.", hint="Use a number from 0 to 100.")
    values = np.asarray(projections, dtype=np.float64)
    if values.ndim not in (1, 2) or values.shape[0] == 0 or not np.isfinite(values).all():
        raise VectorError(
            f"a floor cannot be computed from projections of shape {list(values.shape)}.",
            hint="Give at least one safe response, and only finite numbers.",
        )
    floor = np.percentile(values, percentile, axis=0)
    return float(floor) if floor.ndim == 0 else np.asarray(floor)


def orthogonalize_persona(persona: SteeringVector, safety_axis: SteeringVector) -> SteeringVector:
    """The persona's safe vector: without its component along the safety axis, layer by layer.

    Its calibration is the persona's `safe_calibration`, the one measured on this very vector.
    Raises: VectorError when the axis does not cover a layer, is zero there, or leaves nothing of the persona.
    """
    missing = [layer for layer in persona.layers if layer not in safety_axis.directions]
    if missing:
        raise VectorError(
            f"safety axis {safety_axis.name!r} does not cover layers {missing} of {persona.name!r}.",
            hint="Extract the axes again, or restrict() the persona to the axis's layers.",
        )
    check_same_model(persona, safety_axis)
    directions = {}
    for layer, raw in persona.directions.items():
        if safety_axis.norms[layer] == 0:
            raise VectorError(
                f"safety axis {safety_axis.name!r} is zero at layer {layer}.", hint="Extract the axes again."
            )
        rest = _rest(raw, safety_axis.directions[layer])
        if 0 < persona.norms[layer] * NOTHING_LEFT >= float(np.linalg.norm(rest)):
            raise VectorError(
                f"at layer {layer}, {persona.name!r} lies along the safety axis: nothing is left without it.",
                hint="Leave this layer out, or steer with the raw vector.",
            )
        directions[layer] = rest.astype(np.float32)
    metadata = persona.metadata
    changes: dict[str, object] = {"calibration": metadata.safe_calibration, "thresholds": {}}
    return SteeringVector(directions, metadata.model_copy(update=changes))


def blend_vectors(vectors: Mapping[str, SteeringVector], weights: Mapping[str, float]) -> SteeringVector:
    """The weighted sum of raw directions; a weight of 0 leaves its vector out. The result is not calibrated.

    Raises: NotFoundError for a weight without a vector, RecipeError for weights that are not finite or all 0,
        VectorError for vectors of different layers, sizes or models.
    """
    for name, weight in weights.items():
        if name not in vectors:
            raise unknown("vector", name, vectors)
        if not math.isfinite(weight):
            raise RecipeError(f"the weight of {name!r} is {weight}.", hint="Use a finite number.")
    used = {name: float(weight) for name, weight in weights.items() if weight != 0}
    if not used:
        raise RecipeError("a blend needs at least one weight that is not 0.", hint="For instance sage:0.5.")
    parts = [vectors[name] * weight for name, weight in used.items()]
    total = sum(parts[1:], start=parts[0])
    kinds = {part.metadata.kind for part in parts}
    return SteeringVector(
        total.directions,
        VectorMetadata(
            name="blend",
            kind=kinds.pop() if len(kinds) == 1 else "persona",
            model=parts[0].metadata.model,
            sign="weighted sum",
            pooling=parts[0].metadata.pooling,
            source="blend:" + ",".join(f"{name}:{weight:g}" for name, weight in used.items()),
            reference_norms=parts[0].metadata.reference_norms,
            settings={"weights": dict(used)},
        ),
    )


def at_strength(vector: SteeringVector, strength: float) -> SteeringVector:
    """What a calibrated vector adds to the hidden states at a strength: at each layer strength * coefficient * v.

    It has the calibration's layers only and no calibration of its own: it is to be added as it is, which is what
    llama.cpp does with a control vector at scale 1.
    Raises: VectorError for a vector that is not calibrated, RecipeError for a strength that is not finite or 0.
    """
    calibration = vector.metadata.calibration
    if calibration is None:
        raise VectorError(
            f"vector {vector.name!r} is not calibrated, so no strength of it was measured.",
            hint="Make it with: persona-steer create, or leave the strength out.",
        )
    if not math.isfinite(strength) or strength == 0:
        raise RecipeError(f"a strength of {strength} cannot be written into a vector.", hint="Use a number like 1.0.")
    with np.errstate(over="ignore"):  # an overflow is infinite, and refused by the constructor
        directions = {k: vector.direction(k) * np.float32(strength * c) for k, c in calibration.coefficients.items()}
    baked = {"strength": strength, "safe": calibration.safe, "of": vector.digest}
    changes: dict[str, object] = {
        "calibration": None,
        "safe_calibration": None,
        "thresholds": {},
        "evidence": None,
        "settings": {**vector.metadata.settings, "at_strength": baked},
    }
    return SteeringVector(directions, vector.metadata.model_copy(update=changes))


def _float64(v: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(v, dtype=np.float64)
    if array.ndim not in (1, 2) or array.shape[-1] == 0:
        raise VectorError(f"a shape of {list(array.shape)} is neither [hidden] nor [layers, hidden].")
    return array


def _like(v: ArrayLike, result: NDArray[np.float64]) -> FloatArray:
    dtype = np.asarray(v).dtype
    return result.astype(dtype) if dtype.kind == "f" else result


def _unit(v: ArrayLike) -> NDArray[np.float64]:
    array = _float64(v)
    largest = np.abs(array).max(axis=-1, keepdims=True)
    if not np.isfinite(largest).all() or (largest == 0).any():
        raise VectorError("a zero or non-finite vector has no direction.", hint="Extract it again.")
    scaled = array / largest  # squares of very small or large values would leave float64
    return np.asarray(scaled / np.linalg.norm(scaled, axis=-1, keepdims=True))


def _check_fit(v: NDArray[np.float64], axis: NDArray[np.float64]) -> None:
    """The same shape, or one axis `[hidden]` for all rows of `[layers, hidden]`."""
    if axis.shape not in (v.shape, v.shape[-1:]):
        raise VectorError(f"shapes {list(v.shape)} and {list(axis.shape)} do not fit.")


def _component(v: ArrayLike, axis: ArrayLike) -> NDArray[np.float64]:
    array, unit = _float64(v), _unit(axis)
    _check_fit(array, unit)
    return np.asarray((array * unit).sum(axis=-1, keepdims=True) * unit)


def _rest(v: ArrayLike, axis: ArrayLike) -> NDArray[np.float64]:
    once = _float64(v) - _component(v, axis)
    return once - _component(once, axis)  # again: when little is left, the first rounding shows
