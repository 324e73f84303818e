"""What recipes do to a model's answers: the same questions asked plainly, prompted and steered, scored on one scale.

Every recipe answers a question with the same seed, and all recipes share batches, since each row has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from persona_steering.backends.base import Backend, Request, Sampling, conversation
from persona_steering.errors import QualityError
from persona_steering.interventions import Recipe
from persona_steering.scoring.coherence import CoherenceScale, measure_scale
from persona_steering.scoring.likelihood import (
    Answer,
    Probe,
    mean_interval,
    persona_score,
    prompted_effect,
    score_answers,
)
from persona_steering.vectors import Interval

# Answers to requests, in order; the text names the phase of the work. A caller's run keeps them on disk.
Ask = Callable[[Sequence[Request], str], list[str]]


@dataclass(frozen=True)
class Reference:
    """The model's own answers to some probes, plain and prompted, and the scale they define."""

    probes: tuple[Probe, ...]
    base: tuple[Answer, ...]
    prompted: tuple[Answer, ...]
    scale: CoherenceScale


class Measurement(BaseModel):
    """What a recipe does to the answers to some probes. `gain` is the gain over the base answers, nats per token."""

    model_config = ConfigDict(frozen=True)

    score: Interval | None
    gain: Interval
    coherence: Interval


class EffectMeter:
    """Measures recipes on `probes`. Raises QualityError when one of the model's own answers is empty."""

    def __init__(
        self,
        backend: Backend,
        probes: Sequence[Probe],
        *,
        ask: Ask,
        max_new_tokens: int,
        temperature: float,
        seed: int = 0,
    ) -> None:
        self._backend = backend
        self._ask = ask
        self._max_new_tokens, self._temperature, self._seed = max_new_tokens, temperature, seed
        self.reference = self._measure_reference(probes)

    def measure(self, recipes: Sequence[Recipe], probes: Sequence[Probe], phase: str) -> list[list[Answer | None]]:
        """Scored answers `[recipe][probe]`, all recipes sharing batches; None where an answer is empty."""
        places = {probe: i for i, probe in enumerate(self.reference.probes)}
        requests = [
            Request(conversation(probe.question), recipe=recipe, sampling=self._sampling(places[probe]))
            for recipe in recipes
            for probe in probes
        ]
        texts = self._ask(requests, phase)
        probed = [probe for _ in recipes for probe in probes]
        scored = score_answers(self._backend, list(zip(probed, texts, strict=True)))
        return [scored[i : i + len(probes)] for i in range(0, len(scored), len(probes))]

    def evaluate(self, rows: Sequence[Sequence[Answer | None]], probes: Sequence[Probe]) -> Measurement:
        """What one recipe (or several of a kind, as control directions) did to the answers to `probes`."""
        base, prompted = self.base_gains(probes), self.prompted_gains(probes)
        gains = [gain for row in rows for gain in gains_or_base(row, base)]
        mean_gain = np.asarray(gains).reshape(len(rows), -1).mean(0) - np.asarray(base)
        coherences = [self.coherences(row) for row in rows]
        return Measurement(
            score=persona_score(gains, base, prompted, seed=self._seed),
            gain=mean_interval(mean_gain.tolist(), seed=self._seed),
            coherence=mean_interval(np.mean(coherences, 0).tolist(), seed=self._seed),
        )

    def effects(self, row: Sequence[Answer | None], probes: Sequence[Probe]) -> list[float]:
        """The gain of each answer over the base answer to its probe, nats per token."""
        base = self.base_gains(probes)
        return [gain - plain for gain, plain in zip(gains_or_base(row, base), base, strict=True)]

    def coherences(self, row: Sequence[Answer | None]) -> list[float]:
        """The coherence of each answer, 0-100."""
        return [self.reference.scale(answer) for answer in row]

    def prompted_effect(self, probes: Sequence[Probe]) -> Interval:
        """What the system prompts themselves gain on `probes`, nats per token."""
        return prompted_effect(self.base_gains(probes), self.prompted_gains(probes))

    def base_gains(self, probes: Sequence[Probe]) -> list[float]:
        """The gains of the plain answers to `probes`."""
        return _gains_of(self.reference.base, probes)

    def prompted_gains(self, probes: Sequence[Probe]) -> list[float]:
        """The gains of the prompted answers to `probes`."""
        return _gains_of(self.reference.prompted, probes)

    def _measure_reference(self, probes: Sequence[Probe]) -> Reference:
        sampled = [(probe, self._sampling(i)) for i, probe in enumerate(probes)]
        requests = [Request(conversation(probe.question), sampling=sampling) for probe, sampling in sampled]
        requests += [
            Request(conversation(probe.question, probe.system_prompt), sampling=sampling) for probe, sampling in sampled
        ]
        texts = self._ask(requests, "reference")
        scored = score_answers(self._backend, list(zip([*probes, *probes], texts, strict=True)))
        answers = [answer for answer in scored if answer is not None]
        if len(answers) != len(scored):
            raise QualityError(
                f"{len(scored) - len(answers)} of the model's own answers are empty, so nothing can be compared.",
                hint="Use another model, or other questions.",
            )
        scale = measure_scale(self._backend, answers, seed=self._seed)
        return Reference(tuple(probes), tuple(answers[: len(probes)]), tuple(answers[len(probes) :]), scale)

    def _sampling(self, place: int) -> Sampling:
        return Sampling(
            temperature=self._temperature,
            max_new_tokens=self._max_new_tokens,
            seed=self._seed * 100_003 + place,
        )


def gains_or_base(row: Sequence[Answer | None], base: Sequence[float]) -> list[float]:
    """The gains of a row of answers; an empty answer gains nothing over the base one."""
    return [plain if answer is None else answer.gain for answer, plain in zip(row, base, strict=True)]


def _gains_of(answers: Sequence[Answer], probes: Sequence[Probe]) -> list[float]:
    gains = {answer.probe: answer.gain for answer in answers}
    return [gains[probe] for probe in probes]
