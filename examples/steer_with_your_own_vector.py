"""A vector of one's own: extracted in a few lines, stored, and used by name."""

from __future__ import annotations

import tempfile

from persona_steering import ActivationExtractor, ModelWrapper, PersonaManager, SteeringEngine, get_config
from persona_steering.personas import load_questions

with tempfile.TemporaryDirectory() as folder:
    config = get_config(overrides={"model.name": "embedded", "paths.vectors": folder, "generation.seed": 5})
    with ModelWrapper(config) as model:
        manager = PersonaManager(config)
        activations = ActivationExtractor(model, config).extract_for_persona(
            system_prompts=["You are a cheerful baker. You talk of bread, flour and warm ovens all day."],
            extraction_questions=[item.question for item in load_questions(8)],
        )
        manager.create_from_data(name="baker", raw_vector=activations.raw_vector, description="A cheerful baker")
        engine = SteeringEngine(model, manager, config)
        # No safety axis has been extracted here, so safety is turned off in so many words.
        for strength in (0.0, 0.6, 1.2):
            answer = engine.generate("Tell me a story.", persona="baker", persona_strength=strength, safety=False)
            print(f"{strength:.1f}  {' '.join(answer.split())[:160]}")
