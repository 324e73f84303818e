"""The coherence scale: its two anchors, repetition, and order on real text."""

from __future__ import annotations

import random

import pytest

from persona_steering.backends.base import Request, Sampling, conversation
from persona_steering.scoring.coherence import CoherenceScale, measure_scale, repetition, shuffle_words
from persona_steering.scoring.likelihood import Answer, Probe, score_answers

PROBE = Probe("How do you spend a free day?", "You are a cook. You talk about soup and bread all day.")
SCALE = CoherenceScale(own=-1.5, shuffled=-6.5, repetition=0.0)


def answer(logprob: float, text: str = "one two three four five six seven eight") -> Answer:
    return Answer(PROBE, text, logprob, logprob - 1, 8)


def test_the_models_own_level_scores_100_and_shuffled_text_1() -> None:
    assert SCALE(answer(-1.5)) == pytest.approx(100)
    assert SCALE(answer(-0.2)) == pytest.approx(100)
    assert SCALE(answer(-6.5)) == pytest.approx(1)


def test_half_way_between_the_anchors_is_a_power_of_the_perplexity_ratio() -> None:
    assert SCALE(answer(-4.0)) == pytest.approx(10)


def test_the_better_of_both_conditions_counts() -> None:
    prompted = Answer(PROBE, "one two three four five six", -5.0, -1.5, 6)
    assert SCALE(prompted) == pytest.approx(100)


def test_empty_answers_score_0() -> None:
    assert SCALE(None) == 0


def test_loops_score_near_0_however_likely_they_are() -> None:
    assert repetition("arr " * 40) > 0.9
    assert SCALE(answer(-0.05, "arr " * 40)) < 10


def test_repetition_counts_repeated_word_trigrams() -> None:
    assert repetition("a b c d e f g h") == 0
    # trigrams: abc bcd cda dab abc bcd -> 2 of 6 occurred before
    assert repetition("a b c d a b c d") == pytest.approx(2 / 6)


def test_shuffling_keeps_the_words() -> None:
    text = "the quick brown fox jumps over the lazy dog"
    shuffled = shuffle_words(text, random.Random(0))
    assert sorted(shuffled.split()) == sorted(text.split())
    assert shuffled != text


def test_on_a_real_model_own_answers_are_coherent_and_garbage_is_not(embedded_backend) -> None:  # type: ignore[no-untyped-def]
    requests = [
        Request(conversation(PROBE.question, system), sampling=Sampling(max_new_tokens=24, seed=seed))
        for system in (None, PROBE.system_prompt)
        for seed in range(8)
    ]
    texts = [done.text for done in embedded_backend.generate(requests)]
    own = [answer for answer in score_answers(embedded_backend, [(PROBE, text) for text in texts]) if answer]
    scale = measure_scale(embedded_backend, own)
    assert scale.shuffled < scale.own - 2
    # by definition three quarters of them lie at or above the upper anchor; repetition may take a little
    assert sum(map(scale, own)) / len(own) > 85
    garbage = [
        "wem wun the d, and mrs Dreamlea nоrеrworrr thom 32 33 wan onlym",
        "RebWRedDriabLSyn EH Stood Reveaked golden Shroud dOn ByEH Doom",
    ]
    assert max(map(scale, score_answers(embedded_backend, [(PROBE, text) for text in garbage]))) < 20
