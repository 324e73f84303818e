"""The card: a planted direction gets good evidence, noise gets none, and what cannot be measured says why."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.backends.tiny import make_vector
from tests.evaluation.conftest import Ask, group, planted_sides

from persona_steering.backends.base import Text, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.evaluation.card import (
    CardSettings,
    Missing,
    Subject,
    discrimination,
    measure_card,
    shuffled_labels,
    stability,
)
from persona_steering.evaluation.dosing import Asking, Dose
from persona_steering.evaluation.held_out import Sides
from persona_steering.evaluation.pages import card_report
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.evidence import Evidence

SETTINGS = CardSettings(
    asking=Asking(questions=("Who are you?", "What is good?", "Why?"), max_new_tokens=6),
    controls=3,
    shuffles=8,
    resamples=40,
    splits=20,
)
BAND = (1, 2)


def difference(sides: Sides, vector: SteeringVector) -> SteeringVector:
    """The vector that the sides give."""
    directions = {}
    for layer in sides.layers:
        plus, minus = sides.means(layer)
        directions[layer] = (plus.mean(0) - minus.mean(0)).astype(np.float32)
    return SteeringVector(directions, vector.metadata)


def test_a_strong_direction_is_stable_agrees_and_tells_and_noise_does_not(vector: SteeringVector) -> None:
    strong = planted_sides(vector, signal=20, questions=20)
    found = stability(strong, BAND, SETTINGS)
    assert found.split_half > 0.9 and found.bootstrap_low > 0.95 and found.agreement > 0.8
    assert found.reliability is not None and found.reliability > found.split_half
    assert found.questions == 20 and found.resamples == 40
    tells = discrimination(vector, planted_sides(vector, signal=3, seed=1), BAND, 0)
    assert tells.auroc.low > 0.9 and tells.auroc_without_length.mean == pytest.approx(tells.auroc.mean)

    noise = planted_sides(vector, signal=0, questions=20)
    found = stability(noise, BAND, SETTINGS)
    assert abs(found.split_half) < 0.25 and abs(found.agreement) < 0.2 and found.bootstrap_low < 0.9
    nothing = discrimination(vector, noise, BAND, 0)
    assert nothing.auroc.low < 0.5 < nothing.auroc.high


def test_answers_that_differ_in_length_alone_do_not_tell_without_it(vector: SteeringVector) -> None:
    rng = np.random.default_rng(0)
    names = [f"q{i}" for i in range(40)]
    lengths = rng.integers(30, 50, 40), rng.integers(10, 30, 40)
    units = np.stack([vector.unit(layer) for layer in vector.layers])
    plus, minus = (
        group(
            [(name, 0.2 * n * units + 0.3 * rng.normal(size=units.shape)) for name, n in zip(names, side, strict=True)],
            side.tolist(),
        )
        for side in lengths
    )
    found = discrimination(vector, Sides(plus, minus, vector.layers), BAND, 0)
    assert found.auroc.mean > 0.95
    assert found.auroc_without_length.low < 0.5 < found.auroc_without_length.high


def test_shuffled_labels_make_vectors_that_tell_nothing(vector: SteeringVector) -> None:
    made_from = planted_sides(vector, signal=4, questions=20)
    held_out = planted_sides(vector, signal=4, questions=20, seed=9)
    own = difference(made_from, vector)
    null = shuffled_labels(own, made_from, held_out, BAND, SETTINGS)
    assert null.count == 8 and null.z is not None and null.z > 3
    assert null.low < null.mean < null.high < null.value


def test_every_part_is_measured_where_it_can_be(tiny: TransformersBackend, vector: SteeringVector, ask: Ask) -> None:
    sides = planted_sides(vector, signal=3)
    subject = Subject(
        vector=vector,
        layers=BAND,
        made_from=sides,
        held_out=planted_sides(vector, signal=3, seed=5),
        dose=Dose(vector, {1: 1.0, 2: 1.0}),
        system_prompts=("You are a wise old sage.",),
        others={"pirate": ("You are a pirate.", "You sail the seas.")},
    )
    found = measure_card(tiny, subject, SETTINGS, ask=ask)
    evidence = found.evidence
    assert evidence.not_measured == {}
    assert evidence.digest == vector.digest and evidence.layers == BAND
    assert evidence.random_directions is not None and evidence.random_directions.count == 3
    assert evidence.steered is not None
    assert evidence.random_directions.value == pytest.approx(evidence.steered.gain.mean)
    moved = [answer.gain for answer in found.answers]
    assert evidence.steered.gain.mean == pytest.approx(np.mean(moved))
    assert evidence.steered.anti_steered == pytest.approx(np.mean([gain < 0 for gain in moved]))
    assert evidence.lens is not None and evidence.lens.layer == 2
    assert evidence.lens.positive == tiny.unembed(vector.direction(2), top=20)
    assert Evidence.model_validate_json(evidence.model_dump_json()) == evidence
    page = card_report(vector, found, {}).render()
    assert "Every part was measured." in page and "pirate" in page


def test_three_questions_are_too_few_for_halves_and_the_rest_is_measured(
    tiny: TransformersBackend, vector: SteeringVector, ask: Ask
) -> None:
    few, held_out = planted_sides(vector, signal=3, questions=3), planted_sides(vector, signal=3, seed=5)
    subject = Subject(vector, BAND, few, held_out, Missing("no dose"), ("You are a sage of old.",), {})
    evidence = measure_card(tiny, subject, SETTINGS, ask=ask).evidence
    assert evidence.stability is None and "3 questions" in evidence.not_measured["stability"]
    assert evidence.shuffled_labels is not None and evidence.discrimination is not None


def test_selectivity_is_the_gain_under_the_other_personas_prompts(
    tiny: TransformersBackend, vector: SteeringVector, ask: Ask
) -> None:
    prompts = ("You are a pirate.", "You sail the seas.")
    dose = Dose(vector, {1: 1.0, 2: 1.0})
    subject = Subject(vector, BAND, Missing("a"), Missing("b"), dose, ("You are a sage of old.",), {"pirate": prompts})
    found = measure_card(tiny, subject, SETTINGS, ask=ask)
    meter = SETTINGS.asking.meter(tiny, subject.system_prompts, ask)

    def gain(question: str, text: str, place: int) -> float:
        system = prompts[place % 2]
        plain, evoked = tiny.score([Text(conversation(question), text), Text(conversation(question, system), text)])
        return evoked.mean - plain.mean

    steered = meter.measure([dose.recipe(1.0)], meter.reference.probes, "x")[0]
    pairs = list(zip(meter.reference.base, steered, strict=True))
    expected = [
        gain(after.probe.question, after.text, i) - gain(before.probe.question, before.text, i)
        for i, (before, after) in enumerate(pairs)
        if after is not None
    ]
    assert found.evidence.selectivity is not None
    assert found.evidence.selectivity["pirate"].mean == pytest.approx(np.mean(expected), abs=1e-4)
    assert found.evidence.not_measured == {"stability": "a", "shuffled_labels": "b", "discrimination": "b"}


def test_what_cannot_be_measured_stays_unmeasured_with_its_reason(
    tiny: TransformersBackend, vector: SteeringVector, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    from persona_steering.backends.base import Backend

    monkeypatch.setattr(TransformersBackend, "unembed", Backend.unembed)
    nothing = Subject(vector, BAND, Missing("no run"), Missing("no side"), Missing("no dose"), ("You are.",), {})
    found = measure_card(tiny, nothing, SETTINGS, ask=lambda requests, phase: pytest.fail("asked"))
    evidence = found.evidence
    for part in ("stability", "discrimination", "steered", "random_directions", "shuffled_labels", "selectivity"):
        assert getattr(evidence, part) is None and evidence.not_measured[part].startswith("no ")
    assert evidence.lens is None and "does not read tokens" in evidence.not_measured["lens"]
    page = card_report(make_vector(tiny.identity), found, {}).render()
    assert page.count("not measured") >= 14 and "no run" in page and "<svg" not in page
    assert json.loads(evidence.model_dump_json())["stability"] is None
