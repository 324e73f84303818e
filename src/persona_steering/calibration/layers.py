"""Where to steer: candidate layer bands, and a relative dose shared over a band.

A relative dose is ||coefficient·v|| / ||h||. Directions added at several layers compound, since each addition
travels on in the residual stream; so a band shares one dose: every layer gets an equal part of it, and a dose
means the same for one layer or eight.
"""

from __future__ import annotations

from collections.abc import Sequence

from persona_steering.errors import RecipeError
from persona_steering.interventions import Add, Scope
from persona_steering.vectors import SteeringVector

BAND_WIDTH = 0.27  # of all layers: 8 of 30
BAND_CENTRES = (0.32, 0.42, 0.52)  # depth; published single layers lie at 0.45 to 0.65


def candidate_bands(available: Sequence[int], num_layers: int) -> list[tuple[int, ...]]:
    """Bands of neighbouring layers at several depths, of those that the vector covers; without repeats."""
    width = max(1, round(BAND_WIDTH * num_layers))
    bands: dict[tuple[int, ...], None] = {}
    for centre in BAND_CENTRES:
        first = max(0, round(centre * num_layers - width / 2))
        band = tuple(layer for layer in range(first, first + width) if layer in available)
        if band:
            bands[band] = None
    return list(bands) or [tuple(available)]


def relative_dose(vector: SteeringVector, coefficients: dict[int, float]) -> float:
    """The sum over layers of ||c·v|| / median ||h||."""
    norms, references = vector.norms, reference_norms(vector)
    return sum(abs(c) * norms[layer] / references[layer] for layer, c in coefficients.items())


def coefficients_for_dose(vector: SteeringVector, layers: Sequence[int], dose: float) -> dict[int, float]:
    """Coefficients of the raw directions that share the relative `dose` equally over `layers`.

    Raises RecipeError for a layer that the vector does not cover.
    """
    for layer in layers:
        vector.direction(layer)
    norms, references = vector.norms, reference_norms(vector)
    return {layer: dose / len(layers) * references[layer] / norms[layer] for layer in layers}


def reference_norms(vector: SteeringVector) -> dict[int, float]:
    """The median ||h|| per layer that stands with the vector. Raises RecipeError when there is none."""
    references = vector.metadata.reference_norms
    if missing := [layer for layer in vector.layers if layer not in references]:
        raise RecipeError(
            f"{vector.name!r} has no reference norms at layers {missing[:8]}, so a dose means nothing.",
            hint="Measure those of the model with: persona-steer extract-axes. Or give raw coefficients.",
        )
    return references


def addition(vector: SteeringVector, layers: Sequence[int], dose: float, *, scope: Scope | None = None) -> Add:
    """The addition of `vector` at a relative `dose` shared over `layers`; a negative dose steers away."""
    return Add(vector=vector, values=coefficients_for_dose(vector, layers, dose), scope=scope or Scope())
