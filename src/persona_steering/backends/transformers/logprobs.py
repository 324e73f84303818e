"""How likely the chosen tokens of a batch were, for the rows that want to know. The others pay nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch

from persona_steering.backends.tokens import Alternative, TokenLogprob


class Chance(NamedTuple):
    """The log-probability of a chosen token, and the likeliest tokens at its place with theirs."""

    logprob: float
    top: list[tuple[int, float]]


def chances(logits: torch.Tensor, tokens: torch.Tensor, wanted: Sequence[int | None]) -> dict[int, Chance]:
    """By row, where `wanted` says how many alternatives; None is a row that wants nothing.

    `logits` is `[rows, vocabulary]`, with minus infinity where a token is not allowed; `tokens` is `[rows]`.
    """
    rows = [row for row, top in enumerate(wanted) if top is not None]
    if not rows:
        return {}
    chosen = torch.tensor(rows, device=logits.device)
    table = torch.log_softmax(logits[chosen].float(), -1)
    picked = table.gather(-1, tokens[chosen][:, None])
    most = min(max(wanted[row] or 0 for row in rows), table.shape[-1])
    values, ids = table.topk(most)
    # One copy from the device. Ids are exact in float32: no vocabulary has 2^24 tokens.
    numbers = torch.cat([picked, values, ids.float()], 1).tolist()
    return {
        row: Chance(found, _allowed(rest[:most], rest[most:])[: wanted[row]])
        for row, (found, *rest) in zip(rows, numbers, strict=True)
    }


def _allowed(values: Sequence[float], ids: Sequence[float]) -> list[tuple[int, float]]:
    return [(int(token), value) for value, token in zip(values, ids, strict=True) if value > float("-inf")]


def told(
    ids: Sequence[int], texts: Iterable[str], found: Sequence[Chance], spell: Callable[[int], str]
) -> tuple[TokenLogprob, ...]:
    """Tokens with their texts and chances; `spell` writes out a single token."""
    return tuple(
        TokenLogprob(token, text, chance.logprob, tuple(Alternative(i, spell(i), value) for i, value in chance.top))
        for token, text, chance in zip(ids, texts, found, strict=True)
    )
