"""Layers: what tells is found where it was planted, and steering is measured one layer at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.conftest import Ask, group, planted_sides

from persona_steering.backends.base import Text, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import RecipeError
from persona_steering.evaluation.dosing import Asking
from persona_steering.evaluation.held_out import Sides, ask_held_out, band_projections, projections
from persona_steering.evaluation.layers import LayersSettings, scan_layers
from persona_steering.evaluation.pages import layers_report
from persona_steering.evaluation.statistics import auroc
from persona_steering.extraction.contrast import ExtractionSettings
from persona_steering.extraction.run import Run
from persona_steering.personas import Persona, trait_from_word
from persona_steering.vectors import SteeringVector

ASKING = Asking(questions=("Who are you?", "What is good?"), max_new_tokens=5)
PROMPTS = ("You are a wise old sage.",)


def test_the_layer_in_which_the_trait_lies_tells_best(
    tiny: TransformersBackend, vector: SteeringVector, ask: Ask
) -> None:
    rng = np.random.default_rng(0)
    names = [f"q{i}" for i in range(16)]
    plus, minus = rng.normal(size=(2, 16, 4, vector.hidden_size))
    plus[:, 2] += 6 * vector.unit(2)
    sides = Sides(group(list(zip(names, plus, strict=True))), group(list(zip(names, minus, strict=True))), (0, 1, 2, 3))
    settings = LayersSettings(layers=(0, 1, 2, 3), dose=0.3, asking=ASKING)
    found = scan_layers(tiny, vector, PROMPTS, sides, settings, ask=ask, band=(1, 2))
    assert found.best_telling == 2
    for row in found.rows:
        a, b = ((side[:, row.layer].astype(np.float32) @ vector.unit(row.layer)) for side in (plus, minus))
        assert row.auroc.mean == pytest.approx(auroc(a, b), abs=0.005)
        assert row.chosen is (row.layer in (1, 2))
    assert found.rows[2].auroc.low > found.rows[0].auroc.high
    assert (found.positives, found.negatives, found.held_out_questions) == (16, 16, 16)
    page = layers_report("sage", found, {}).render()
    assert "Layer 2 tells best" in page and "chosen band" in page and page.count("<svg") == 4


def test_each_layer_is_steered_alone_at_the_same_relative_dose(
    tiny: TransformersBackend, vector: SteeringVector, ask: Ask
) -> None:
    recipes = []

    def listening(requests: list, phase: str) -> list[str]:  # type: ignore[type-arg]
        if phase == "layers":
            recipes.extend(dict.fromkeys(request.recipe for request in requests))
        return ask(requests, phase)

    settings = LayersSettings(layers=(1, 3), dose=0.3, asking=ASKING)
    scan_layers(tiny, vector, PROMPTS, planted_sides(vector, signal=1), settings, ask=listening)
    assert [recipe.layers for recipe in recipes] == [(1,), (3,), (1,), (3,)], "the vector, then random directions"
    for recipe in recipes:
        (add,) = recipe.interventions
        ((layer, value),) = add.values.items()
        assert value * add.vector.norms[layer] / 5.0 == pytest.approx(0.3, rel=1e-5)


def test_a_layer_that_the_vector_does_not_cover_is_refused(
    tiny: TransformersBackend, vector: SteeringVector, ask: Ask
) -> None:
    settings = LayersSettings(layers=(3,), dose=0.3, asking=ASKING)
    few = vector.restrict([0, 1])
    with pytest.raises(RecipeError, match="no direction at layer 3"):
        scan_layers(tiny, few, PROMPTS, planted_sides(few, signal=1), settings, ask=ask)


def held_out_settings(prompts: int = 1) -> ExtractionSettings:
    return ExtractionSettings(
        questions=("Who are you?", "What is good?", "Why?"),
        prompts_per_question=prompts,
        max_new_tokens=5,
        layers=(1, 2),
        filter=False,
    )


def test_a_persona_is_held_against_no_prompt_and_a_trait_against_its_opposite(
    tiny: TransformersBackend, tmp_path: Path
) -> None:
    persona = Persona(name="sage", system_prompts=("You are a sage of old.", "You are a slow teacher."))
    sides = ask_held_out(tiny, persona, held_out_settings(2), run=Run(tmp_path / "p", {}))
    assert {one.system_prompt for one in sides.positive.asked} == set(persona.system_prompts)
    assert {one.system_prompt for one in sides.negative.asked} == {None}
    assert len(sides.positive.answers) == len(sides.negative.answers) == 6
    trait = trait_from_word("calm", "nervous")
    sides = ask_held_out(tiny, trait, held_out_settings(), run=Run(tmp_path / "t", {}))
    assert {one.system_prompt for one in sides.negative.asked} <= {pair.neg for pair in trait.pairs}
    assert sides.questions[0] == sides.questions[1] == ["Who are you?", "What is good?", "Why?"]


def test_projections_are_those_of_the_answers_read_alone(
    tiny: TransformersBackend, vector: SteeringVector, tmp_path: Path
) -> None:
    persona = Persona(name="sage", system_prompts=("You are a sage of old.",))
    sides = ask_held_out(tiny, persona, held_out_settings(), run=Run(tmp_path, {}))
    found = projections(vector, sides, 2)[0]
    for value, asked, answered in zip(found, sides.positive.asked, sides.positive.answers, strict=True):
        text = Text(conversation(asked.question, asked.system_prompt), answered.text)
        (read,) = tiny.capture([text], layers=[2])
        # generation stops before the last token is fed back, teacher forcing reads it too
        assert np.isfinite(value) and read.tokens - answered.tokens in (0, 1)
    band = band_projections(vector, sides, (1, 2))[0]
    assert band == pytest.approx((projections(vector, sides, 1)[0] + found) / 2 / 5.0)
