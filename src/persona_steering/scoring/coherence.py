"""Coherence 0-100: how plausible an answer is under at least one natural condition, and whether it repeats itself.

Two anchors are measured on the model's own unsteered answers, plain and prompted:

    100   a mean log-probability at or above the lower quartile of its own answers
      1   the median of the same answers with their words shuffled

Between and below them the scale is exponential in the mean log-probability, so it is a power of the perplexity
ratio. An answer that repeats itself more than the model's own answers do loses in proportion, and an empty answer
scores 0.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from persona_steering.backends.base import Backend
from persona_steering.scoring.likelihood import Answer, score_answers

NGRAM = 3
SHUFFLED = 24  # answers whose words are shuffled for the lower anchor


@dataclass(frozen=True, slots=True)
class CoherenceScale:
    """The anchors of the scale: mean log-probabilities in nats per token, and a repetition rate.

    `own` scores 100, `shuffled` scores 1; `repetition` is the upper quartile of the model's own answers.
    """

    own: float
    shuffled: float
    repetition: float

    def __call__(self, answer: Answer | None) -> float:
        """The coherence of one answer, 0-100."""
        if answer is None:
            return 0.0
        shortfall = max(0.0, self.own - answer.natural_logprob)
        plausible = 100 * math.exp(-math.log(100) * shortfall / (self.own - self.shuffled))
        excess = max(0.0, repetition(answer.text) - self.repetition) / max(1e-9, 1 - self.repetition)
        return plausible * (1 - excess)


def measure_scale(backend: Backend, own: Sequence[Answer], *, seed: int = 0) -> CoherenceScale:
    """Measures the anchors from the model's own answers, plain and prompted (20 or more are sensible)."""
    rng = random.Random(seed)
    some = rng.sample(list(own), min(len(own), SHUFFLED))
    shuffled = score_answers(backend, [(answer.probe, shuffle_words(answer.text, rng)) for answer in some])
    top = float(np.quantile([answer.natural_logprob for answer in own], 0.25))
    bottom = float(np.median([answer.natural_logprob for answer in shuffled if answer is not None]))
    # One-word answers cannot be shuffled; the scale still needs a slope.
    return CoherenceScale(
        own=top,
        shuffled=min(bottom, top - 1.0),
        repetition=float(np.quantile([repetition(answer.text) for answer in own], 0.75)),
    )


def shuffle_words(text: str, rng: random.Random) -> str:
    """The same words in random order."""
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


def repetition(text: str) -> float:
    """The share of word 3-grams that occurred before, 0 to 1; single characters where a text has few words."""
    units: Sequence[str] = text.lower().split()
    if len(units) < 2 * NGRAM:
        units = text.lower()
    grams = [tuple(units[i : i + NGRAM]) for i in range(len(units) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
