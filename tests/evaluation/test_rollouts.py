"""What is asked to see a trait: order, ids, system prompts, sampling and seeds, as published."""

from __future__ import annotations

import pytest

from persona_steering.errors import UsageError
from persona_steering.evaluation.rollouts import RolloutSettings, plan_rollouts, request_for
from persona_steering.interventions import Recipe
from persona_steering.personas import InstructionPair, Trait, load_library_trait, trait_from_word

TRAIT = Trait(
    name="angry-ish",
    pairs=(InstructionPair(pos="Be angry.", neg="Be calm."), InstructionPair(pos="Shout.", neg="Whisper.")),
    questions=("Is it far?", "Who is it?", "Why?"),
    evaluation_questions=("Where to?",),
)


def test_questions_are_the_outer_loop_then_instructions_then_repetitions() -> None:
    found = plan_rollouts(TRAIT, RolloutSettings(split="extract", side="pos", n_per_question=2))
    assert [one.question_id for one in found[:5]] == [
        *("angry-ish_0_pos_0", "angry-ish_0_pos_0", "angry-ish_0_pos_1", "angry-ish_0_pos_1", "angry-ish_1_pos_0")
    ]
    assert len(found) == 3 * 2 * 2
    assert {one.system for one in found} == {
        "You are an angry ish assistant. Be angry.",
        "You are an angry ish assistant. Shout.",
    }


def test_the_published_scale_is_1000_answers_a_side_and_200_to_evaluate() -> None:
    evil = load_library_trait("evil")
    assert len(plan_rollouts(evil, RolloutSettings(split="extract", side="neg"))) == 1000
    assert len(plan_rollouts(evil, RolloutSettings(split="eval"))) == 200


@pytest.mark.parametrize(
    ("side", "name", "prompt"),
    [
        ("neg", None, "You are a helpful assistant. Be calm."),
        ("neg", "even-tempered", "You are an even-tempered assistant. Be calm."),
        ("pos", "Furious", "You are a Furious assistant. Be angry."),
    ],
)
def test_the_assistant_has_a_name_with_its_article(side: str, name: str | None, prompt: str) -> None:
    settings = RolloutSettings(split="extract", side=side, assistant_name=name)  # type: ignore[arg-type]
    assert plan_rollouts(TRAIT, settings)[0].system == prompt


def test_without_an_instruction_there_is_no_system_prompt_and_a_short_id() -> None:
    found = plan_rollouts(TRAIT, RolloutSettings(split="extract", n_per_question=1))
    assert [(one.question_id, one.system, one.pair) for one in found] == [
        *(("angry-ish_0", None, 0), ("angry-ish_1", None, 1), ("angry-ish_2", None, 0))
    ]


def test_a_seed_depends_on_the_place_alone() -> None:
    few, many = (
        plan_rollouts(TRAIT, RolloutSettings(split="extract", n_per_question=n, questions=q))
        for n, q in ((2, 1), (3, 3))
    )
    assert [one.seed for one in few] == [one.seed for one in many[:2]]
    assert len({one.seed for one in many}) == len(many)


def test_a_single_rollout_is_greedy_and_many_are_at_temperature_1() -> None:
    for n, temperature in ((1, 0), (2, 1)):
        settings = RolloutSettings(split="eval", n_per_question=n)
        request = request_for(plan_rollouts(TRAIT, settings)[0], Recipe(), settings)
        assert (request.sampling.temperature, request.sampling.top_p) == (temperature, 1)
        assert request.sampling.max_new_tokens == 1000
    assert RolloutSettings(split="eval", n_per_question=1, temperature=0.5).chosen_temperature == 0.5


@pytest.mark.parametrize(
    ("trait", "settings", "message"),
    [
        (trait_from_word("curt"), {"split": "eval"}, "has no questions for the split 'eval'"),
        (TRAIT, {"split": "eval", "questions": 2}, "has 1"),
        (TRAIT, {"split": "eval", "assistant_name": "x"}, "without an instruction"),
        (TRAIT, {"split": "eval", "assistant_name": " ", "side": "pos"}, "name is empty"),
    ],
)
def test_what_cannot_be_asked_is_refused(trait: Trait, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_rollouts(trait, RolloutSettings.model_validate(settings))
