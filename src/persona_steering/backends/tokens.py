"""What an engine can tell of single tokens: how likely each was, what else might have come, and where it lies along
a direction.

The texts of an answer's tokens join to its text. A character that several tokens make up belongs to the last of them,
and those before it have no text; special tokens inside an answer have none either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from persona_steering.vectors.vector import SteeringVector

MAX_LOGPROBS = 20  # alternatives that a request may ask for at each token


class TokenChoice(NamedTuple):
    """One token that may come next: its text, and its log-probability (natural log)."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that could have been written, as it reads by itself inside an answer; a special token is written out."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token that was written, its log-probability (natural log), and the likeliest at its place, best first."""

    id: int
    text: str
    logprob: float
    top: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Log-probabilities (natural log) of a given answer's tokens, float32 `[tokens]`."""

    token_ids: tuple[int, ...]
    logprobs: np.ndarray

    @property
    def mean(self) -> float:
        """Mean log-probability in nats per token."""
        return float(self.logprobs.mean(dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Trace:
    """A direction to read every token along: a vector at one layer. `label` tells it from others."""

    label: str
    vector: SteeringVector
    layer: int


class Projection(NamedTuple):
    """The layer's output at one token, projected on the unit direction: before and after the recipe has acted there.

    What the recipe did at layers below is in both.
    """

    pre: float
    post: float


@dataclass(frozen=True, slots=True)
class TokenReading:
    """What the traces of a request read at the token with this index in its answer, by label."""

    index: int
    values: dict[str, Projection]


@dataclass(frozen=True, slots=True)
class TokenReadings:
    """What traces read at each token of a given text. `values` maps a label to float32 `[tokens, 2]`: pre and post.

    `texts` join to what the model reads, special tokens written out. The first `prompt_tokens` are the prompt's.
    """

    token_ids: tuple[int, ...]
    texts: tuple[str, ...]
    values: dict[str, np.ndarray]
    prompt_tokens: int = 0
