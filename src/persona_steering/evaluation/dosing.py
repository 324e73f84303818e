"""What strength 1.0 is in a measurement, and the random directions that stand beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from persona_steering.backends.base import Backend
from persona_steering.calibration.dose import random_like
from persona_steering.calibration.layers import relative_dose
from persona_steering.interventions import Add, Intervention, Recipe
from persona_steering.scoring.effects import Ask, EffectMeter
from persona_steering.scoring.likelihood import Answer, make_probes
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.values import Closed

# Mean coherence below which answers are no use, and below which they are garbage (see scoring.coherence).
MIN_COHERENCE = 60.0
COLLAPSED = 20.0


class Asking(Closed):
    """How answers are asked for. Each question has a seed of its own, the same for every recipe."""

    questions: tuple[str, ...] = Field(min_length=2)
    max_new_tokens: int = Field(default=32, ge=4)
    temperature: float = Field(default=0.7, ge=0)
    seed: int = Field(default=0, ge=0)

    def meter(self, backend: Backend, system_prompts: Sequence[str], ask: Ask) -> EffectMeter:
        """What measures recipes on these questions; the reference answers are asked for at once."""
        return EffectMeter(
            backend,
            make_probes(self.questions, system_prompts),
            ask=ask,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Dose:
    """A vector with the coefficients of strength 1.0, and the bounds that hold at every strength."""

    vector: SteeringVector
    coefficients: Mapping[int, float]
    bounds: tuple[Intervention, ...] = ()

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted(self.coefficients))

    @property
    def relative(self) -> float | None:
        """The sum over layers of ||c·v|| / ||h|| at strength 1.0; None where the vector knows no ||h||."""
        norms = self.vector.metadata.reference_norms
        known = all(layer in norms for layer in self.vector.layers)
        return relative_dose(self.vector, dict(self.coefficients)) if known else None

    def recipe(self, strength: float) -> Recipe:
        """The recipe of a strength; 0 leaves the model as it is."""
        return self._recipe(self.vector, strength)

    def control(self, strength: float, seed: int) -> Recipe:
        """The same with random directions of equal norm: same layers, same coefficients, same bounds."""
        return self._recipe(random_like(self.vector, seed=seed), strength)

    def _recipe(self, vector: SteeringVector, strength: float) -> Recipe:
        if strength == 0:
            return Recipe()
        values = {layer: strength * c for layer, c in self.coefficients.items()}
        return Recipe((Add(vector=vector, values=values), *self.bounds))


class AnswerRecord(Closed):
    """One answer with what was measured on it. `gain` is that over the base answer to the same question."""

    question: str
    system_prompt: str
    text: str
    gain: float
    coherence: float


def answer_records(meter: EffectMeter, row: Sequence[Answer | None]) -> tuple[AnswerRecord, ...]:
    """The answers of one recipe to all probes of the meter."""
    probes = meter.reference.probes
    measured = zip(probes, row, meter.effects(row, probes), meter.coherences(row), strict=True)
    return tuple(
        AnswerRecord(
            question=probe.question,
            system_prompt=probe.system_prompt,
            text=answer.text.strip() if answer else "",
            gain=gain,
            coherence=coherence,
        )
        for probe, answer, gain, coherence in measured
    )
