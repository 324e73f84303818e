"""Teacher forcing: pooled activations, log-probabilities and readings of given answers.

Capture keeps sums only and computes no logits: memory does not grow with the number of texts. All compute a
prompt once for all answers that share it (and their recipe).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from persona_steering.backends.base import Activations, Text
from persona_steering.backends.tokens import TokenChoice, TokenReadings, TokenScores, Trace
from persona_steering.backends.transformers.forward import Runner, pad_left
from persona_steering.backends.transformers.hooks import Plan, Pool, make_plan
from persona_steering.backends.transformers.loading import LoadedModel
from persona_steering.backends.transformers.prompts import ThinkingTracker
from persona_steering.backends.transformers.reading import Tracer
from persona_steering.backends.transformers.text import token_texts


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


def encode_text(loaded: LoadedModel, text: Text, *, may_be_empty: bool = False) -> EncodedText:
    """Raises PromptError when the prompt or answer is empty, or both together exceed the context."""
    encoder = loaded.encoder
    response = [] if may_be_empty and not text.response else encoder.encode_response(text.response)
    prompt = text.rendered or encoder.render(text.messages)
    return EncodedText(text, encoder.encode_rendered(prompt, room=max(1, len(response))), response)


def thinking_flags(loaded: LoadedModel, item: EncodedText) -> np.ndarray:
    """Which of prompt and response tokens are thoughts, bool `[tokens]`; the prompt's never count."""
    tracker = ThinkingTracker(loaded.encoder.thinking_marks, item.prompt)
    return np.array([False] * len(item.prompt) + [tracker.feed(token) for token in item.response])


def capture_batch(runner: Runner, items: Sequence[EncodedText], layers: Sequence[int]) -> list[Activations]:
    """Pooled activations of a batch of texts, over response tokens that are not thoughts.

    Prompts that occur more than once are computed once.
    """
    loaded = runner.loaded
    shared = _share_prompts(items)
    repeated = len(shared.heads) < len(items)
    tails = _tails(loaded, items, whole=not repeated)
    lengths = np.array([[len(item.prompt)] for item in items])
    response = (tails.positions >= lengths) & ~tails.thinking
    prompt = (tails.positions >= 0) & (tails.positions < lengths)
    pool = Pool(layers, len(items), hidden=loaded.hidden_size, device=loaded.device, parts=3)
    pool.begin(response, prompt, tails.positions == lengths - 1)
    head_sums: np.ndarray | float = 0.0
    if repeated:
        head_pool = Pool(layers, len(shared.heads), hidden=loaded.hidden_size, device=loaded.device)
        head = _prefill(runner, shared, items, [head_pool])
        head_sums = head_pool.sums[0].cpu().numpy()[:, shared.chosen]
    else:
        head = _no_head(items)
    _run_tails(runner, items, tails, head, pools=[pool], keep_logits=1)
    counts = response.sum(1)
    # one copy each from the device for all texts and layers; [parts, layers, texts, hidden]
    sums, norms = pool.sums.cpu().numpy(), pool.norm_sums.cpu().numpy() / counts.clip(1)
    means = sums[0] / counts.clip(1)[:, None].astype(np.float32)
    prompt_means = (sums[1] + head_sums) / lengths.astype(np.float32)
    lasts = sums[2].copy()  # a view would keep the other parts in memory
    return [
        Activations(
            mean={layer: means[k, i] for k, layer in enumerate(layers)},
            norms={layer: float(norms[k, i]) for k, layer in enumerate(layers)},
            tokens=int(counts[i]),
            prompt_mean={layer: prompt_means[k, i] for k, layer in enumerate(layers)},
            prompt_last={layer: lasts[k, i] for k, layer in enumerate(layers)},
        )
        for i in range(len(items))
    ]


def score_batch(runner: Runner, items: Sequence[EncodedText]) -> list[TokenScores]:
    """Log-probabilities of the answers of a batch. Prompts that occur more than once are computed once."""
    loaded = runner.loaded
    head = _prefill(runner, _share_prompts(items), items)
    tails = _tails(loaded, items)
    logits = _run_tails(runner, items, tails, head, keep_logits=tails.ids.shape[1])
    targets = torch.from_numpy(tails.ids[:, 1:, None]).to(loaded.device)
    picked = _log_probabilities(logits[:, :-1], targets)
    return [TokenScores(tuple(item.response), picked[i, : len(item.response)]) for i, item in enumerate(items)]


def next_token_batch(runner: Runner, items: Sequence[EncodedText], top: int) -> list[tuple[TokenChoice, ...]]:
    """The likeliest tokens after each text of a batch. Prompts that occur more than once are computed once."""
    loaded = runner.loaded
    head = _prefill(runner, _share_prompts(items), items)
    tails = _tails(loaded, items)
    logits = _run_tails(runner, items, tails, head, keep_logits=tails.ids.shape[1])
    with torch.inference_mode():
        last = torch.tensor([len(item.response) for item in items], device=logits.device)
        rows = torch.log_softmax(logits[torch.arange(len(items), device=logits.device), last].float(), -1)
        best, ids = rows.topk(min(top, rows.shape[-1]))
    return [
        tuple(TokenChoice(loaded.encoder.decode([token]), value) for token, value in zip(*row, strict=True))
        for row in zip(ids.tolist(), best.tolist(), strict=True)
    ]


def read_batch(
    runner: Runner, items: Sequence[EncodedText], traces: Sequence[Trace], *, prompt: bool
) -> list[TokenReadings]:
    """Readings of each answer's tokens and, with `prompt`, of its prompt's.

    Prompts that occur more than once are computed once, unless they are read.
    """
    loaded = runner.loaded
    shared = _share_prompts(items)
    whole = prompt or len(shared.heads) == len(items)
    head = _no_head(items) if whole else _prefill(runner, shared, items)
    tails = _tails(loaded, items, whole=whole)
    tracer = Tracer([traces] * len(items), hidden=loaded.hidden_size, device=loaded.device)
    _run_tails(runner, items, tails, head, tracer=tracer, keep_logits=1)
    found = []
    for item, positions, values in zip(items, tails.positions, tracer.take(), strict=True):
        read = positions >= (0 if prompt else len(item.prompt))
        parts = [item.prompt, item.response] if prompt else [item.response]
        found.append(
            TokenReadings(
                token_ids=tuple(itertools.chain(*parts)),
                texts=tuple(text for part in parts for text in token_texts(loaded.encoder.decode_given, part)),
                values={trace.label: own[read] for trace, own in zip(traces, values, strict=True)},
                prompt_tokens=len(item.prompt) if prompt else 0,
            )
        )
    return found


class _Shared(NamedTuple):
    """The distinct prompts of a batch, and which of them each text has."""

    heads: list[EncodedText]
    chosen: list[int]


class _Head(NamedTuple):
    """The cache of the prompts up to their last token, a row a text, and the positions in it `[texts, tokens]`."""

    cache: Any
    positions: np.ndarray


class _Tails(NamedTuple):
    """What follows the cached part, padded on the right; all `[texts, tokens]`. Padding has position -1."""

    ids: np.ndarray
    positions: np.ndarray
    thinking: np.ndarray


def _share_prompts(items: Sequence[EncodedText]) -> _Shared:
    groups = {item.group: item for item in items}
    order = {group: i for i, group in enumerate(groups)}
    return _Shared(list(groups.values()), [order[item.group] for item in items])


def _no_head(items: Sequence[EncodedText]) -> _Head:
    return _Head(None, np.zeros((len(items), 0), np.int64))


def _prefill(runner: Runner, shared: _Shared, items: Sequence[EncodedText], pools: Sequence[Pool] = ()) -> _Head:
    """Computes every distinct prompt up to its last token, and gives each text its own copy of the cache."""
    loaded, cache = runner.loaded, runner.new_cache()
    prompts = [item.prompt[:-1] for item in shared.heads]
    if not any(prompts):
        return _Head(cache, np.zeros((len(items), 0), np.int64))
    ids, positions = pad_left(prompts, loaded.pad_id)
    for pool in pools:
        pool.begin(positions >= 0)
    mask = _mask(positions, loaded.device)
    nothing = np.zeros(ids.shape, bool)
    runner(ids, positions, mask, plan=_plan(loaded, shared.heads), thinking=nothing, pools=pools, cache=cache)
    cache.batch_select_indices(torch.tensor(shared.chosen, device=loaded.device))
    return _Head(cache, positions[shared.chosen])


def _tails(loaded: LoadedModel, items: Sequence[EncodedText], *, whole: bool = False) -> _Tails:
    """The last prompt token and the answer; with `whole`, prompt and answer."""
    starts = [0 if whole else len(item.prompt) - 1 for item in items]
    rows = [item.prompt[start:] + item.response for item, start in zip(items, starts, strict=True)]
    shape = len(items), max(map(len, rows))
    ids, positions = np.full(shape, loaded.pad_id, np.int64), np.full(shape, -1, np.int64)
    thinking = np.zeros(shape, bool)
    for i, (item, start, row) in enumerate(zip(items, starts, rows, strict=True)):
        ids[i, : len(row)] = row
        positions[i, : len(row)] = np.arange(len(row)) + start
        thinking[i, : len(row)] = thinking_flags(loaded, item)[start:]
    return _Tails(ids, positions, thinking)


def _run_tails(
    runner: Runner,
    items: Sequence[EncodedText],
    tails: _Tails,
    head: _Head,
    *,
    keep_logits: int,
    pools: Sequence[Pool] = (),
    tracer: Tracer | None = None,
) -> torch.Tensor:
    loaded = runner.loaded
    mask = _mask(np.concatenate([head.positions, tails.positions], 1), loaded.device)
    return runner(
        tails.ids,
        tails.positions,
        mask,
        plan=_plan(loaded, items),
        thinking=tails.thinking,
        pools=pools,
        tracer=tracer,
        cache=head.cache,
        keep_logits=keep_logits,
    )


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


def _mask(positions: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy((positions >= 0).astype(np.int64)).to(device)
