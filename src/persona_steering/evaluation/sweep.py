"""Strength against effect and damage: where a vector works, up to which dose, and whether any direction would do.

Every strength and every random direction answers the same questions with the same seeds, in shared batches. The
control differs from the vector in its direction alone: equal norms, layers, coefficients and bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from persona_steering.backends.base import Backend
from persona_steering.errors import UsageError
from persona_steering.evaluation.dosing import (
    COLLAPSED,
    MIN_COHERENCE,
    AnswerRecord,
    Asking,
    Dose,
    answer_records,
)
from persona_steering.evaluation.statistics import anti_steered
from persona_steering.interventions.recipe import MAX_STRENGTH
from persona_steering.scoring.effects import Ask, EffectMeter, Measurement
from persona_steering.scoring.likelihood import Answer
from persona_steering.vectors.values import Closed, Interval

MAX_POINTS = 101


class SweepSettings(Closed):
    """What is measured. `strengths` ascend."""

    strengths: tuple[float, ...] = Field(min_length=2)
    asking: Asking
    controls: int = Field(default=2, ge=1, description="random directions")


class SweepPoint(Closed):
    """One strength. `control` is the mean of the random directions; `anti_steered` the share moved the wrong way."""

    strength: float
    steered: Measurement
    control: Measurement
    anti_steered: float | None = Field(description="None at strength 0, which moves nothing")
    answers: tuple[AnswerRecord, ...]
    control_answers: tuple[AnswerRecord, ...] = Field(description="of the first random direction")


class Sweep(Closed):
    """A measured sweep. `coherent` are the strengths around 0 up to which mean coherence stays at MIN_COHERENCE.

    `collapse_below` and `collapse_above` are the first strengths on each side whose mean coherence is below COLLAPSED;
    None where that was not reached.
    """

    points: tuple[SweepPoint, ...]
    prompted: Measurement = Field(description="what the system prompt itself does")
    coherent: tuple[float, float] | None
    collapse_below: float | None
    collapse_above: float | None
    controls: int
    questions: int

    @property
    def has_score(self) -> bool:
        """Whether this model takes the persona from a prompt, so that a score means something."""
        return self.prompted.score is not None


def spread_strengths(first: float, last: float, points: int) -> tuple[float, ...]:
    """`points` equal steps from `first` to `last`. Raises UsageError for a range that is none."""
    for strength in (first, last):
        if not math.isfinite(strength) or abs(strength) > MAX_STRENGTH:
            raise UsageError(f"strength {strength:g} is out of range.", hint="Give numbers from -2 to 2.")
    if first >= last:
        raise UsageError(f"the strengths from {first:g} to {last:g} do not ascend.", hint="Give --from below --to.")
    if not 2 <= points <= MAX_POINTS:
        raise UsageError(f"{points} points make no sweep.", hint=f"Give 2 to {MAX_POINTS} points.")
    return tuple(round(float(x), 6) + 0.0 for x in np.linspace(first, last, points))


def run_sweep(
    backend: Backend, dose: Dose, system_prompts: Sequence[str], settings: SweepSettings, *, ask: Ask
) -> Sweep:
    """Measures `dose` at every strength. `system_prompts` evoke the persona or trait.

    Raises QualityError when one of the model's own answers is empty, and what the backend raises.
    """
    meter = settings.asking.meter(backend, system_prompts, ask)
    active = [strength for strength in settings.strengths if strength != 0]
    recipes = [dose.recipe(strength) for strength in active]
    for strength in active:
        recipes += [dose.control(strength, settings.asking.seed + k) for k in range(settings.controls)]
    rows = meter.measure(recipes, meter.reference.probes, "sweep")
    base: list[list[Answer | None]] = [list(meter.reference.base)]
    points = []
    for strength in settings.strengths:
        steered, controls = base, base  # at strength 0 both are the base model, whose answers are there
        if strength != 0:
            place = active.index(strength)
            first = len(active) + place * settings.controls
            steered, controls = rows[place : place + 1], rows[first : first + settings.controls]
        points.append(_point(meter, strength, steered, controls))
    return Sweep(
        points=tuple(points),
        prompted=meter.evaluate([meter.reference.prompted], meter.reference.probes),
        coherent=coherent_range(points),
        collapse_below=_collapse([point for point in reversed(points) if point.strength < 0]),
        collapse_above=_collapse([point for point in points if point.strength > 0]),
        controls=settings.controls,
        questions=len(settings.asking.questions),
    )


def coherent_range(points: Sequence[SweepPoint], bound: float = MIN_COHERENCE) -> tuple[float, float] | None:
    """The measured strengths around the one nearest 0 whose mean coherence is at least `bound`; None for none."""
    start = min(range(len(points)), key=lambda i: abs(points[i].strength))
    coherent = [point.steered.coherence.mean >= bound for point in points]
    if not coherent[start]:
        return None
    low = high = start
    while low > 0 and coherent[low - 1]:
        low -= 1
    while high < len(points) - 1 and coherent[high + 1]:
        high += 1
    return points[low].strength, points[high].strength


def _collapse(outward: Sequence[SweepPoint]) -> float | None:
    return next((point.strength for point in outward if point.steered.coherence.mean < COLLAPSED), None)


def _point(
    meter: EffectMeter,
    strength: float,
    steered: Sequence[Sequence[Answer | None]],
    controls: Sequence[Sequence[Answer | None]],
) -> SweepPoint:
    probes = meter.reference.probes
    sign = math.copysign(1, strength)
    return SweepPoint(
        strength=strength,
        steered=meter.evaluate(steered, probes),
        control=meter.evaluate(controls, probes),
        anti_steered=anti_steered([sign * gain for gain in meter.effects(steered[0], probes)]) if strength else None,
        answers=answer_records(meter, steered[0]),
        control_answers=answer_records(meter, controls[0]),
    )


def effect_of(measured: Measurement, *, score: bool) -> Interval | None:
    """The persona score, or the gain where scores mean nothing."""
    return measured.score if score else measured.gain
