"""How strongly to steer: a search over layer bands and relative doses, then a confirmation on other questions.

Search and confirmation are a few batches each, since every row has its own recipe. Strength 1.0 becomes the
strongest dose of the best band that stayed coherent; the evidence stored with it comes from questions that the
search did not see, next to random directions of the same norms at the same layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from persona_steering.backends.base import (
    Backend,
    Request,
    Sampling,
    conversation,
)
from persona_steering.calibration.layers import addition, candidate_bands, coefficients_for_dose
from persona_steering.errors import QualityError
from persona_steering.interventions import Floor, Recipe
from persona_steering.scoring.coherence import CoherenceScale, measure_scale
from persona_steering.scoring.likelihood import (
    Answer,
    Probe,
    make_probes,
    mean_interval,
    persona_score,
    prompted_effect,
    score_answers,
)
from persona_steering.vectors import Calibration, Interval, SteeringVector

Ask = Callable[[Sequence[Request], str], list[str]]


class CalibrationSettings(BaseModel):
    """What is measured. `questions` are split: the first `search_questions` choose, the rest confirm."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: tuple[str, ...] = Field(min_length=4)
    search_questions: int = Field(default=12, ge=2)
    coarse_questions: int = Field(default=6, ge=2, description="of the search questions, those that choose the band")
    coarse_doses: tuple[float, ...] = (0.14, 0.24, 0.36)
    fine_factors: tuple[float, ...] = (0.64, 0.8, 1.0, 1.2, 1.44)
    bands: tuple[tuple[int, ...], ...] = ()  # empty: candidate_bands
    controls: int = Field(default=2, ge=1, description="random directions")
    max_new_tokens: int = Field(default=32, ge=4)
    temperature: float = Field(default=0.7, ge=0)
    seed: int = 0
    search_coherence: float = Field(default=72, description="lowest mean coherence a dose may have in the search")
    min_coherence: float = Field(default=60, description="lowest mean coherence that strength 1.0 may have")
    min_score: float = Field(default=0.5, description="persona score below which a vector is weak")


@dataclass(frozen=True, slots=True)
class Cell:
    """One band at one dose, measured."""

    layers: tuple[int, ...]
    dose: float
    effect: float  # mean gain over the base answers, nats per token
    coherence: float


@dataclass(frozen=True)
class Reference:
    """The model's own answers to some probes, plain and prompted, and the scale they define."""

    probes: tuple[Probe, ...]
    base: tuple[Answer, ...]
    prompted: tuple[Answer, ...]
    scale: CoherenceScale

    @property
    def base_gains(self) -> list[float]:
        return [answer.gain for answer in self.base]

    @property
    def prompted_gains(self) -> list[float]:
        return [answer.gain for answer in self.prompted]


class Measurement(BaseModel):
    """What a recipe does to the answers to some probes."""

    model_config = ConfigDict(frozen=True)

    score: Interval | None
    gain: Interval
    coherence: Interval


class DoseSearch:
    """Calibrates vectors of one persona or trait on one model.

    `system_prompts` evoke it; they are what the likelihood scores compare with.
    """

    def __init__(
        self,
        backend: Backend,
        system_prompts: Sequence[str],
        settings: CalibrationSettings,
        *,
        ask: Ask,
    ) -> None:
        self._backend = backend
        self._settings = settings
        self._ask = ask
        probes = make_probes(settings.questions, system_prompts)
        self._reference = self._measure_reference(probes)
        self._searching = probes[: settings.search_questions]
        self._confirming = probes[settings.search_questions :]

    @property
    def reference(self) -> Reference:
        return self._reference

    def search(self, vector: SteeringVector) -> list[Cell]:
        """Every candidate band at a few doses, then the best band at doses around its coherent limit."""
        settings = self._settings
        bands = settings.bands or candidate_bands(vector.layers, self._backend.identity.num_layers)
        few = self._searching[: settings.coarse_questions]
        coarse = self._cells(vector, [(band, dose) for band in bands for dose in settings.coarse_doses], few, "bands")
        band, limit = best_band(coarse, settings.search_coherence)
        grid = [(band, round(limit * factor, 4)) for factor in settings.fine_factors]
        return coarse + self._cells(vector, grid, self._searching, "doses")

    def calibrate(
        self, vector: SteeringVector, *, safe: SteeringVector | None = None, floor: Floor | None = None
    ) -> tuple[Calibration, Calibration | None]:
        """The calibration of `vector`, and with the same dose that of its `safe` form under `floor`.

        A vector that does not pass is returned all the same, marked weak with the reason.
        """
        cells = self.search(vector)
        fine = cells[-len(self._settings.fine_factors) :]
        band = fine[0].layers
        for dose in descending_doses(fine, self._settings.search_coherence):
            raw, control, safe_found = self._confirm(vector, band, dose, safe, floor)
            if raw.coherence.mean >= self._settings.min_coherence:
                break
        make = self._calibration(vector, band, dose, cells, control)
        return make(raw, False), None if safe_found is None else make(safe_found, True)

    def _cells(
        self,
        vector: SteeringVector,
        grid: Sequence[tuple[tuple[int, ...], float]],
        probes: Sequence[Probe],
        phase: str,
    ) -> list[Cell]:
        recipes = [Recipe((addition(vector, band, dose),)) for band, dose in grid]
        base = self._gains_of(self._reference.base, probes)
        return [
            Cell(band, dose, float(np.mean(gains_or_base(row, base)) - np.mean(base)), self._coherence(row))
            for (band, dose), row in zip(grid, self.measure(recipes, probes, phase), strict=True)
        ]

    def measure(self, recipes: Sequence[Recipe], probes: Sequence[Probe], phase: str) -> list[list[Answer | None]]:
        """Scored answers `[recipe][probe]`, all recipes sharing batches; one seed a probe, for every recipe."""
        places = {probe: i for i, probe in enumerate(self._reference.probes)}
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
        base = self._gains_of(self._reference.base, probes)
        prompted = self._gains_of(self._reference.prompted, probes)
        gains = [gain for row in rows for gain in gains_or_base(row, base)]
        mean_gain = np.asarray(gains).reshape(len(rows), -1).mean(0) - np.asarray(base)
        coherences = [[self._reference.scale(answer) for answer in row] for row in rows]
        return Measurement(
            score=persona_score(gains, base, prompted, seed=self._settings.seed),
            gain=mean_interval(mean_gain.tolist(), seed=self._settings.seed),
            coherence=mean_interval(np.mean(coherences, 0).tolist(), seed=self._settings.seed),
        )

    def _confirm(
        self,
        vector: SteeringVector,
        layers: tuple[int, ...],
        dose: float,
        safe: SteeringVector | None,
        floor: Floor | None,
    ) -> tuple[Measurement, Measurement, Measurement | None]:
        add = addition(vector, layers, dose)
        recipes = [Recipe((add,))]
        for k in range(self._settings.controls):
            control = random_like(vector, seed=self._settings.seed + k)
            recipes.append(Recipe((type(add)(vector=control, values=add.values),)))
        if safe is not None:
            bounds = (floor,) if floor is not None else ()
            recipes.append(Recipe((type(add)(vector=safe, values=add.values), *bounds)))
        rows = self.measure(recipes, self._confirming, "confirm")
        controls = rows[1 : 1 + self._settings.controls]
        return (
            self.evaluate(rows[:1], self._confirming),
            self.evaluate(controls, self._confirming),
            self.evaluate(rows[-1:], self._confirming) if safe is not None else None,
        )

    def _calibration(
        self,
        vector: SteeringVector,
        layers: tuple[int, ...],
        dose: float,
        cells: Sequence[Cell],
        control: Measurement,
    ) -> Callable[[Measurement, bool], Calibration]:
        settings = self._settings
        found: list[JsonValue] = [
            {
                "layers": list(c.layers),
                "dose": c.dose,
                "effect": round(c.effect, 4),
                "coherence": round(c.coherence, 1),
            }
            for c in cells
        ]
        recorded = settings.model_dump(mode="json", exclude={"questions", "bands"})
        effect = prompted_effect(
            self._gains_of(self._reference.base, self._confirming),
            self._gains_of(self._reference.prompted, self._confirming),
        )

        def make(measured: Measurement, is_safe: bool) -> Calibration:
            reason = weakness(measured, control, settings)
            return Calibration(
                layers=layers,
                coefficients=coefficients_for_dose(vector, layers, dose),
                relative_dose=dose,
                weak=bool(reason),
                weak_reason=reason,
                persona_score=measured.score,
                gain=measured.gain,
                prompted_gain=effect,
                coherence=measured.coherence,
                control_score=control.score,
                control_gain=control.gain,
                num_answers=len(self._confirming),
                num_controls=settings.controls,
                num_questions=len(self._confirming),
                safe=is_safe,
                settings={**recorded, "search": found, "scale": asdict(self._reference.scale)},
            )

        return make

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
        scale = measure_scale(self._backend, answers, seed=self._settings.seed)
        return Reference(tuple(probes), tuple(answers[: len(probes)]), tuple(answers[len(probes) :]), scale)

    def _sampling(self, place: int) -> Sampling:
        settings = self._settings
        return Sampling(
            temperature=settings.temperature,
            max_new_tokens=settings.max_new_tokens,
            seed=settings.seed * 100_003 + place,
        )

    def _gains_of(self, answers: Sequence[Answer], probes: Sequence[Probe]) -> list[float]:
        gains = {answer.probe: answer.gain for answer in answers}
        return [gains[probe] for probe in probes]

    def _coherence(self, row: Sequence[Answer | None]) -> float:
        return float(np.mean([self._reference.scale(answer) for answer in row]))


def gains_or_base(row: Sequence[Answer | None], base: Sequence[float]) -> list[float]:
    """The gains of a row of answers; an empty answer gains nothing over the base one."""
    return [plain if answer is None else answer.gain for answer, plain in zip(row, base, strict=True)]


def best_band(cells: Sequence[Cell], search_coherence: float) -> tuple[tuple[int, ...], float]:
    """The band that gains most at its coherent limit, and that limit: the dose where coherence passes the bound.

    Coherence is smoothed to fall with the dose; limit and gain are interpolated between the measured doses.
    """
    bands: dict[tuple[int, ...], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.dose):
        bands.setdefault(cell.layers, []).append(cell)
    found = []
    for band, row in bands.items():
        doses = [0.0, *(cell.dose for cell in row)]
        coherences = [100.0, *non_increasing([cell.coherence for cell in row])]
        limit = float(np.interp(-search_coherence, [-c for c in coherences], doses))
        effect = float(np.interp(limit, doses, [0.0, *(cell.effect for cell in row)]))
        found.append((effect, band, limit))
    _, band, limit = max(found)
    return band, limit


def descending_doses(cells: Sequence[Cell], search_coherence: float) -> list[float]:
    """The doses of one band worth confirming: its coherent limit, then the measured doses below it.

    The limit is interpolated where smoothed coherence passes the bound between two measured doses. Where none is
    coherent, only the weakest is tried.
    """
    row = sorted(cells, key=lambda cell: cell.dose)
    doses = [cell.dose for cell in row]
    smooth = non_increasing([cell.coherence for cell in row])
    coherent = [dose for dose, value in zip(doses, smooth, strict=True) if value >= search_coherence]
    if not coherent:
        return doses[:1]
    limit = round(float(np.interp(-search_coherence, [-value for value in smooth], doses)), 4)
    return [*([limit] if limit > coherent[-1] else []), *coherent[::-1]]


def non_increasing(values: Sequence[float]) -> list[float]:
    """The non-increasing sequence nearest to `values` in least squares (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            (a, n), (b, m) = pools[-2], pools[-1]
            pools[-2:] = [((a * n + b * m) / (n + m), n + m)]
    return [mean for mean, count in pools for _ in range(count)]


def random_like(vector: SteeringVector, *, seed: int) -> SteeringVector:
    """A control: random directions with the norms of `vector` at every layer."""
    rng = np.random.default_rng([seed, 20_250_721])
    directions = {}
    for layer in vector.layers:
        draw = rng.standard_normal(vector.hidden_size)
        directions[layer] = (draw * (vector.norms[layer] / np.linalg.norm(draw))).astype(np.float32)
    return SteeringVector(directions, vector.metadata.model_copy(update={"name": "random", "calibration": None}))


def weakness(measured: Measurement, control: Measurement, settings: CalibrationSettings) -> str:
    """Why a vector counts as weak; empty when it does not."""
    if measured.coherence.mean < settings.min_coherence:
        return f"no dose stayed coherent (coherence {measured.coherence.mean:.0f} at the weakest tried)"
    if measured.score is None:
        return "this model does not take this persona from a prompt, so a score would divide by noise"
    if measured.score.mean < settings.min_score:
        return f"persona score {measured.score.mean:.2f} at the strongest coherent dose"
    if control.score is not None and measured.score.low <= control.score.high:
        return "not clearly better than random directions of the same norm"
    return ""
