"""`ActivationExtractor`: mean response activations of prompts of one's own, in a few calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from persona_steering.backends.base import Activations, Completion, Request, Sampling, conversation
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.config import Config
from persona_steering.errors import QualityError, UsageError
from persona_steering.extraction.run import Moments, answer_seed
from persona_steering.vectors import SteeringVector, VectorMetadata


@dataclass(frozen=True)
class PersonaActivations:
    """Mean response activations float32 `[hidden]` per layer, with and without the persona's system prompts."""

    persona: dict[int, np.ndarray]
    baseline: dict[int, np.ndarray]
    raw_vector: SteeringVector


class ActivationExtractor:
    """Answers prompts and averages the residual stream over the answers' tokens, in the same pass."""

    def __init__(self, model: ModelWrapper, config: Config) -> None:
        self._model = model
        self._config = config

    @property
    def layers(self) -> tuple[int, ...]:
        """The configured target layers; all of them for "auto"."""
        target = self._config.extraction.target_layers
        return self._model.layers if target == "auto" else tuple(target)

    def extract_single(self, prompt: str, system: str | None = None) -> Activations:
        """The activations of one answer."""
        return self.extract_batch([prompt], system)[0]

    def extract_batch(self, prompts: Sequence[str], system: str | None = None) -> list[Activations]:
        """The activations of one answer to each prompt. Raises QualityError where an answer is empty."""
        return [_activations(done) for done in self._answers([(prompt, system) for prompt in prompts])]

    def extract_contrastive(
        self, positive_prompts: Sequence[str], negative_prompts: Sequence[str], questions: Sequence[str]
    ) -> SteeringVector:
        """mean(answers under the positive system prompts) - mean(those under the negative ones)."""
        positive, norms = self._mean([(q, s) for q in questions for s in positive_prompts])
        negative, _ = self._mean([(q, s) for q in questions for s in negative_prompts])
        return self._vector(positive, negative, norms)

    def extract_for_persona(
        self, system_prompts: Sequence[str], extraction_questions: Sequence[str]
    ) -> PersonaActivations:
        """Every question under every system prompt, against the same questions without one."""
        if not system_prompts or not extraction_questions:
            raise UsageError("system prompts and questions are both needed.", hint="Give at least one of each.")
        persona, _ = self._mean([(q, s) for q in extraction_questions for s in system_prompts])
        baseline, norms = self._mean([(q, None) for q in extraction_questions])
        return PersonaActivations(persona, baseline, self._vector(persona, baseline, norms))

    def _answers(self, asked: Sequence[tuple[str, str | None]]) -> list[Completion]:
        settings = self._config.extraction
        return self._model.backend.generate(
            [
                Request(
                    conversation(prompt, system),
                    sampling=Sampling(
                        temperature=settings.temperature,
                        max_new_tokens=settings.max_new_tokens,
                        seed=answer_seed(settings.seed, "extractor", i),
                    ),
                    capture=self.layers,
                )
                for i, (prompt, system) in enumerate(asked)
            ]
        )

    def _mean(self, asked: Sequence[tuple[str, str | None]]) -> tuple[dict[int, np.ndarray], dict[int, float]]:
        moments = {layer: Moments() for layer in self.layers}
        norms: dict[int, list[float]] = {layer: [] for layer in self.layers}
        for done in self._answers(asked):
            if done.activations is None:
                continue
            for layer in self.layers:
                moments[layer].add(done.activations.mean[layer])
                norms[layer].append(done.activations.norms[layer])
        if not moments[self.layers[0]].count:
            raise QualityError("the model gave empty answers only.", hint="Try other prompts or longer answers.")
        means = {layer: found.mean.astype(np.float32) for layer, found in moments.items()}
        return means, {layer: float(np.median(found)) for layer, found in norms.items()}

    def _vector(
        self, positive: dict[int, np.ndarray], negative: dict[int, np.ndarray], norms: dict[int, float]
    ) -> SteeringVector:
        metadata = VectorMetadata(
            name="unnamed",
            kind="persona",
            model=self._model.identity,
            sign="+ is more of the positive side",
            source="extractor",
            seed=self._config.extraction.seed,
            reference_norms=norms,
        )
        return SteeringVector({layer: positive[layer] - negative[layer] for layer in self.layers}, metadata)


def _activations(done: Completion) -> Activations:
    if done.activations is None:
        raise QualityError("the model gave an empty answer.", hint="Try another prompt, or a longer answer.")
    return done.activations
