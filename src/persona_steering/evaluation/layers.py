"""Which layers tell, and which layers steer. They are rarely the same, so both are measured.

tells    AUROC and d' of the projections of held-out answers, with and without the trait
steers   the gain of adding the direction at this layer alone, every layer at the same relative dose
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from persona_steering.backends.base import Backend
from persona_steering.calibration.layers import coefficients_for_dose
from persona_steering.evaluation.dosing import AnswerRecord, Asking, Dose, answer_records
from persona_steering.evaluation.held_out import Sides, projections
from persona_steering.evaluation.statistics import separation
from persona_steering.scoring.effects import Ask, Measurement
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.values import Closed, Interval, Layer


class LayersSettings(Closed):
    """What is measured: every one of `layers` alone at the relative `dose`, on the questions of `asking`."""

    layers: tuple[Layer, ...] = Field(min_length=1)
    dose: float = Field(gt=0)
    asking: Asking


class LayerRow(Closed):
    """One layer. `control` is a random direction of equal norm at the same layer and dose."""

    layer: Layer
    auroc: Interval
    d_prime: Interval | None
    steered: Measurement
    control: Measurement
    chosen: bool = Field(description="whether the calibration steers at it")
    answers: tuple[AnswerRecord, ...]


class LayerScan(Closed):
    """Every layer, measured."""

    rows: tuple[LayerRow, ...]
    dose: float
    band: tuple[Layer, ...] = Field(description="the calibrated layers; empty where there is no calibration")
    positives: int
    negatives: int
    held_out_questions: int
    questions: int
    has_score: bool

    @property
    def best_telling(self) -> int:
        """The layer with the greatest AUROC; of equals the one with the greatest d'."""
        return max(self.rows, key=lambda row: (row.auroc.mean, row.d_prime.mean if row.d_prime else 0.0)).layer

    @property
    def best_steering(self) -> int:
        """The layer with the greatest gain."""
        return max(self.rows, key=lambda row: row.steered.gain.mean).layer


def scan_layers(
    backend: Backend,
    vector: SteeringVector,
    system_prompts: Sequence[str],
    sides: Sides,
    settings: LayersSettings,
    *,
    ask: Ask,
    band: Sequence[int] = (),
) -> LayerScan:
    """Measures every layer on held-out answers (`sides`) and by steering at it alone.

    Raises RecipeError for a layer that the vector does not cover, or a vector without reference norms; QualityError
    when one of the model's own answers is empty.
    """
    doses = [Dose(vector, coefficients_for_dose(vector, [k], settings.dose)) for k in settings.layers]
    meter = settings.asking.meter(backend, system_prompts, ask)
    probes = meter.reference.probes
    recipes = [dose.recipe(1.0) for dose in doses] + [dose.control(1.0, settings.asking.seed) for dose in doses]
    rows = meter.measure(recipes, probes, "layers")
    found = []
    for place, layer in enumerate(settings.layers):
        tells = separation(*projections(vector, sides, layer), *sides.questions, seed=settings.asking.seed)
        found.append(
            LayerRow(
                layer=layer,
                auroc=tells.auroc,
                d_prime=tells.d_prime,
                steered=meter.evaluate([rows[place]], probes),
                control=meter.evaluate([rows[len(doses) + place]], probes),
                chosen=layer in band,
                answers=answer_records(meter, rows[place]),
            )
        )
    return LayerScan(
        rows=tuple(found),
        dose=settings.dose,
        band=tuple(band),
        positives=len(sides.positive.answers),
        negatives=len(sides.negative.answers),
        held_out_questions=len({question for side in sides.questions for question in side}),
        questions=len(settings.asking.questions),
        has_score=meter.evaluate([meter.reference.prompted], probes).score is not None,
    )
