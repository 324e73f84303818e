"""Vectors and axes against arithmetic done by hand on the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.backends.tiny import tiny_backend

from persona_steering.backends.base import Request, Sampling, Text, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import QualityError, UsageError
from persona_steering.extraction.axes import assistant_axis, baseline_vector, projections, safety_axis
from persona_steering.extraction.contrast import (
    ExtractionSettings,
    Prompted,
    extract_baseline,
    extract_persona,
    extract_trait,
    pair_up,
)
from persona_steering.extraction.filter import in_character
from persona_steering.extraction.run import Run, answer_seed
from persona_steering.personas import Persona, trait_from_word
from persona_steering.vectors import normalize

QUESTIONS = ("Where do you live?", "What do you eat?", "Whom do you like?", "How do you work?", "Why do you sing?")
PERSONA = Persona(name="cook", system_prompts=("You are a cook here.", "Speak as a baker."), source="test")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return tiny_backend("qwen3", tmp_path_factory.mktemp("models"), max_position_embeddings=2048)


def settings(**changes: object) -> ExtractionSettings:
    fields = {"questions": QUESTIONS, "prompts_per_question": 2, "max_new_tokens": 6, "layers": (0, 2), "filter": False}
    return ExtractionSettings.model_validate({**fields, **changes})


def test_system_prompts_take_equal_turns() -> None:
    asked = pair_up(settings(prompts_per_question=1), ["a", "b"])
    assert [item.system_prompt for item in asked] == ["a", "b", "a", "b", "a"]
    both = pair_up(settings(), ["a", "b"], ["x", "y"])
    assert both[:2] == [Prompted(QUESTIONS[0], "a", "x"), Prompted(QUESTIONS[0], "b", "y")]
    assert len(both) == 10


def test_a_persona_vector_is_the_difference_of_mean_response_activations(
    backend: TransformersBackend, tmp_path: Path
) -> None:
    chosen = settings()
    baseline = extract_baseline(backend, chosen, run=Run(tmp_path / "b", {}))
    found = extract_persona(backend, PERSONA, chosen, run=Run(tmp_path / "p", {}), baseline=baseline)

    def mean(phase: str, systems: list[str | None]) -> np.ndarray:
        rows = []
        for i, (question, system) in enumerate((q, s) for q in QUESTIONS for s in systems):
            sampling = Sampling(temperature=0.7, max_new_tokens=6, seed=answer_seed(0, phase, i))
            (done,) = backend.generate([Request(conversation(question, system), sampling=sampling, capture=(0, 2))])
            assert done.activations is not None
            rows.append([done.activations.mean[layer] for layer in (0, 2)])
        return np.mean(rows, 0, dtype=np.float64)

    expected = mean("persona", list(PERSONA.system_prompts)) - mean("baseline", [None, None])
    for k, layer in enumerate((0, 2)):
        assert np.allclose(found.vector.directions[layer], expected[k], atol=2e-4)
    assert found.vector.metadata.counts == {"kept": 10, "dropped": 0, "contrast_kept": 10, "contrast_dropped": 0}
    assert set(found.vector.metadata.reference_norms) == {0, 2}


def test_a_trait_points_from_its_opposite_and_turns_with_it(backend: TransformersBackend, tmp_path: Path) -> None:
    chosen = settings()
    baseline = extract_baseline(backend, chosen, run=Run(tmp_path / "b", {}))
    trait = trait_from_word("loud", "quiet")
    found = extract_trait(backend, trait, chosen, run=Run(tmp_path / "t", {}), baseline=baseline)
    plus, minus = found.positive.moments().mean, found.negative.moments().mean
    for k, layer in enumerate((0, 2)):
        assert np.allclose(found.vector.directions[layer], plus[k] - minus[k], atol=1e-6)
    assert found.vector.metadata.opposite == "quiet"


def test_the_filter_keeps_answers_that_their_own_prompt_explains_better(backend: TransformersBackend) -> None:
    asked = [("Where?", "You are a cook.", None), ("Who?", "You are a cook.", None)]
    answers = ["in a hot kitchen", "zzz"]
    kept = in_character(backend, asked, answers)
    for (question, own, other), answer, keep in zip(asked, answers, kept, strict=True):
        gain = (
            backend.score([Text(conversation(question, own), answer)])[0].mean
            - backend.score([Text(conversation(question, other), answer)])[0].mean
        )
        assert keep == (gain > 0)


def test_too_few_answers_in_character_is_said(backend: TransformersBackend, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    chosen = settings(filter=True)
    baseline = extract_baseline(backend, chosen, run=Run(tmp_path / "b", {}))
    monkeypatch.setattr("persona_steering.extraction.contrast.in_character", lambda *_: [True] + [False] * 9)
    with pytest.raises(QualityError, match="only 1 of 10"):
        extract_persona(backend, PERSONA, chosen, run=Run(tmp_path / "p", {}), baseline=baseline)


def test_the_assistant_axis_is_the_baseline_minus_the_mean_of_the_persona_means(
    backend: TransformersBackend, tmp_path: Path
) -> None:
    chosen = settings()
    baseline = extract_baseline(backend, chosen, run=Run(tmp_path / "b", {}))
    other = Persona(name="monk", system_prompts=("You are a monk here.", "Speak as a hermit."))
    found = [
        extract_persona(backend, persona, chosen, run=Run(tmp_path / persona.name, {}), baseline=baseline)
        for persona in (PERSONA, other)
    ]
    axis = assistant_axis([one.vector for one in found], baseline, (0, 2))
    means = np.mean([one.positive.moments().mean for one in found], 0)
    expected = baseline.moments().mean - means
    assert np.allclose(axis.directions[2], expected[1], atol=1e-5)
    assert np.array_equal(
        baseline_vector(baseline, chosen, backend.info.identity).directions[0],
        baseline.moments().mean[0].astype(np.float32),
    )
    with pytest.raises(UsageError, match="needs 2 personas"):
        assistant_axis([found[0].vector], baseline, (0, 2))


def test_the_safety_axis_points_to_safe_and_its_floors_are_percentiles_of_safe_answers(
    backend: TransformersBackend, tmp_path: Path
) -> None:
    axis = safety_axis(backend, QUESTIONS, ("Do bad.", "Do evil.", "Do harm."), settings(), run=Run(tmp_path, {}))
    safe = extract_safe(backend, tmp_path)
    projected = projections(axis, safe, (0, 2))
    unit = normalize(axis.directions[2].astype(np.float64))
    by_hand = [float(np.dot(one.mean[1].astype(np.float64), unit)) for one in safe.answers if one.mean is not None]
    assert np.allclose(projected[:, 1], by_hand, atol=1e-5)
    assert axis.metadata.thresholds["25"][2] == pytest.approx(np.percentile(by_hand, 25), abs=1e-4)
    assert axis.metadata.thresholds["1"][2] <= axis.metadata.thresholds["75"][2]


def extract_safe(backend: TransformersBackend, folder: Path):  # type: ignore[no-untyped-def]
    from persona_steering.extraction.contrast import answer

    asked = [Prompted(question, None) for question in QUESTIONS]
    return answer(backend, asked, settings(), run=Run(folder, {}), phase="safe")
