"""Joining the key-value caches of two batches, so that rows may enter a batch that is already writing.

Rows are padded on the left to one width. Positions are given to the model explicitly and padding is masked, so a row
does not notice how far to the right it stands.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad


def can_join(cache: Any) -> bool:
    """Whether every layer keeps plain keys and values (full or sliding window), which can be padded."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)


def join_caches(cache: Any, other: Any) -> None:
    """Appends the rows of `other` to `cache`, in place. Both must be joinable and have seen at least one token."""
    for own, new in zip(cache.layers, other.layers, strict=True):
        if not own.is_initialized:  # a layer that shares another one's keys and values
            continue
        seen = max(own.get_seq_length(), new.get_seq_length())
        kept = min(seen, own.sliding_window - 1) if own.is_sliding else seen
        own.keys = torch.cat([_padded(own.keys, kept), _padded(new.keys, kept)])
        own.values = torch.cat([_padded(own.values, kept), _padded(new.values, kept)])
        if own.is_sliding:
            own.cumulative_length = seen


def _padded(states: torch.Tensor, width: int) -> torch.Tensor:
    """States `[rows, heads, tokens, dim]` with zeros on the left up to `width` tokens."""
    return pad(states, (0, 0, width - states.shape[-2], 0))
