"""Activation capping: the projection on an axis is kept above a floor, and what happens is visible in the numbers."""

from __future__ import annotations

import numpy as np

from persona_steering import ActivationExtractor, ModelWrapper, Recipe, get_config
from persona_steering.backends.base import Request, Sampling, conversation
from persona_steering.interventions import Floor

LAYERS = (20, 21, 22)

SAMPLING = Sampling(seed=3, max_new_tokens=40)

config = get_config(overrides={"model.name": "embedded"})
with ModelWrapper(config) as model:
    axis = ActivationExtractor(model, config).extract_contrastive(
        positive_prompts=["You are calm and kind."],
        negative_prompts=["You are furious and rude."],
        questions=["How was your day?", "What do you think of your neighbours?"],
    )
    plain = Request(conversation("Someone stole my bike!"), sampling=SAMPLING, capture=LAYERS)
    (free,) = model.backend.generate([plain])
    assert free.activations is not None
    projections = {k: float(np.dot(free.activations.mean[k], axis.unit(k))) for k in LAYERS}
    floor = Recipe((Floor(vector=axis, values={k: value + 5 for k, value in projections.items()}),))
    (capped,) = model.backend.generate([Request(plain.messages, recipe=floor, sampling=SAMPLING, capture=LAYERS)])
    assert capped.activations is not None
    print("free:  ", " ".join(free.text.split()))
    print("capped:", " ".join(capped.text.split()))
    for k in LAYERS:
        after = float(np.dot(capped.activations.mean[k], axis.unit(k)))
        print(f"layer {k}: mean projection {projections[k]:.1f} -> {after:.1f}")
        assert after >= projections[k] + 5 - 0.01
    print(f"the floor acted {capped.caps_engaged} times (layers x tokens)")
