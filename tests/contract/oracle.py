"""The contract's oracle: one row, no padding, no cache, token by token in plain loops, written from the textbook.

It shares no line with the engine: formulas, scopes and thinking are spelled out again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.interventions import Intervention, Recipe


@dataclass
class Forward:
    """What one full forward of a row computed."""

    logits: torch.Tensor  # [tokens, vocabulary]
    outputs: dict[int, np.ndarray]  # layer -> [tokens, hidden], after the interventions
    before: dict[int, np.ndarray]  # the same before those of the layer itself

    def logprobs(self, ids: Sequence[int], prompt_length: int) -> np.ndarray:
        """Of every token after the prompt."""
        table = torch.log_softmax(self.logits.double(), -1)
        return np.array([float(table[i - 1, ids[i]]) for i in range(prompt_length, len(ids))])


def naive_forward(
    backend: TransformersBackend,
    ids: Sequence[int],
    recipe: Recipe,
    *,
    prompt_length: int,
    thinking: Sequence[bool] | None = None,
) -> Forward:
    """Runs the model as it comes from transformers over `ids`, steering every position by itself."""
    model: Any = backend.loaded.model
    outputs, before = dict[int, np.ndarray](), dict[int, np.ndarray]()
    thinking = thinking or [False] * len(ids)

    def make(layer: int) -> Any:
        def hook(module: object, args: object, output: Any) -> Any:
            hidden = (output if isinstance(output, torch.Tensor) else output[0]).clone()
            before[layer] = hidden[0].float().numpy().copy()
            for position in range(hidden.shape[1]):
                for item in recipe.interventions:
                    if layer in item.values and in_scope(str(item.scope), prompt_length, position, thinking[position]):
                        state = hidden[0, position].double().numpy()
                        hidden[0, position] = torch.from_numpy(textbook(item, layer, state)).to(hidden.dtype)
            outputs[layer] = hidden[0].float().numpy()
            return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

        return hook

    handles = [block.register_forward_hook(make(i)) for i, block in enumerate(backend.loaded.layers.blocks)]
    try:
        with torch.no_grad():
            result = model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return Forward(result.logits[0], outputs, before)


def textbook(item: Intervention, layer: int, h: np.ndarray) -> np.ndarray:
    """The formula of an intervention for one token, in float64."""
    v = item.vector.directions[layer].astype(np.float64)
    u, value = v / np.sqrt((v * v).sum()), float(item.values[layer])
    projection = float(h @ u)
    if item.op == "add":
        return h + value * v
    if item.op == "ablate":
        return h - projection * u
    if item.op == "set":
        return h + (value - projection) * u
    if item.op == "floor":
        return h + max(value - projection, 0.0) * u
    assert item.op == "ceiling"
    return h - max(projection - value, 0.0) * u


def in_scope(scope: str, prompt_length: int, position: int, thinking: bool) -> bool:
    """Whether a scope, by its name, holds an absolute position."""
    kind, _, window = scope.partition("[")
    first = position if kind in ("tokens", "all", "prompt") else position - (prompt_length - 1)
    if window:
        start, stop = re.fullmatch(r"(\d+):(\d*)\]", window).groups()  # type: ignore[union-attr]
        if first < int(start) or (stop and first >= int(stop)):
            return False
    if kind == "prompt":
        return position < prompt_length
    if kind == "thinking":
        return first >= 0 and thinking
    return first >= 0
