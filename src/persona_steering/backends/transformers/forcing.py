"""Teacher forcing: pooled activations and log-probabilities of given answers.

Capture runs one forward over prompt and answer, without logits, and keeps sums only: memory does not grow with
the number of texts. Scoring computes the prompt once for all answers that share it (and their recipe).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from persona_steering.backends.base import Activations, Text, TokenScores
from persona_steering.backends.transformers.forward import Runner, pad_left
from persona_steering.backends.transformers.hooks import Plan, Pool, make_plan
from persona_steering.backends.transformers.loading import LoadedModel
from persona_steering.backends.transformers.prompts import ThinkingTracker


@dataclass(frozen=True)
class EncodedText:
    """A given answer as token ids."""

    text: Text
    prompt: list[int]
    response: list[int]

    @property
    def group(self) -> tuple[tuple[int, ...], str]:
        """Answers of one group share the prompt's key-value cache."""
        return tuple(self.prompt), self.text.recipe.hash


def encode_text(loaded: LoadedModel, text: Text) -> EncodedText:
    """Raises PromptError when the prompt or answer is empty, or both together exceed the context."""
    response = loaded.encoder.encode_response(text.response)
    return EncodedText(text, loaded.encoder.encode(text.messages, room=len(response)), response)


def thinking_flags(loaded: LoadedModel, item: EncodedText) -> np.ndarray:
    """Which of prompt and response tokens are thoughts, bool `[tokens]`; the prompt's never count."""
    tracker = ThinkingTracker(loaded.encoder.thinking_marks, item.prompt)
    return np.array([False] * len(item.prompt) + [tracker.feed(token) for token in item.response])


def capture_batch(runner: Runner, items: Sequence[EncodedText], layers: Sequence[int]) -> list[Activations]:
    """Pooled activations of a batch of texts, over response tokens that are not thoughts."""
    loaded = runner.loaded
    ids, positions = pad_left([item.prompt + item.response for item in items], loaded.pad_id)
    thinking = np.zeros(ids.shape, bool)
    for row, item in enumerate(items):
        flags = thinking_flags(loaded, item)
        thinking[row, -len(flags) :] = flags
    lengths = np.array([[len(item.prompt)] for item in items])
    chosen = (
        (positions >= lengths) & ~thinking,
        (positions >= 0) & (positions < lengths),
        positions == lengths - 1,
    )
    response, prompt, last = (_pool(loaded, layers, len(items), norms=i == 0) for i in range(3))
    for pool, where in zip((response, prompt, last), chosen, strict=True):
        pool.begin(where)
    runner(
        ids,
        positions,
        _mask(positions, loaded.device),
        plan=_plan(loaded, items),
        thinking=thinking,
        pools=(response, prompt, last),
    )
    counts = chosen[0].sum(1).clip(1)
    lengths = lengths[:, 0]
    # one copy each from the device for all texts and layers; [layers, texts, hidden]
    means = response.sums.cpu().numpy() / counts[:, None].astype(np.float32)
    norms = response.norm_sums.cpu().numpy() / counts
    prompt_means = prompt.sums.cpu().numpy() / lengths[:, None].astype(np.float32)
    lasts = last.sums.cpu().numpy()
    return [
        Activations(
            mean={layer: means[k, i] for k, layer in enumerate(layers)},
            norms={layer: float(norms[k, i]) for k, layer in enumerate(layers)},
            tokens=int(chosen[0][i].sum()),
            prompt_mean={layer: prompt_means[k, i] for k, layer in enumerate(layers)},
            prompt_last={layer: lasts[k, i] for k, layer in enumerate(layers)},
        )
        for i in range(len(items))
    ]


def score_batch(runner: Runner, items: Sequence[EncodedText]) -> list[TokenScores]:
    """Log-probabilities of the answers of a batch. Prompts that occur more than once are computed once."""
    loaded = runner.loaded
    groups = {item.group: item for item in items}
    order = {group: i for i, group in enumerate(groups)}
    heads = [EncodedText(item.text, item.prompt[:-1], []) for item in groups.values()]
    cache = runner.new_cache()
    head_positions = _prefill_heads(runner, heads, [len(item.prompt) for item in groups.values()], cache)
    chosen = [order[item.group] for item in items]
    cache.batch_select_indices(torch.tensor(chosen, device=loaded.device))
    # The continuation is the last prompt token and the answer, padded on the right.
    tails = [item.prompt[-1:] + item.response for item in items]
    width = max(map(len, tails))
    ids = np.full((len(items), width), loaded.pad_id, np.int64)
    positions = np.full((len(items), width), -1, np.int64)
    thinking = np.zeros((len(items), width), bool)
    for row, (item, tail) in enumerate(zip(items, tails, strict=True)):
        ids[row, : len(tail)] = tail
        positions[row, : len(tail)] = np.arange(len(tail)) + len(item.prompt) - 1
        thinking[row, : len(tail)] = thinking_flags(loaded, item)[len(item.prompt) - 1 :]
    mask = _mask(np.concatenate([head_positions[chosen], positions], 1), loaded.device)
    logits = runner(ids, positions, mask, plan=_plan(loaded, items), thinking=thinking, cache=cache, keep_logits=width)
    targets = torch.from_numpy(ids[:, 1:, None]).to(loaded.device)
    picked = _log_probabilities(logits[:, :-1], targets)
    return [TokenScores(tuple(item.response), picked[i, : len(item.response)]) for i, item in enumerate(items)]


def _prefill_heads(runner: Runner, heads: Sequence[EncodedText], lengths: Sequence[int], cache: Any) -> np.ndarray:
    """Fills the cache with every prompt but its last token; positions `[prompts, tokens]`, maybe of no tokens."""
    loaded = runner.loaded
    if all(not head.prompt for head in heads):
        return np.zeros((len(heads), 0), np.int64)
    ids, positions = pad_left([head.prompt for head in heads], loaded.pad_id)
    plan = make_plan(
        [head.text.recipe for head in heads],
        lengths,
        hidden=loaded.hidden_size,
        device=loaded.device,
        dtype=loaded.dtype,
    )
    runner(
        ids,
        positions,
        _mask(positions, loaded.device),
        plan=plan,
        thinking=np.zeros(ids.shape, bool),
        cache=cache,
    )
    return positions


def _log_probabilities(logits: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    """Log-probabilities float32 `[rows, tokens]` of targets `[rows, tokens, 1]`, in slices of rows to save memory."""
    with torch.inference_mode():
        rows = [
            (row.gather(-1, target).float().squeeze(-1) - torch.logsumexp(row.float(), -1))
            for row, target in zip(logits, targets, strict=True)
        ]
        return torch.stack(rows).cpu().numpy()


def _plan(loaded: LoadedModel, items: Sequence[EncodedText]) -> Plan:
    return make_plan(
        [item.text.recipe for item in items],
        [len(item.prompt) for item in items],
        hidden=loaded.hidden_size,
        device=loaded.device,
        dtype=loaded.dtype,
    )


def _pool(loaded: LoadedModel, layers: Sequence[int], rows: int, *, norms: bool) -> Pool:
    return Pool(layers, rows, hidden=loaded.hidden_size, device=loaded.device, norms=norms)


def _mask(positions: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy((positions >= 0).astype(np.int64)).to(device)
