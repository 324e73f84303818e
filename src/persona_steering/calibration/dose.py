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

from persona_steering.backends.base import Backend
from persona_steering.calibration.layers import addition, candidate_bands, coefficients_for_dose
from persona_steering.interventions import Floor, Recipe
from persona_steering.scoring.effects import Ask, EffectMeter, Measurement
from persona_steering.scoring.examples import Example, side_by_side
from persona_steering.scoring.likelihood import Probe, make_probes
from persona_steering.vectors import Calibration, SteeringVector


class CalibrationSettings(BaseModel):
    """What is measured. `questions` are split: the first `search_questions` choose, the rest confirm."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: tuple[str, ...] = Field(min_length=4)
    search_questions: int = Field(default=12, ge=2)
    coarse_questions: int = Field(default=6, ge=2, description="of the search questions, those that choose the band")
    coarse_doses: tuple[float, ...] = (0.14, 0.24, 0.36)
    fine_factors: tuple[float, ...] = (0.64, 0.8, 1.0, 1.2, 1.44)
    fine_bands: int = Field(default=2, ge=1, description="bands that are searched finely: few questions rank roughly")
    higher_factors: tuple[float, ...] = (1.2, 1.44)  # of a band's highest dose, while it stays coherent
    higher_rounds: int = Field(default=2, ge=0, description="how often a band may go higher")
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
        probes = make_probes(settings.questions, system_prompts)
        self._meter = EffectMeter(
            backend,
            probes,
            ask=ask,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
        )
        self._searching = probes[: settings.search_questions]
        self._confirming = probes[settings.search_questions :]
        self.examples: tuple[
            Example, ...
        ] = ()  # of the dose that `calibrate` chose; of the safe form where there is one

    def search(self, vector: SteeringVector) -> tuple[list[Cell], list[Cell]]:
        """Every candidate band at a few doses; then the best bands at doses around and beyond their coherent limit."""
        settings = self._settings
        bands = settings.bands or candidate_bands(vector.layers, self._backend.identity.num_layers)
        few = self._searching[: settings.coarse_questions]
        coarse = self._cells(vector, [(band, dose) for band in bands for dose in settings.coarse_doses], few, "bands")
        best = ranked_bands(coarse, settings.search_coherence)[: settings.fine_bands]
        grid = [(band, round(limit * factor, 4)) for band, limit in best for factor in settings.fine_factors]
        fine = self._cells(vector, grid, self._searching, "doses")
        for _ in range(settings.higher_rounds):
            tops = coherent_tops(fine, settings.search_coherence)
            grid = [(band, round(top * factor, 4)) for band, top in tops for factor in settings.higher_factors]
            if not grid:
                break
            fine += self._cells(vector, grid, self._searching, "higher doses")
        return coarse, fine

    def calibrate(
        self, vector: SteeringVector, *, safe: SteeringVector | None = None, floor: Floor | None = None
    ) -> tuple[Calibration, Calibration | None]:
        """The calibration of `vector`, and with the same dose that of its `safe` form under `floor`.

        A vector that does not pass is returned all the same, marked weak with the reason.
        """
        bound = self._settings.search_coherence
        coarse, fine = self.search(vector)
        band, _ = ranked_bands(fine, bound)[0]
        for dose in descending_doses([cell for cell in fine if cell.layers == band], bound):
            raw, control, safe_found = self._confirm(vector, band, dose, safe, floor)
            if raw.coherence.mean >= self._settings.min_coherence:
                break
        make = self._calibration(vector, band, dose, coarse + fine, control)
        return make(raw, False), None if safe_found is None else make(safe_found, True)

    def _cells(
        self,
        vector: SteeringVector,
        grid: Sequence[tuple[tuple[int, ...], float]],
        probes: Sequence[Probe],
        phase: str,
    ) -> list[Cell]:
        recipes = [Recipe((addition(vector, band, dose),)) for band, dose in grid]
        meter = self._meter
        return [
            Cell(band, dose, float(np.mean(meter.effects(row, probes))), float(np.mean(meter.coherences(row))))
            for (band, dose), row in zip(grid, meter.measure(recipes, probes, phase), strict=True)
        ]

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
        rows = self._meter.measure(recipes, self._confirming, "confirm")
        controls = rows[1 : 1 + self._settings.controls]
        self.examples = side_by_side(self._meter, rows[0] if safe is None else rows[-1], self._confirming)
        return (
            self._meter.evaluate(rows[:1], self._confirming),
            self._meter.evaluate(controls, self._confirming),
            self._meter.evaluate(rows[-1:], self._confirming) if safe is not None else None,
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
        effect = self._meter.prompted_effect(self._confirming)

        def make(measured: Measurement, is_safe: bool) -> Calibration:
            reason = weakness(measured, control, settings, is_safe=is_safe)
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
                settings={**recorded, "search": found, "scale": asdict(self._meter.reference.scale)},
            )

        return make


def ranked_bands(cells: Sequence[Cell], search_coherence: float) -> list[tuple[tuple[int, ...], float]]:
    """Bands with their coherent limit, the dose where coherence passes the bound; the greatest gain there comes first.

    Coherence is smoothed to fall with the dose; limit and gain are interpolated between the measured doses.
    """
    found = []
    for band, row in _by_band(cells).items():
        doses = [0.0, *(cell.dose for cell in row)]
        coherences = [100.0, *non_increasing([cell.coherence for cell in row])]
        limit = float(np.interp(-search_coherence, [-c for c in coherences], doses))
        effect = float(np.interp(limit, doses, [0.0, *(cell.effect for cell in row)]))
        found.append((effect, band, limit))
    return [(band, limit) for _, band, limit in sorted(found, reverse=True)]


def coherent_tops(cells: Sequence[Cell], search_coherence: float) -> list[tuple[tuple[int, ...], float]]:
    """The bands that are coherent up to their highest dose, smoothed as in `ranked_bands`, and that dose."""
    return [
        (band, row[-1].dose)
        for band, row in _by_band(cells).items()
        if non_increasing([cell.coherence for cell in row])[-1] >= search_coherence
    ]


def _by_band(cells: Sequence[Cell]) -> dict[tuple[int, ...], list[Cell]]:
    """The cells of every band, by rising dose."""
    bands: dict[tuple[int, ...], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.dose):
        bands.setdefault(cell.layers, []).append(cell)
    return bands


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


def weakness(measured: Measurement, control: Measurement, settings: CalibrationSettings, *, is_safe: bool) -> str:
    """Why a vector counts as weak; empty when it does not. The safe form is measured at the dose of the raw one."""
    if measured.coherence.mean < settings.min_coherence:
        if is_safe:
            return f"with safety on, coherence is {measured.coherence.mean:.0f} at this dose"
        return f"no dose stayed coherent (coherence {measured.coherence.mean:.0f} at the weakest tried)"
    if measured.score is None:
        return "this model does not take this persona from a prompt, so a score would divide by noise"
    if measured.score.mean < settings.min_score:
        return f"persona score {measured.score.mean:.2f} at the strongest coherent dose"
    if control.score is not None and measured.score.low <= control.score.high:
        return "not clearly better than random directions of the same norm"
    return ""
