"""One forward of a batch: left-padded rows, absolute positions, and hooks that live only as long as the call."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from persona_steering.backends.transformers.hooks import Plan, Pool, hooked
from persona_steering.backends.transformers.layers import block_output, replace_block_output
from persona_steering.backends.transformers.loading import LoadedModel
from persona_steering.backends.transformers.reading import Tracer


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and absolute positions, both `[rows, longest]`; positions of padding are negative."""
    width = max(map(len, rows))
    ids = np.full((len(rows), width), pad_id, np.int64)
    positions = np.arange(width)[None, :] - np.array([width - len(row) for row in rows])[:, None]
    for i, row in enumerate(rows):
        if row:
            ids[i, width - len(row) :] = row
    return ids, positions


class Runner:
    """Runs forwards of one model, one at a time; batches may take turns between forwards."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        # The module that runs the blocks and then the final norm; a head calls it, but not always its wrapper.
        self._trunk = loaded.model.get_submodule(loaded.layers.path.rpartition(".")[0])
        self._turn = threading.Lock()

    def new_cache(self) -> Any:
        """An empty key-value cache of the kind that this architecture uses."""
        from transformers import DynamicCache

        return DynamicCache(config=self.loaded.model.config)

    def __call__(
        self,
        ids: np.ndarray | torch.Tensor,
        positions: np.ndarray,
        mask: torch.Tensor,
        *,
        plan: Plan,
        thinking: np.ndarray,
        pools: Sequence[Pool] = (),
        tracer: Tracer | None = None,
        cache: Any = None,
        keep_logits: int = 1,
    ) -> torch.Tensor:
        """Logits `[rows, keep_logits, vocabulary]` of the last positions.

        `ids` and `positions` are `[rows, tokens]`; `mask` is `[rows, cached + tokens]`, 0 at padding; `thinking`
        is `[rows, tokens]`. Pools must have been begun.
        """
        loaded = self.loaded
        tokens = ids if isinstance(ids, torch.Tensor) else torch.from_numpy(ids).to(loaded.device)
        arguments: dict[str, Any] = {
            "input_ids": tokens,
            "attention_mask": mask,
            "logits_to_keep": keep_logits,
        }
        if loaded.takes_positions:
            arguments["position_ids"] = torch.from_numpy(np.maximum(positions, 0)).to(loaded.device)
        plan.begin(positions, thinking)
        hooks = hooked(loaded.layers.blocks, plan, pools, trunk=self._trunk, tracer=tracer)
        with self._turn, torch.inference_mode(), hooks:
            output = loaded.model(**arguments, past_key_values=cache, use_cache=cache is not None)
            for pool in pools:
                pool.end()
        return output.logits  # type: ignore[no-any-return]

    def read_out(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits `[rows, vocabulary]` of residual streams `[rows, hidden]` behind the last layer.

        The model's own path from there on is taken, whatever it consists of: the output of its last block is replaced.
        """
        loaded = self.loaded

        def replace(module: object, arguments: object, output: object) -> object:
            like = block_output(output)
            return replace_block_output(output, hidden[:, None].to(like.device, like.dtype))

        with self._turn, torch.inference_mode():
            handle = loaded.layers.blocks[-1].register_forward_hook(replace)
            try:
                ids = torch.ones((len(hidden), 1), dtype=torch.long, device=loaded.device)
                output = loaded.model(input_ids=ids, use_cache=False)
            finally:
                handle.remove()
        return output.logits[:, -1]  # type: ignore[no-any-return]
