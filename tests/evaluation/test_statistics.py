"""The statistics, each against an oracle: a definition written out, a known distribution, or a hand count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_steering.errors import UsageError
from persona_steering.evaluation.statistics import (
    anti_steered,
    auroc,
    bootstrap_cosines,
    d_prime,
    pairwise_agreement,
    permuted_sides,
    separation,
    spearman_brown,
    split_half_cosines,
    without_covariate,
    z_score,
)

numbers = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=12)


@given(numbers, numbers)
def test_auroc_is_the_share_of_pairs_that_are_in_order(positive: list[float], negative: list[float]) -> None:
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    assert auroc(positive, negative) == pytest.approx(sum(pairs) / len(pairs))
    assert auroc(negative, positive) == pytest.approx(1 - auroc(positive, negative))


def test_auroc_of_two_normal_distributions_is_that_of_theory() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1.5, 1, 4000), rng.normal(0, 1, 4000)
    theory = 0.5 * (1 + math.erf(1.5 / 2))  # the normal CDF of d' / sqrt 2
    assert auroc(positive, negative) == pytest.approx(theory, abs=0.01)
    assert d_prime(positive, negative) == pytest.approx(1.5, abs=0.05)


def test_d_prime_divides_by_the_mean_of_the_unbiased_variances() -> None:
    assert d_prime([3, 5], [0, 2]) == pytest.approx(3 / math.sqrt(2))
    assert math.isnan(d_prime([1, 1], [0, 0]))
    assert d_prime([0, 2], [3, 5]) == -d_prime([3, 5], [0, 2])


def test_intervals_draw_questions_so_repeated_rows_do_not_narrow_them() -> None:
    rng = np.random.default_rng(1)
    positive, negative = rng.normal(1, 1, 20), rng.normal(0, 1, 20)
    questions = list(range(20))
    once = separation(positive, negative, questions, questions)
    rows = [np.repeat(side, 5) for side in (positive, negative)]
    often = separation(*rows, *([q for q in questions for _ in range(5)] for _ in rows))
    pretended = separation(*rows, *(list(range(100)) for _ in rows))
    width = {name: s.auroc.high - s.auroc.low for name, s in (("1", once), ("5", often), ("n", pretended))}
    assert width["5"] == pytest.approx(width["1"], rel=1e-6)
    assert width["n"] < 0.7 * width["1"]
    assert once.auroc.low <= once.auroc.mean == auroc(positive, negative) <= once.auroc.high


def test_an_interval_holds_the_true_value_about_as_often_as_it_says() -> None:
    truth, held = 0.5 * (1 + math.erf(1 / 2)), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sides = rng.normal(1, 1, 30), rng.normal(0, 1, 30)
        found = separation(*sides, range(30), range(30), seed=seed, resamples=300).auroc
        held += found.low <= truth <= found.high
    assert 50 <= held <= 60


def test_values_without_spread_have_no_d_prime() -> None:
    found = separation([1, 1, 1], [0, 0, 0], [0, 1, 2], [0, 1, 2])
    assert found.d_prime is None and found.auroc.low == found.auroc.high == 1


def test_a_separation_that_is_only_one_of_length_goes_once_length_is_removed() -> None:
    rng = np.random.default_rng(2)
    long, short = rng.normal(60, 10, 300), rng.normal(40, 10, 300)
    by_length = long * 0.1 + rng.normal(0, 0.3, 300), short * 0.1 + rng.normal(0, 0.3, 300)
    assert auroc(*by_length) > 0.85
    assert auroc(*without_covariate(*by_length, long, short)) == pytest.approx(0.5, abs=0.06)


def test_a_true_separation_stays_although_the_length_differs_too() -> None:
    rng = np.random.default_rng(3)
    long, short = rng.normal(60, 5, 300), rng.normal(40, 5, 300)
    true = rng.normal(2, 1, 300), rng.normal(0, 1, 300)
    assert auroc(*without_covariate(*true, long, short)) == pytest.approx(auroc(*true), abs=0.05)
    same = np.full(300, 50.0)
    assert auroc(*without_covariate(*true, same, same)) == auroc(*true)


def test_spearman_brown_is_the_reliability_of_the_doubled_test() -> None:
    assert spearman_brown(0.5) == pytest.approx(2 / 3)
    assert spearman_brown(1.0) == 1.0 and spearman_brown(0.0) == 0.0
    assert spearman_brown(0.3, 5) == pytest.approx(1.5 / 2.2)
    with pytest.raises(UsageError, match="reliability"):
        spearman_brown(-1.0)


def test_z_counts_standard_deviations_of_the_null() -> None:
    assert z_score(5, [1, 3]) == pytest.approx(3 / math.sqrt(2))
    assert z_score(5, [1]) is None and z_score(5, [2, 2]) is None


def test_anti_steered_counts_what_moved_the_wrong_way() -> None:
    assert anti_steered([1, -0.1, 0, 2]) == 0.25
    with pytest.raises(UsageError):
        anti_steered([])


@given(st.integers(2, 8), st.integers(0, 1000))
def test_agreement_is_the_mean_cosine_of_all_pairs(count: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(count, 5))
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = [float(units[i] @ units[j]) for i in range(count) for j in range(i)]
    assert pairwise_agreement(rows) == pytest.approx(np.mean(cosines))


def test_agreement_of_one_difference_is_refused() -> None:
    with pytest.raises(UsageError, match="two questions"):
        pairwise_agreement(np.ones((1, 3)))


def sides(signal: float, *, questions: int = 40, hidden: int = 50) -> tuple[np.ndarray, np.ndarray, list[int]]:
    rng = np.random.default_rng(4)
    direction = np.full(hidden, signal / math.sqrt(hidden))
    return rng.normal(size=(questions, hidden)) + direction, rng.normal(size=(questions, hidden)), [*range(questions)]


def test_a_strong_vector_is_stable_and_one_of_noise_is_not() -> None:
    plus, minus, questions = sides(20)
    strong = split_half_cosines(plus, minus, questions, questions)
    assert strong.shape == (100,) and strong.min() > 0.9
    assert bootstrap_cosines(plus, minus, questions, questions).min() > 0.95
    plus, minus, questions = sides(0)
    noise = split_half_cosines(plus, minus, questions, questions)
    assert abs(noise.mean()) < 0.15


def test_the_bootstrap_of_a_vector_is_the_difference_of_the_drawn_means() -> None:
    plus, minus, questions = sides(2, questions=6, hidden=4)
    (found,) = bootstrap_cosines(plus, minus, questions, questions, resamples=1, seed=5)
    drawn = np.random.default_rng(5).multinomial(6, [1 / 6] * 6, size=1)[0]
    rows = np.repeat(np.arange(6), drawn)
    a, b = plus[rows].mean(0) - minus[rows].mean(0), plus.mean(0) - minus.mean(0)
    assert found == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_halves_are_halves_of_questions_and_never_share_one() -> None:
    # each question has a direction of its own, so halves that share none are orthogonal
    plus, minus = np.repeat(np.eye(8), 3, 0), np.zeros((24, 8))
    questions = [q for q in range(8) for _ in range(3)]
    assert split_half_cosines(plus, minus, questions, questions) == pytest.approx(np.zeros(100))
    with pytest.raises(UsageError, match="four questions"):
        split_half_cosines(plus[:6], minus[:6], questions[:6], questions[:6])


def test_shuffled_labels_keep_the_counts_of_every_question() -> None:
    positive, negative = ["a", "a", "b", "c"], ["a", "b", "b"]
    rows = np.array([*positive, *negative])
    seen = set()
    for seed in range(30):
        labels = permuted_sides(positive, negative, seed=seed)
        seen.add(tuple(labels))
        assert {q: int(labels[rows == q].sum()) for q in "abc"} == {"a": 2, "b": 1, "c": 1}
    assert len(seen) == 9, "3 ways for a, 3 for b, 1 for c"


@pytest.mark.parametrize(("positive", "negative"), [([], [1.0]), ([1.0], [])])
def test_an_empty_side_is_refused(positive: list[float], negative: list[float]) -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        auroc(positive, negative)


def test_one_question_has_no_interval() -> None:
    with pytest.raises(UsageError, match="two questions"):
        separation([1, 2], [3, 4], [0, 0], [0, 0])
