"""What steering would do, seen without an answer: where vectors overlap, and which strengths were measured."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from persona_steering.engine.ranges import calibrated_range, swept_range
from persona_steering.interventions import Add
from persona_steering.server.answers.steering import Steered
from persona_steering.server.model.serving import Serving
from persona_steering.server.schemas.steering import Overlap, StrengthRange, ValidatedSteering
from persona_steering.vectors.algebra import cosine
from persona_steering.vectors.card import active_calibration


def checked(steered: Steered, serving: Serving) -> ValidatedSteering:
    """All that can be told of it."""
    added = [item for item in steered.recipe.interventions if isinstance(item, Add)]
    return ValidatedSteering(
        steering=steered.echo(),
        short=steered.short,
        warnings=list(steered.steering.warnings),
        traces=steered.traces,
        overlaps=[found for a, b in combinations(added, 2) if (found := _overlap(a, b)) is not None],
        strengths=[_strengths(item, steered.steering.safety, serving) for item in added],
    )


def _overlap(a: Add, b: Add) -> Overlap | None:
    """None for vectors that share no layer."""
    layers = set(a.layers) & set(b.layers) or set(a.vector.layers) & set(b.vector.layers)
    if not layers:
        return None
    alike = [float(cosine(a.vector.direction(layer), b.vector.direction(layer))) for layer in sorted(layers)]
    return Overlap(a=a.vector.name, b=b.vector.name, cosine=float(np.mean(alike)))


def _strengths(item: Add, safety: bool, serving: Serving) -> StrengthRange:
    """By a sweep of just this use, else by the calibration where it is used as calibrated."""
    name, config = item.vector.name, serving.config
    usual = serving.steering({name: 1.0}, safety=safety, layers={}).recipe
    as_usual = any(isinstance(one, Add) and one.layers == item.layers for one in usual.interventions)
    whole = usual if as_usual else serving.steering({name: 1.0}, safety=safety, layers={name: item.layers}).recipe
    found = swept_range(whole.hash, config.runs_dir)
    if found is None and as_usual:
        calibration = active_calibration(serving.find_axis(name).metadata, safety=safety)
        fits = calibration is not None and calibration.layers == item.layers
        found = calibrated_range(calibration if fits else None, config.steering.steering_scale)
    return StrengthRange(name=name, range=found, measured=found is not None)
