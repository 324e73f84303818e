"""The logit lens: what the model's own norm and head read out of a direction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.backends.tiny import HIDDEN, tiny_backend

from persona_steering.backends.transformers.backend import TransformersBackend


@pytest.fixture(params=["llama", "gpt2", "gemma2", "opt"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return tiny_backend(request.param, tmp_path_factory.getbasetemp() / "unembed")


def test_the_tokens_are_those_of_the_last_hidden_state_with_the_norm_and_the_head_applied_by_hand(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    backend = tiny_backend("llama", tmp_path_factory.getbasetemp() / "unembed")
    direction = np.random.default_rng(0).normal(size=HIDDEN).astype(np.float32)
    model, tokenizer = backend.loaded.model, backend.loaded.encoder.tokenizer
    unit = direction / np.sqrt(np.mean(np.square(direction)))
    with torch.inference_mode():
        logits = (model.lm_head.weight @ (torch.from_numpy(unit) * model.model.norm.weight)).numpy()
    known = [i for i in np.argsort(-logits) if i < len(tokenizer) and i not in tokenizer.all_special_ids]
    assert backend.unembed(direction, top=5) == tuple(tokenizer.decode([int(i)]) for i in known[:5])


def test_the_length_of_a_direction_does_not_count_and_its_ends_differ(backend: TransformersBackend) -> None:
    direction = np.random.default_rng(1).normal(size=HIDDEN).astype(np.float32)
    words = backend.unembed(direction, top=6)
    assert len(words) == 6 and words == backend.unembed(1e-3 * direction, top=6)
    assert not set(words) & set(backend.unembed(-direction, top=6))


def test_reading_out_leaves_no_hook_behind(backend: TransformersBackend) -> None:
    hooks = backend.loaded.layers.blocks[-1]._forward_hooks
    before = len(hooks)  # transformers keeps one of its own
    backend.unembed(np.ones(HIDDEN, np.float32), top=3)
    assert len(hooks) == before
