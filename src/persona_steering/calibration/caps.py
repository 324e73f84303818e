"""Where to cap and at which threshold.

The default band lies at 72 to 84 % of the depth, where "The Assistant Axis" (arXiv 2601.10387) caps its models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from persona_steering.errors import RecipeError
from persona_steering.interventions import Ceiling, Floor, Scope
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.metadata import known_percentiles

CAP_BAND = (0.72, 0.84)
CapOp = Literal["floor", "ceiling"]
_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Cap:
    """A bound on the projection along a named axis.

    `at` is a projection on the unit axis, or a percentile of the axis' reference answers, written "p25". Without
    layers it acts in the default band.
    """

    axis: str
    op: CapOp
    at: float | str
    layers: tuple[int, ...] = ()


def capping_band(axis: SteeringVector, num_layers: int) -> tuple[int, ...]:
    """The default layers for a cap, of those that the axis covers."""
    first, last = (round(depth * num_layers) for depth in CAP_BAND)
    return tuple(layer for layer in axis.layers if first <= layer < max(last, first + 1)) or axis.layers[-1:]


def parse_percentile(text: str) -> float:
    """The number in "p25". Raises RecipeError."""
    match = _PERCENTILE.fullmatch(text.strip())
    if match is None or float(match[1]) > 100:
        raise RecipeError(f"{text!r} is not a threshold.", hint='Give a number, or a percentile such as "p25".')
    return float(match[1])


def make_cap(cap: Cap, axis: SteeringVector, layers: Sequence[int]) -> Floor | Ceiling:
    """The intervention of a cap. Raises RecipeError as `thresholds_at`, and for a percentile beyond the measured."""
    if isinstance(cap.at, str):
        percentile = parse_percentile(cap.at)
        values = thresholds_at(axis, percentile, layers)
        measured = list(known_percentiles(axis.metadata.thresholds))
        if not measured[0] <= percentile <= measured[-1]:
            raise RecipeError(
                f"{axis.name!r} was not measured at percentile {percentile:g}.",
                hint=f"Give one from p{measured[0]:g} to p{measured[-1]:g}, or a number.",
            )
    else:
        values = dict.fromkeys(layers, float(cap.at))
    kind = Floor if cap.op == "floor" else Ceiling
    return kind(vector=axis, values=values)


def floor_at_percentile(
    axis: SteeringVector, percentile: float, layers: Sequence[int], *, scope: Scope | None = None
) -> Floor:
    """A floor on the axis at a measured percentile of its reference answers. Raises as `thresholds_at`."""
    return Floor(vector=axis, values=thresholds_at(axis, percentile, layers), scope=scope or Scope())


def thresholds_at(axis: SteeringVector, percentile: float, layers: Sequence[int]) -> dict[int, float]:
    """By layer, the projection below which so many percent of the axis' reference answers lie.

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
            hint="Give a number, or run: persona-steer extract-axes",
        )
    low = max((item for item in known if item[0] <= percentile), key=lambda item: item[0], default=known[0])
    high = min((item for item in known if item[0] >= percentile), key=lambda item: item[0], default=known[-1])
    share = 0.0 if high[0] == low[0] else (percentile - low[0]) / (high[0] - low[0])
    return {layer: low[1][layer] + share * (high[1][layer] - low[1][layer]) for layer in layers}
