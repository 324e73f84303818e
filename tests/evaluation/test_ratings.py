"""Ratings: two judgements of every answer, by rubrics or by likelihood, whose numbers are computed here again."""

from __future__ import annotations

import math

import pytest
from tests.backends.tiny import tiny_backend

from persona_steering.backends.base import Progress, Text, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import CancelledError, UsageError
from persona_steering.evaluation.ratings import LikelihoodRater, RubricRater, Spoken
from persona_steering.personas import load_library_trait, trait_from_word
from persona_steering.scoring.judges import COHERENCE, JudgeItem, LocalJudge

POS, NEG = "You are a curt assistant. Be curt.", "You are a helpful assistant. Be long."


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return tiny_backend("llama", tmp_path_factory.mktemp("models"), max_position_embeddings=4096)


def spoken(*answers: str) -> list[Spoken]:
    return [Spoken("Is it far?", answer, POS, NEG) for answer in answers]


OWN = spoken("Not at all.", "It is.", "A long way from here.", "Yes, far.")


def test_the_trait_score_is_the_odds_of_the_positive_instruction(backend: TransformersBackend) -> None:
    rater = LikelihoodRater(backend, OWN)
    for one, rating in zip(OWN, rater.rate(OWN), strict=True):
        totals = [
            float(backend.score([Text(conversation(one.question, system), one.answer)])[0].logprobs.sum())
            for system in (POS, NEG)
        ]
        assert rating.trait.score == pytest.approx(100 / (1 + math.exp(totals[1] - totals[0])), rel=1e-3)
        assert rating.trait.method == "likelihood" and rating.trait.judge == f"likelihood:{backend.info.id}"


def test_coherence_is_high_for_own_answers_and_low_for_others(embedded_backend: TransformersBackend) -> None:
    own = spoken("Yes, it is quite far from here.", "No, it is very close to the city.", "I am not sure how far it is.")
    rater = LikelihoodRater(embedded_backend, own)
    clear, garbage = rater.rate(spoken("It is not far from here.", "purple if seven the the under of blue of"))
    assert clear.coherence.score is not None and garbage.coherence.score is not None
    assert clear.coherence.score > 50 > garbage.coherence.score


def test_an_empty_answer_has_no_trait_and_no_coherence(backend: TransformersBackend) -> None:
    _, empty = LikelihoodRater(backend, OWN).rate(spoken("Yes.", " \n"))
    assert (empty.trait.outcome, empty.trait.reason) == ("failed", "the answer is empty")
    assert empty.coherence.score == 0


def test_a_model_that_only_gives_empty_answers_defines_no_scale(backend: TransformersBackend) -> None:
    with pytest.raises(UsageError, match="own answers are empty"):
        LikelihoodRater(backend, spoken("", " "))


def test_the_rubrics_are_the_traits_own_and_the_shipped_one(backend: TransformersBackend) -> None:
    trait = load_library_trait("evil")
    told: list[Progress] = []
    (rating,) = RubricRater(LocalJudge(backend, min_mass=1e-9), trait).rate(spoken("No {x}."), progress=told.append)
    by_hand = LocalJudge(backend, min_mass=1e-9)
    expected = by_hand.judge([JudgeItem(text, "Is it far?", "No {x}.") for text in (trait.eval_prompt, COHERENCE)])
    assert [rating.trait.score, rating.coherence.score] == pytest.approx([one.score for one in expected], rel=1e-4)
    assert [(one.done, one.total) for one in told] == [(0, 2), (1, 2), (2, 2)]


def test_a_trait_without_a_rubric_has_no_judge(backend: TransformersBackend) -> None:
    with pytest.raises(UsageError, match="has no rubric"):
        RubricRater(LocalJudge(backend), trait_from_word("curt"))


def test_rating_can_be_stopped(backend: TransformersBackend) -> None:
    with pytest.raises(CancelledError):
        LikelihoodRater(backend, OWN).rate(OWN, cancelled=lambda: True)
