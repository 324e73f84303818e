"""Where to cap and at which threshold.

The default band lies at 72 to 84 % of the depth, where "The Assistant Axis" (arXiv 2601.10387) caps its models.
"""

from __future__ import annotations

from collections.abc import Sequence

from persona_steering.errors import RecipeError
from persona_steering.interventions import Floor, Scope
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.metadata import known_percentiles

CAP_BAND = (0.72, 0.84)


def capping_band(axis: SteeringVector, num_layers: int) -> tuple[int, ...]:
    """The default layers for a cap, of those that the axis covers."""
    first, last = (round(depth * num_layers) for depth in CAP_BAND)
    return tuple(layer for layer in axis.layers if first <= layer < max(last, first + 1)) or axis.layers[-1:]


def floor_at_percentile(
    axis: SteeringVector, percentile: float, layers: Sequence[int], *, scope: Scope | None = None
) -> Floor:
    """A floor on the axis at a measured percentile of its reference answers.

    Percentiles between the measured ones are interpolated. Raises RecipeError when the axis carries none for these
    layers, or for a layer that it does not cover.
    """
    for layer in layers:
        axis.direction(layer)
    measured = known_percentiles(axis.metadata.thresholds)
    known = [(percent, values) for percent, values in measured.items() if set(layers) <= values.keys()]
    if not known:
        raise RecipeError(
            f"{axis.name!r} carries no thresholds at known percentiles for these layers.",
            hint="Run: persona-steer extract-axes",
        )
    low = max((item for item in known if item[0] <= percentile), key=lambda item: item[0], default=known[0])
    high = min((item for item in known if item[0] >= percentile), key=lambda item: item[0], default=known[-1])
    share = 0.0 if high[0] == low[0] else (percentile - low[0]) / (high[0] - low[0])
    values = {layer: low[1][layer] + share * (high[1][layer] - low[1][layer]) for layer in layers}
    return Floor(vector=axis, values=values, scope=scope or Scope())
