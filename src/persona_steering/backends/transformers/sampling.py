"""Choosing tokens, every row by its own temperature, top-p and seed.

Each row draws one uniform number per step from its own counter-based generator and inverts its own cumulative
distribution, so its text depends on its seed and logits alone: not on its neighbours, the batch or the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import pad

from persona_steering.backends.base import Sampling

_HEAD = 512  # tokens looked at before the whole vocabulary is sorted


class Sampler:
    """Samples for the rows of one batch."""

    def __init__(self, rows: Sequence[Sampling], device: torch.device) -> None:
        self._greedy = torch.tensor([row.temperature == 0 for row in rows], device=device)
        self._all_greedy = all(row.temperature == 0 for row in rows)
        # the least keeps logits divided by it finite in float32
        self._temperature = torch.tensor([max(row.temperature, 1e-6) for row in rows], device=device)
        nucleus = [row.top_p if row.temperature > 0 else 1.0 for row in rows]
        self._top_p = torch.tensor(nucleus, device=device)
        self._nucleus = any(top_p < 1 for top_p in nucleus)
        self._uniform = torch.tensor(
            np.stack([uniforms(row.seed, row.max_new_tokens, _longest(rows)) for row in rows]), device=device
        )

    def keep(self, rows: torch.Tensor) -> None:
        """Drops every row but those at the given indices."""
        for name in ("_greedy", "_temperature", "_top_p", "_uniform"):
            setattr(self, name, getattr(self, name)[rows])

    def join(self, other: Sampler) -> None:
        """Appends the rows of another sampler."""
        width = max(self._uniform.shape[1], other._uniform.shape[1])
        self._uniform = torch.cat([pad(one._uniform, (0, width - one._uniform.shape[1])) for one in (self, other)])
        for name in ("_greedy", "_temperature", "_top_p"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
        self._all_greedy &= other._all_greedy
        self._nucleus |= other._nucleus

    def __call__(self, logits: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
        """The next token of every row, `[rows]`, from logits `[rows, vocabulary]`; `steps` counts those it has."""
        if self._all_greedy:
            return logits.argmax(-1)
        probabilities = torch.softmax(logits.float() / self._temperature[:, None], -1)
        target = self._uniform.gather(1, torch.tensor(steps, device=logits.device)[:, None])
        tokens = _invert(probabilities, target)
        if self._nucleus:
            # chosen per row: a row without top-p must not notice a neighbour that has one
            tokens = torch.where(self._top_p < 1, _sample_nucleus(probabilities, self._top_p, target), tokens)
        return torch.where(self._greedy, logits.argmax(-1), tokens)


def uniforms(seed: int, count: int, width: int) -> np.ndarray:
    """`count` numbers in [0, 1) that depend on `seed` alone, padded with zeros to `width`."""
    numbers = np.zeros(width, dtype=np.float32)
    # float32 may round up to 1.0, which would select past the last token
    numbers[:count] = np.minimum(np.random.Generator(np.random.Philox(seed)).random(count), 1 - 2**-24)
    return numbers


def _longest(rows: Sequence[Sampling]) -> int:
    return max(row.max_new_tokens for row in rows)


def _invert(probabilities: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    cumulative = probabilities.cumsum(-1)
    chosen = torch.searchsorted(cumulative, target * cumulative[:, -1:], right=True)
    return chosen.clamp(max=probabilities.shape[-1] - 1).squeeze(-1)


def _sample_nucleus(probabilities: torch.Tensor, top_p: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    # Sorting a whole vocabulary costs more than a small model's forward; the nucleus mostly lies in a short head.
    tokens = probabilities.topk(min(_HEAD, probabilities.shape[-1]), -1).indices.sort(dim=-1).values
    if bool(((probabilities.gather(-1, tokens).sum(-1) < top_p) & (top_p < 1)).any()):
        ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    else:
        # ties in the order of the vocabulary, as in the full sort, which only a neighbour may have asked for
        ordered, order = probabilities.gather(-1, tokens).sort(dim=-1, descending=True, stable=True)
        tokens = tokens.gather(-1, order)
    before = ordered.cumsum(-1) - ordered
    # the first token always stays, since nothing comes before it
    ordered = ordered * (before < top_p[:, None])
    return tokens.gather(-1, _invert(ordered, target)[:, None]).squeeze(-1)
