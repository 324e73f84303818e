"""The sweep: what it asks, what it finds coherent, and that it measures what a lone request would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tests.evaluation.conftest import Ask

from persona_steering.backends.base import Request
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.calibration.dose import random_like
from persona_steering.errors import QualityError, UsageError
from persona_steering.evaluation.dosing import Asking, Dose
from persona_steering.evaluation.pages import coherence_sentence, sweep_report
from persona_steering.evaluation.sweep import (
    Sweep,
    SweepPoint,
    SweepSettings,
    coherent_range,
    run_sweep,
    spread_strengths,
)
from persona_steering.interventions import Floor
from persona_steering.scoring.effects import Measurement
from persona_steering.scoring.likelihood import make_probes, score_answers
from persona_steering.vectors import Interval, SteeringVector

QUESTIONS = ("Who are you?", "What is good?", "Why is the sky blue?")
PROMPTS = ("You are a wise old sage.", "Speak slowly.")


def settings(*strengths: float, controls: int = 1) -> SweepSettings:
    return SweepSettings(
        strengths=strengths, asking=Asking(questions=QUESTIONS, max_new_tokens=6, seed=3), controls=controls
    )


def measured(coherence: float) -> Measurement:
    value = Interval(mean=coherence, low=coherence, high=coherence)
    return Measurement(score=None, gain=value, coherence=value)


def points(*pairs: tuple[float, float]) -> list[SweepPoint]:
    return [
        SweepPoint(
            strength=s, steered=measured(c), control=measured(90), anti_steered=0, answers=(), control_answers=()
        )
        for s, c in pairs
    ]


def test_strengths_are_equal_steps_with_both_ends() -> None:
    assert spread_strengths(-2, 2, 9) == (-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2)
    assert spread_strengths(0, 0.3, 4) == (0, 0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("first", "last", "count", "message"),
    [(0, 1, 1, "1 points"), (0, 1, 200, "200 points"), (1, 1, 3, "ascend"), (0, 2.5, 3, "out of range")],
)
def test_strengths_that_are_no_range_are_refused(first: float, last: float, count: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        spread_strengths(first, last, count)


def test_the_coherent_range_ends_at_the_first_drop_on_each_side_of_zero() -> None:
    found = points((-2, 10), (-1, 70), (0, 100), (1, 61), (1.5, 40), (2, 80))
    assert coherent_range(found) == (-1, 1), "what recovers beyond a drop does not count"
    assert coherent_range(points((0.5, 80), (1, 50))) == (0.5, 0.5)
    assert coherent_range(points((0.5, 50), (1, 80))) is None


def test_every_point_says_what_requests_of_their_own_would(
    tiny: TransformersBackend, vector: SteeringVector, ask: Ask
) -> None:
    asked: list[Request] = []

    def listening(requests: Sequence[Request], phase: str) -> list[str]:
        asked.extend(requests)
        return ask(requests, phase)

    dose = Dose(vector, {1: 0.8, 2: 0.8})
    found = run_sweep(tiny, dose, PROMPTS, settings(-1, 0, 1), ask=listening)
    probes = make_probes(QUESTIONS, PROMPTS)
    gains = {}
    for point in found.points:
        own = [request for request in asked if request.recipe.hash == dose.recipe(point.strength).hash]
        alone = [tiny.generate([request])[0].text.strip() for request in own[: len(QUESTIONS)]]
        assert [answer.text for answer in point.answers] == alone
        scored = score_answers(tiny, list(zip(probes, alone, strict=True)))
        gains[point.strength] = np.mean([one.gain for one in scored if one is not None])
    for point in found.points:
        assert point.steered.gain.mean == pytest.approx(gains[point.strength] - gains[0], abs=1e-4)
    assert found.points[1].steered.gain.mean == 0 == found.points[1].control.gain.mean


def test_the_control_differs_in_its_direction_alone(tiny: TransformersBackend, vector: SteeringVector) -> None:
    floor = Floor(vector=vector, values={3: -1.0})
    dose = Dose(vector, {1: 0.4, 2: 0.3}, (floor,))
    for strength in (-1.0, 0.5):
        own, control = dose.recipe(strength).interventions, dose.control(strength, 7).interventions
        assert own[0].values == control[0].values == {1: strength * 0.4, 2: strength * 0.3}
        assert own[1] is control[1] is floor
        assert np.array_equal(control[0].vector.directions[1], random_like(vector, seed=7).directions[1])
    assert not dose.recipe(0) and not dose.control(0, 7)
    assert dose.relative == pytest.approx((0.4 + 0.3) / 5.0)


def test_only_the_strengths_beside_zero_are_asked(tiny: TransformersBackend, vector: SteeringVector, ask: Ask) -> None:
    counts: dict[str, int] = {}

    def counting(requests: Sequence[Request], phase: str) -> list[str]:
        counts[phase] = len(requests)
        return ask(requests, phase)

    run_sweep(tiny, Dose(vector, {1: 0.5}), PROMPTS, settings(-1, 0, 1, controls=2), ask=counting)
    assert counts == {"reference": 6, "sweep": 2 * 3 * 3}


def test_a_model_that_says_nothing_of_its_own_cannot_be_compared(
    tiny: TransformersBackend, vector: SteeringVector
) -> None:
    with pytest.raises(QualityError, match="empty"):
        run_sweep(
            tiny, Dose(vector, {1: 0.5}), PROMPTS, settings(0, 1), ask=lambda requests, phase: [""] * len(requests)
        )


def test_the_page_says_where_it_is_coherent_and_where_it_collapses(
    tiny: TransformersBackend, vector: SteeringVector, ask: Ask
) -> None:
    found = run_sweep(tiny, Dose(vector, {1: 0.5}), PROMPTS, settings(0, 1), ask=ask)
    page = sweep_report("sage", found, {"seed": "3"}).render()
    assert "1 random direction<" in page and "3 questions a point" in page and page.count("<details") == 4
    kept = {"points": found.points, "prompted": found.prompted, "controls": 1, "questions": 3}
    told = Sweep(**kept, coherent=(-1, 1), collapse_below=None, collapse_above=1.5)  # type: ignore[arg-type]
    assert coherence_sentence(told) == (
        "Mean coherence stays at 60 or more from strength -1 to 1. It falls below 20, which is garbage, at 1.5."
    )
    never = Sweep(**kept, coherent=None, collapse_below=None, collapse_above=None)  # type: ignore[arg-type]
    assert "No measured strength" in coherence_sentence(never)
