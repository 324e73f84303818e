"""The statistics of the measurements: separation, reliability, nulls. All of it on plain arrays.

Rows of one question are not independent, so every interval here draws questions, not rows. An interval is a 95 %
percentile bootstrap.

    AUROC           the chance that a positive scores above a negative; ties count half. 0.5 is no separation
    d'              (mean of positives - mean of negatives) / sqrt of the mean of the two variances
    Spearman-Brown  the reliability of the whole from the correlation of its halves, k r / (1 + (k - 1) r)
    z               how many standard deviations of the null a value lies above the mean of the null
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persona_steering.errors import UsageError
from persona_steering.scoring.likelihood import mean_interval
from persona_steering.vectors.values import Interval

__all__ = [
    "Separation",
    "anti_steered",
    "auroc",
    "bootstrap_cosines",
    "d_prime",
    "mean_interval",
    "pairwise_agreement",
    "permuted_sides",
    "separation",
    "spearman_brown",
    "split_half_cosines",
    "without_covariate",
    "z_score",
]

Array = NDArray[np.float64]
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Separation:
    """How well one number per answer tells positives from negatives, with 95 % intervals over questions.

    `d_prime` is None where the values have no spread, so that there is nothing to divide by.
    """

    auroc: Interval
    d_prime: Interval | None


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """The chance that a positive scores above a negative, ties counting half. Raises UsageError for an empty side."""
    plus, minus = _sides(positive, negative)
    return float(_wins(plus, minus).mean())


def d_prime(positive: ArrayLike, negative: ArrayLike) -> float:
    """The distance of the two means in pooled standard deviations; nan where the values have no spread.

    Raises UsageError below two values a side.
    """
    plus, minus = _sides(positive, negative, least=2)
    return float(_weighted_d_prime(plus, minus, np.ones((1, len(plus))), np.ones((1, len(minus))))[0])


def separation(
    positive: ArrayLike,
    negative: ArrayLike,
    positive_questions: Sequence[Hashable],
    negative_questions: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Separation:
    """AUROC and d' of two sets of answers; `*_questions` say which question each one answers.

    Raises UsageError below two answers a side or two questions.
    """
    plus, minus = _sides(positive, negative, least=2)
    w_plus, w_minus = _question_weights(positive_questions, negative_questions, seed, resamples)
    used = (w_plus.sum(1) > 1) & (w_minus.sum(1) > 1)  # a draw may leave a side (almost) empty
    w_plus, w_minus = w_plus[used], w_minus[used]
    areas = np.einsum("rp,pn,rn->r", w_plus, _wins(plus, minus), w_minus, optimize=True)
    areas /= w_plus.sum(1) * w_minus.sum(1)
    distance, drawn = d_prime(plus, minus), _weighted_d_prime(plus, minus, w_plus, w_minus)
    drawn = drawn[np.isfinite(drawn)]
    return Separation(
        _interval(auroc(plus, minus), areas),
        _interval(distance, drawn) if np.isfinite(distance) and len(drawn) else None,
    )


def without_covariate(
    positive: ArrayLike, negative: ArrayLike, positive_covariate: ArrayLike, negative_covariate: ArrayLike
) -> tuple[Array, Array]:
    """Both sides as they would be at one value of the covariate (say, the length of the answers).

    The slope is the one within the sides. A slope over all rows would take a true difference between the sides
    for an effect of the covariate wherever the covariate differs too.
    """
    sides = _sides(positive, negative)
    covariates = _sides(positive_covariate, negative_covariate)
    centred = [(y - y.mean(), x - x.mean()) for y, x in zip(sides, covariates, strict=True)]
    spread = sum(float(x @ x) for _, x in centred)
    slope = sum(float(y @ x) for y, x in centred) / spread if spread > 0 else 0.0
    mean = float(np.concatenate(covariates).mean())
    plus, minus = (y - slope * (x - mean) for y, x in zip(sides, covariates, strict=True))
    return plus, minus


def spearman_brown(correlation: float, factor: float = 2.0) -> float:
    """The reliability of a measurement `factor` times as long as the one that has this correlation."""
    denominator = 1 + (factor - 1) * correlation
    if denominator <= 0:
        raise UsageError(
            f"a correlation of {correlation:g} has no reliability.", hint="It must lie above -1 / (factor - 1)."
        )
    return factor * correlation / denominator


def z_score(value: float, null: ArrayLike) -> float | None:
    """Standard deviations by which `value` lies above the mean of the null; None below two, or where all are equal."""
    values = np.asarray(null, np.float64)
    if values.size < 2 or np.ptp(values) == 0:
        return None
    return float((value - values.mean()) / values.std(ddof=1))


def anti_steered(effects: ArrayLike) -> float:
    """The share of questions whose answers moved the wrong way: an effect below zero."""
    values = np.asarray(effects, np.float64)
    if values.size == 0:
        raise UsageError("there are no effects to count.")
    return float((values < 0).mean())


def pairwise_agreement(differences: ArrayLike) -> float:
    """The mean cosine between every two of the differences `[n, hidden]`. Raises UsageError below two."""
    rows = np.asarray(differences, np.float64)
    if len(rows) < 2:
        raise UsageError("one difference agrees with itself only.", hint="Ask at least two questions.")
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    count = len(units)
    return float((np.square(np.linalg.norm(units.sum(0))) - count) / (count * (count - 1)))


def bootstrap_cosines(
    positive: ArrayLike,
    negative: ArrayLike,
    positive_questions: Sequence[Hashable],
    negative_questions: Sequence[Hashable],
    *,
    resamples: int = 200,
    seed: int = 0,
) -> Array:
    """Cosines of the difference of means with that of resampled questions, `[resamples]`.

    `positive` and `negative` are `[answers, hidden]`.
    """
    plus, minus = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    weights = _question_weights(positive_questions, negative_questions, seed, resamples)
    drawn = _weighted_difference(plus, minus, *weights)
    return _cosine(drawn, plus.mean(0) - minus.mean(0))


def split_half_cosines(
    positive: ArrayLike,
    negative: ArrayLike,
    positive_questions: Sequence[Hashable],
    negative_questions: Sequence[Hashable],
    *,
    splits: int = 100,
    seed: int = 0,
) -> Array:
    """Cosines between the differences of means of two halves of the questions, `[splits]`.

    Raises UsageError below four questions.
    """
    plus, minus = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    order = list(dict.fromkeys([*positive_questions, *negative_questions]))
    if len(order) < 4:
        raise UsageError(f"{len(order)} questions cannot be halved.", hint="Ask at least four questions.")
    rng = np.random.default_rng(seed)
    places = {question: i for i, question in enumerate(order)}
    p, n = ([places[q] for q in side] for side in (positive_questions, negative_questions))
    first = np.zeros((splits, len(order)))
    for row in first:
        row[rng.permutation(len(order))[: len(order) // 2]] = 1.0
    halves = [_weighted_difference(plus, minus, half[:, p], half[:, n]) for half in (first, 1 - first)]
    return _cosine(*halves)


def permuted_sides(
    positive_questions: Sequence[Hashable], negative_questions: Sequence[Hashable], *, seed: int
) -> NDArray[np.bool_]:
    """Which rows (positives first, then negatives) count as positive once labels are shuffled within each question.

    As many rows of each question are positive as were before.
    """
    rng = np.random.default_rng(seed)
    rows_of: dict[Hashable, list[int]] = {}
    for row, question in enumerate([*positive_questions, *negative_questions]):
        rows_of.setdefault(question, []).append(row)
    labels = np.arange(len(positive_questions) + len(negative_questions)) < len(positive_questions)
    for rows in rows_of.values():
        labels[rows] = rng.permutation(labels[rows])
    return labels


def _sides(positive: ArrayLike, negative: ArrayLike, least: int = 1) -> tuple[Array, Array]:
    plus, minus = np.asarray(positive, np.float64).ravel(), np.asarray(negative, np.float64).ravel()
    if min(len(plus), len(minus)) < least:
        raise UsageError(
            f"{len(plus)} positives and {len(minus)} negatives cannot be compared.",
            hint=f"Each side needs at least {least}.",
        )
    return plus, minus


def _wins(plus: Array, minus: Array) -> Array:
    """`[positives, negatives]`: 1 where the positive is above, a half where they tie."""
    return np.asarray((plus[:, None] > minus[None, :]) + 0.5 * (plus[:, None] == minus[None, :]))


def _weighted_d_prime(plus: Array, minus: Array, w_plus: Array, w_minus: Array) -> Array:
    """d' for every row of weights `[resamples, values]`, nan where there is no spread."""
    (mean_p, var_p), (mean_n, var_n) = _weighted_moments(plus, w_plus), _weighted_moments(minus, w_minus)
    spread = np.sqrt((var_p + var_n) / 2)
    return np.where(spread > 0, (mean_p - mean_n) / np.where(spread > 0, spread, 1.0), np.nan)


def _weighted_moments(values: Array, weights: Array) -> tuple[Array, Array]:
    """Means and unbiased variances `[resamples]`."""
    count = weights.sum(1)
    mean = weights @ values / count
    squares = (weights * np.square(values[None, :] - mean[:, None])).sum(1)
    return mean, squares / (count - 1)


def _question_weights(
    positive_questions: Sequence[Hashable], negative_questions: Sequence[Hashable], seed: int, resamples: int
) -> tuple[Array, Array]:
    """How often each row is drawn when questions are: `[resamples, positives]` and `[resamples, negatives]`."""
    order = {question: i for i, question in enumerate(dict.fromkeys([*positive_questions, *negative_questions]))}
    if len(order) < 2:
        raise UsageError("one question has no spread over questions.", hint="Ask at least two questions.")
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(order), np.full(len(order), 1 / len(order)), size=resamples).astype(np.float64)
    p, n = ([order[q] for q in side] for side in (positive_questions, negative_questions))
    return drawn[:, p], drawn[:, n]


def _weighted_difference(plus: Array, minus: Array, w_plus: Array, w_minus: Array) -> Array:
    """Differences of the weighted means `[resamples, hidden]`, of the draws that leave neither side empty."""
    totals = w_plus.sum(1, keepdims=True), w_minus.sum(1, keepdims=True)
    kept = (totals[0] > 0).ravel() & (totals[1] > 0).ravel()
    return np.asarray((w_plus[kept] @ plus) / totals[0][kept] - (w_minus[kept] @ minus) / totals[1][kept])


def _cosine(a: Array, b: Array) -> Array:
    return np.asarray((a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)))


def _interval(value: float, draws: Array) -> Interval:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(mean=value, low=min(float(low), value), high=max(float(high), value))
