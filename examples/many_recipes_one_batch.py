"""One batch, a different recipe in every row: a dose sweep of one direction costs one generation, not seven."""

from __future__ import annotations

from persona_steering import ActivationExtractor, ModelWrapper, Recipe, get_config
from persona_steering.backends.base import Request, Sampling, conversation
from persona_steering.calibration.layers import addition
from persona_steering.personas import load_archetype, load_questions

config = get_config(overrides={"model.name": "embedded"})
with ModelWrapper(config) as model:
    questions = [item.question for item in load_questions(6)]
    pirate = load_archetype("pirate")
    found = ActivationExtractor(model, config).extract_for_persona(pirate.system_prompts[:2], questions)
    doses = (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5)  # of the hidden state's norm, shared over the layers
    requests = [
        Request(
            conversation("What do you do when a storm comes?"),
            recipe=Recipe((addition(found.raw_vector, range(10, 18), dose),)) if dose else Recipe(),
            sampling=Sampling(max_new_tokens=30, seed=1),
        )
        for dose in doses
    ]
    for dose, done in zip(doses, model.backend.generate(requests), strict=True):
        print(f"{dose:+.1f}  {' '.join(done.text.split())}")
