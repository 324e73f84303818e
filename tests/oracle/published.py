"""The arithmetic of the published persona-vectors pipeline in plain torch, one text at a time.

Written from the description of the method (arXiv 2507.21509); it shares no line with the package.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

Means = dict[str, torch.Tensor]  # each [layers + 1, hidden]


def token_means(model: Any, tokenizer: Any, prompt: str, answer: str) -> Means:
    """Prompt and answer tokenised as one text; the prompt's length counted on the prompt alone."""
    ids = tokenizer(prompt + answer, return_tensors="pt", add_special_tokens=False)["input_ids"]
    prompt_length = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    rows = torch.stack([state[0].float() for state in states])  # [layers + 1, tokens, hidden]
    return {
        "prompt_avg": rows[:, :prompt_length].mean(1),
        "prompt_last": rows[:, prompt_length - 1],
        "response_avg": rows[:, prompt_length:].mean(1),
    }


def vector(positive: Sequence[Means], negative: Sequence[Means], pooling: str) -> torch.Tensor:
    """mean over the positive texts - mean over the negative ones, `[layers + 1, hidden]`."""
    plus, minus = (torch.stack([means[pooling] for means in side]).mean(0) for side in (positive, negative))
    return plus - minus


def passes(positive: dict[str, Any], negative: dict[str, Any], trait: str, threshold: float = 50) -> bool:
    """Whether a pair of CSV rows is kept; a score that is not there (nan) fails every comparison."""

    def number(cell: str) -> float:
        return float(cell) if cell else math.nan

    return (
        number(positive[trait]) >= threshold
        and number(negative[trait]) < 100 - threshold
        and number(positive["coherence"]) >= 50
        and number(negative["coherence"]) >= 50
    )


def expected_score(top: dict[str, float], min_mass: float = 0.25) -> float | None:
    """The judge's score out of log-probabilities of its first token, None where numbers have too little of it."""
    mass = {}
    for token, logprob in top.items():
        try:
            number = int(token)
        except ValueError:
            continue
        if 0 <= number <= 100:
            mass[number] = math.exp(logprob)
    total = sum(mass.values())
    return None if total < min_mass else sum(number * p for number, p in mass.items()) / total
