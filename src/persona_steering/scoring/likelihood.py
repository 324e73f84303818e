"""Likelihood scores: how much an answer sounds like the persona, judged by the unsteered model itself.

    gain           mean over an answer's tokens of log p(token | persona prompt, question) - log p(token | question)
    persona score  (gain(steered) - gain(base)) / (gain(prompted) - gain(base))

0 is the base model, 1 is as in-character as the system prompt makes it; it may pass 1. Where the prompted answers
are not clearly above the base ones, the model does not take this persona from a prompt: the score is None and the
raw gain stands alone. Offline, deterministic, no judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from persona_steering.backends.base import Backend, Text, conversation
from persona_steering.vectors.values import Interval

MIN_PROMPTED_GAIN = 0.1  # nats per token; the lower bound of the prompted effect must pass it to be divided by
RESAMPLES = 2000
DRAWS_AT_ONCE = 1_000_000


@dataclass(frozen=True, slots=True)
class Probe:
    """A question, and the system prompt that evokes the persona when it is asked."""

    question: str
    system_prompt: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a probe with its mean log-probability per token, without and with the persona prompt."""

    probe: Probe
    text: str
    base_logprob: float
    prompted_logprob: float
    tokens: int

    @property
    def gain(self) -> float:
        """Nats per token by which the persona prompt makes the answer likelier."""
        return self.prompted_logprob - self.base_logprob

    @property
    def natural_logprob(self) -> float:
        """Mean log-probability under the condition that explains the answer best."""
        return max(self.base_logprob, self.prompted_logprob)


def make_probes(questions: Sequence[str], system_prompts: Sequence[str]) -> list[Probe]:
    """One probe a question; the system prompts take turns."""
    return [Probe(question, system_prompts[i % len(system_prompts)]) for i, question in enumerate(questions)]


def score_answers(backend: Backend, answers: Sequence[tuple[Probe, str]]) -> list[Answer | None]:
    """Scores answers by the unsteered model, in order; None where an answer is empty (it says nothing)."""
    spoken = [i for i, (_, text) in enumerate(answers) if text.strip()]
    base = backend.score([Text(conversation(answers[i][0].question), answers[i][1]) for i in spoken])
    prompted = backend.score(
        [Text(conversation(answers[i][0].question, answers[i][0].system_prompt), answers[i][1]) for i in spoken]
    )
    scored: list[Answer | None] = [None] * len(answers)
    for i, plain, evoked in zip(spoken, base, prompted, strict=True):
        scored[i] = Answer(*answers[i], plain.mean, evoked.mean, len(plain.token_ids))
    return scored


def mean_interval(values: Sequence[float], *, seed: int = 0) -> Interval:
    """The mean of one value a question, with a 95 % bootstrap interval over questions."""
    array = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    size = max(1, DRAWS_AT_ONCE // len(array))  # resamples at a time: many values need not be drawn all at once
    blocks = [(min(size, RESAMPLES - done), len(array)) for done in range(0, RESAMPLES, size)]
    means = np.concatenate([array[rng.integers(0, len(array), block)].mean(1) for block in blocks])
    return _interval(float(array.mean()), means)


def persona_score(
    steered: Sequence[float], base: Sequence[float], prompted: Sequence[float], *, seed: int = 0
) -> Interval | None:
    """The persona score of gains paired by question, with a 95 % bootstrap interval over questions.

    None when the prompted effect is not clearly above zero: its lower 95 % bound must pass MIN_PROMPTED_GAIN.
    Several rounds (say, of control directions) may stand one after the other: `steered` is then a multiple.
    """
    if prompted_effect(base, prompted, seed=seed).low < MIN_PROMPTED_GAIN:
        return None
    rounds = np.asarray(steered, np.float64).reshape(-1, len(base)).mean(0)  # [questions]
    plain, evoked = np.asarray(base, np.float64), np.asarray(prompted, np.float64)
    effect, reference = rounds - plain, evoked - plain
    chosen = _resample(len(plain), seed)
    # A resample whose reference is almost nothing would explode; it counts as the smallest effect accepted.
    ratios = effect[chosen].mean(1) / np.maximum(reference[chosen].mean(1), MIN_PROMPTED_GAIN)
    return _interval(float(effect.mean() / reference.mean()), ratios)


def prompted_effect(base: Sequence[float], prompted: Sequence[float], *, seed: int = 0) -> Interval:
    """What the system prompt itself gains over the base, in nats per token."""
    return mean_interval([p - b for p, b in zip(prompted, base, strict=True)], seed=seed)


def _resample(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))


def _interval(mean: float, draws: np.ndarray) -> Interval:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(mean=mean, low=min(float(low), mean), high=max(float(high), mean))
