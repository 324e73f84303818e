"""From contrasting answers to a raw vector: the difference of mean response activations.

    persona   mean(answers under its system prompts) - mean(answers to the same questions without a system prompt)
    trait     mean(answers under its instructions)   - mean(answers under the opposite instructions)

Answers that are not in character are dropped first (see extraction.filter). Source of the method: "Persona
Vectors" (arXiv 2507.21509); the persona's baseline contrast follows "The Assistant Axis" (arXiv 2601.10387).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from persona_steering.backends.base import (
    Backend,
    ProgressCallback,
    Request,
    Sampling,
    conversation,
    no_progress,
)
from persona_steering.errors import QualityError
from persona_steering.extraction.filter import in_character
from persona_steering.extraction.run import Answered, Moments, Run, answer_seed
from persona_steering.personas import Persona, Trait
from persona_steering.vectors import SteeringVector, VectorMetadata
from persona_steering.vectors.metadata import package_version

MIN_KEPT = 4  # answers per side below which a mean says nothing


class ExtractionSettings(BaseModel):
    """What is asked for an extraction. Equal settings give equal vectors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: tuple[str, ...] = Field(min_length=1)
    prompts_per_question: int = Field(default=3, ge=1, description="system prompts used for each question, in turns")
    samples: int = Field(default=1, ge=1, description="answers per question and system prompt")
    max_new_tokens: int = Field(default=48, ge=1)
    temperature: float = Field(default=0.7, ge=0)
    seed: int = Field(default=0, ge=0)
    layers: tuple[int, ...] = Field(min_length=1)
    filter: bool = Field(default=True, description="drop answers that are not in character")


@dataclass(frozen=True, slots=True)
class Prompted:
    """A question, asked under a system prompt (None: without any), and the one it is contrasted with."""

    question: str
    system_prompt: str | None
    contrast: str | None = None


@dataclass(frozen=True)
class Group:
    """Answers of one side with their activations."""

    asked: tuple[Prompted, ...]
    answers: tuple[Answered, ...]
    dropped: int = 0

    def moments(self) -> Moments:
        """Mean and variance over the answers of their mean activation, `[layers, hidden]`."""
        found = Moments()
        for answer in self.answers:
            if answer.mean is not None:
                found.add(answer.mean)
        return found

    def median_norms(self) -> np.ndarray:
        """Median over the answers of their mean token norm, `[layers]`."""
        norms = np.stack([answer.norms for answer in self.answers if answer.norms is not None])
        return np.asarray(np.median(norms, 0))


@dataclass(frozen=True)
class Extraction:
    """A raw vector with the two groups behind it."""

    vector: SteeringVector
    positive: Group
    negative: Group


def extract_persona(
    backend: Backend,
    persona: Persona,
    settings: ExtractionSettings,
    *,
    run: Run,
    baseline: Group,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Extraction:
    """The persona's raw vector against `baseline`, answers to the same questions without a system prompt.

    Raises QualityError when too few answers are in character, and what the backend raises.
    """
    asked = pair_up(settings, persona.system_prompts)
    group = answer(backend, asked, settings, run=run, phase="persona", progress=progress, cancelled=cancelled)
    if settings.filter:
        group = _filtered(backend, group, persona.name)
    vector = _difference(
        group,
        baseline,
        settings,
        VectorMetadata(
            name=persona.name,
            kind="persona",
            description=persona.description,
            model=backend.identity,
            sign=f"+ is more {persona.title or persona.name}",
            source=persona.source or "prompts",
            system_prompts=persona.system_prompts,
        ),
    )
    return Extraction(vector, group, baseline)


def extract_trait(
    backend: Backend,
    trait: Trait,
    settings: ExtractionSettings,
    *,
    run: Run,
    baseline: Group,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Extraction:
    """The trait's raw vector: its instructions against the opposite ones, on the same questions.

    `baseline` supplies the reference norms only. Raises as `extract_persona` does.
    """
    pos, neg = [pair.pos for pair in trait.pairs], [pair.neg for pair in trait.pairs]
    groups = []
    for phase, own, other in (("positive", pos, neg), ("negative", neg, pos)):
        asked = pair_up(settings, own, other)
        group = answer(backend, asked, settings, run=run, phase=phase, progress=progress, cancelled=cancelled)
        groups.append(_filtered(backend, group, trait.name) if settings.filter else group)
    vector = _difference(
        groups[0],
        groups[1],
        settings,
        VectorMetadata(
            name=trait.name,
            kind="trait",
            description=trait.description,
            model=backend.identity,
            sign=f"+ is more {trait.name}, - is {trait.opposite or f'not {trait.name}'}",
            source=trait.source or "trait",
            system_prompts=tuple(pair.pos for pair in trait.pairs),
            opposite=trait.opposite,
        ),
        norms=baseline.median_norms(),
    )
    return Extraction(vector, groups[0], groups[1])


def extract_baseline(
    backend: Backend,
    settings: ExtractionSettings,
    *,
    run: Run,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Group:
    """The model's own answers: the questions without a system prompt, as many a question as a persona gives."""
    asked = pair_up(settings, [None] * settings.prompts_per_question)
    return answer(backend, asked, settings, run=run, phase="baseline", progress=progress, cancelled=cancelled)


def pair_up(
    settings: ExtractionSettings, system_prompts: Sequence[str | None], contrast: Sequence[str | None] = ()
) -> list[Prompted]:
    """Every question with the next `prompts_per_question` system prompts, so that all take equal turns.

    `contrast`, when given, holds the opposite of each system prompt.
    """
    count = len(system_prompts)
    per_question = min(settings.prompts_per_question, count)
    places = [(i, (i * per_question + k) % count) for i in range(len(settings.questions)) for k in range(per_question)]
    return [
        Prompted(settings.questions[i], system_prompts[place], contrast[place] if contrast else None)
        for i, place in places
        for _ in range(settings.samples)
    ]


def answer(
    backend: Backend,
    asked: Sequence[Prompted],
    settings: ExtractionSettings,
    *,
    run: Run,
    phase: str,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Group:
    """Asks everything, capturing activations in the same pass. Answers that said nothing are dropped."""
    requests = requests_for(asked, settings, phase)
    answers = run.answers(backend, requests, phase=phase, progress=progress, cancelled=cancelled)
    spoken = [i for i, one in enumerate(answers) if one.mean is not None and one.text.strip()]
    if not spoken:
        raise QualityError("the model gave empty answers only.", hint="Try another model or longer answers.")
    return Group(tuple(asked[i] for i in spoken), tuple(answers[i] for i in spoken), dropped=len(answers) - len(spoken))


def requests_for(asked: Sequence[Prompted], settings: ExtractionSettings, phase: str) -> list[Request]:
    """What the model is sent: each answer with a seed of its own, captured at the layers of the settings."""
    return [
        Request(
            conversation(item.question, item.system_prompt),
            sampling=Sampling(
                temperature=settings.temperature,
                max_new_tokens=settings.max_new_tokens,
                seed=answer_seed(settings.seed, phase, i),
            ),
            capture=settings.layers,
        )
        for i, item in enumerate(asked)
    ]


def _filtered(backend: Backend, group: Group, name: str) -> Group:
    kept = in_character(
        backend,
        [(item.question, item.system_prompt, item.contrast) for item in group.asked],
        [one.text for one in group.answers],
    )
    if sum(kept) < MIN_KEPT:
        raise QualityError(
            f"only {sum(kept)} of {len(kept)} answers are in character for {name!r}.",
            hint="This model does not follow these system prompts: make them more concrete, ask more questions, "
            "or use a larger model.",
        )
    return Group(
        tuple(item for item, keep in zip(group.asked, kept, strict=True) if keep),
        tuple(one for one, keep in zip(group.answers, kept, strict=True) if keep),
        dropped=group.dropped + kept.count(False),
    )


def _difference(
    positive: Group,
    negative: Group,
    settings: ExtractionSettings,
    metadata: VectorMetadata,
    *,
    norms: np.ndarray | None = None,
) -> SteeringVector:
    plus, minus = positive.moments(), negative.moments()
    difference = (plus.mean - minus.mean).astype(np.float32)
    reference = negative.median_norms() if norms is None else norms
    spread = np.sqrt(plus.variance.sum(1) / plus.count + minus.variance.sum(1) / minus.count)
    details: dict[str, JsonValue] = settings.model_dump(mode="json", exclude={"questions", "layers"})
    # how many standard errors the difference of means is long: near 1 it is noise
    details["signal_to_noise"] = {
        str(layer): float(np.linalg.norm(difference[k]) / max(float(spread[k]), 1e-12))
        for k, layer in enumerate(settings.layers)
    }
    return SteeringVector(
        {layer: difference[k] for k, layer in enumerate(settings.layers)},
        metadata.model_copy(
            update={
                "counts": {
                    "kept": plus.count,
                    "dropped": positive.dropped,
                    "contrast_kept": minus.count,
                    "contrast_dropped": negative.dropped,
                },
                "seed": settings.seed,
                "judge": "likelihood gain" if settings.filter else "",
                "data_hashes": {
                    "questions": data_hash(settings.questions),
                    "prompts": data_hash(metadata.system_prompts),
                },
                "reference_norms": {layer: float(reference[k]) for k, layer in enumerate(settings.layers)},
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "package_version": package_version(),
                "settings": details,
            }
        ),
    )


def data_hash(texts: Sequence[str]) -> str:
    """SHA-256 of a list of texts."""
    return hashlib.sha256(json.dumps(list(texts), ensure_ascii=False).encode()).hexdigest()
