"""What an engine can tell of single tokens: how likely each was, and what else might have come.

The texts of an answer's tokens join to its text. A character that several tokens make up belongs to the last of them,
and those before it have no text; special tokens inside an answer have none either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

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
