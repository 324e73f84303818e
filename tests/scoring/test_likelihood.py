"""Gains, persona scores and their intervals, on numbers worked out by hand and on a real model."""

from __future__ import annotations

import numpy as np
import pytest

from persona_steering.scoring.likelihood import (
    Probe,
    make_probes,
    mean_interval,
    persona_score,
    prompted_effect,
    score_answers,
)


def test_score_is_zero_for_the_base_answers_and_one_for_the_prompted_ones() -> None:
    base, prompted = [-0.4, -0.3, -0.5, -0.2], [0.5, 0.6, 0.4, 0.7]
    zero, one = persona_score(base, base, prompted), persona_score(prompted, base, prompted)
    assert zero is not None
    assert zero.mean == pytest.approx(0)
    assert one is not None
    assert one.mean == pytest.approx(1)
    assert one.low == pytest.approx(1)
    assert one.high == pytest.approx(1)


def test_score_is_the_ratio_of_mean_effects_and_may_pass_one() -> None:
    base, prompted, steered = [0.0, 0.0], [1.0, 3.0], [2.0, 4.0]
    score = persona_score(steered, base, prompted)
    assert score is not None
    assert score.mean == pytest.approx(6 / 4)


def test_several_rounds_of_controls_are_averaged_per_question() -> None:
    base, prompted = [0.0, 0.0], [1.0, 1.0]
    score = persona_score([0.2, 0.4, 0.6, 0.8], base, prompted)
    assert score is not None
    assert score.mean == pytest.approx(0.5)


def test_no_score_where_the_model_does_not_follow_the_prompt() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 1, 12)
    assert persona_score(base + 5, base, base + 0.02) is None


def test_no_score_where_the_prompted_effect_may_be_noise() -> None:
    base = [0.0] * 6
    assert persona_score([1.0] * 6, base, [2.0, -2.0, 2.0, -1.5, 1.0, -1.0]) is None


def test_interval_covers_the_mean_and_shrinks_with_more_questions() -> None:
    rng = np.random.default_rng(1)
    few, many = mean_interval(rng.normal(0, 1, 8).tolist()), mean_interval(rng.normal(0, 1, 400).tolist())
    assert few.low <= few.mean <= few.high
    assert many.high - many.low < few.high - few.low


def test_interval_of_a_normal_sample_is_close_to_the_textbook_one() -> None:
    values = np.random.default_rng(2).normal(3, 2, 300)
    found = mean_interval(values.tolist())
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert found.low == pytest.approx(values.mean() - half, abs=0.05)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05)


def test_prompted_effect_is_paired_by_question() -> None:
    effect = prompted_effect([1.0, 5.0, 9.0], [1.5, 5.5, 9.5])
    assert (effect.mean, effect.low, effect.high) == pytest.approx((0.5, 0.5, 0.5))


def test_system_prompts_take_turns_over_the_questions() -> None:
    assert make_probes(["a", "b", "c"], ["x", "y"]) == [Probe("a", "x"), Probe("b", "y"), Probe("c", "x")]


def test_a_real_model_finds_its_prompted_answer_likelier_under_the_prompt(embedded_backend) -> None:  # type: ignore[no-untyped-def]
    probe = Probe("How are you today?", "You are a pirate. You always say 'Arr, matey' and talk about rum.")
    pirate, plain, empty = score_answers(
        embedded_backend,
        [(probe, "Arr, matey! I have rum and a ship."), (probe, "I am fine, thank you for asking."), (probe, " \n")],
    )
    assert empty is None
    assert pirate is not None
    assert plain is not None
    assert pirate.gain > 0.5 > plain.gain
    assert pirate.natural_logprob == max(pirate.base_logprob, pirate.prompted_logprob)


def test_the_interval_of_more_values_than_are_drawn_at_once_is_that_of_a_normal_mean() -> None:
    values = np.random.default_rng(0).normal(3, 2, 3000)
    found = mean_interval(values.tolist())
    half = 1.96 * 2 / np.sqrt(3000)
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    assert mean_interval(values.tolist()) == found
