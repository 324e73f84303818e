"""The evidence of a vector in one value: is it stable, does it tell, does it steer, and does nothing else do so too?

Most of it costs no generation: the answers that a vector was made from are on disk with their activations. What
cannot be measured stays None, with the reason beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from pydantic import Field

from persona_steering.backends.base import Backend, Progress, ProgressCallback, Text, conversation, no_progress
from persona_steering.errors import PersonaSteeringError
from persona_steering.evaluation import statistics
from persona_steering.evaluation.dosing import AnswerRecord, Asking, Dose, answer_records
from persona_steering.evaluation.held_out import Sides, band_projections
from persona_steering.extraction.contrast import data_hash
from persona_steering.scoring.effects import Ask, EffectMeter
from persona_steering.scoring.likelihood import Answer, mean_interval
from persona_steering.vectors import Interval, SteeringVector
from persona_steering.vectors.evidence import Discrimination, Evidence, Lens, Null, Stability, Steered
from persona_steering.vectors.metadata import package_version
from persona_steering.vectors.values import Closed

T = TypeVar("T")
MIN_QUESTIONS = 4  # two halves of two


class CardSettings(Closed):
    """How much is measured."""

    asking: Asking
    controls: int = Field(default=20, ge=2, description="random directions")
    shuffles: int = Field(default=20, ge=2, description="vectors from shuffled labels")
    resamples: int = Field(default=200, ge=20)
    splits: int = Field(default=100, ge=10)
    words: int = Field(default=20, ge=1, description="tokens of each end of the direction")


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not there to be measured on, and why."""

    reason: str


@dataclass(frozen=True)
class Subject:
    """A vector and what it can be measured on.

    `made_from` are the answers that the vector was made from, `held_out` those to other questions; `dose` is
    strength 1.0 and `system_prompts` evoke the persona or trait. `others` are the system prompts of other personas and
    traits of the model, by name.
    """

    vector: SteeringVector
    layers: tuple[int, ...]
    made_from: Sides | Missing
    held_out: Sides | Missing
    dose: Dose | Missing
    system_prompts: tuple[str, ...]
    others: Mapping[str, Sequence[str]]
    safe: bool = False


@dataclass(frozen=True)
class MeasuredCard:
    """The evidence, and the steered answers behind it."""

    evidence: Evidence
    answers: tuple[AnswerRecord, ...] = ()


def measure_card(
    backend: Backend,
    subject: Subject,
    settings: CardSettings,
    *,
    ask: Ask,
    progress: ProgressCallback = no_progress,
) -> MeasuredCard:
    """Measures all that can be. What the backend raises passes, but for a part that it cannot do at all."""
    missing: dict[str, str] = {}

    def present(value: T | Missing, *parts: str) -> T | None:
        if isinstance(value, Missing):
            missing.update(dict.fromkeys(parts, value.reason))
            return None
        return value

    made_from = present(subject.made_from, "stability", "shuffled_labels")
    held_out = present(subject.held_out, "discrimination", "shuffled_labels")
    reliable = made_from and present(_enough(made_from), "stability")
    dose = present(subject.dose, "steered", "random_directions", "selectivity")
    steering = None if dose is None else _steering(backend, subject, dose, settings, ask)
    if steering is not None and not subject.others:
        missing["selectivity"] = "there is no other persona or trait of this model with system prompts"
    lens = _lens(backend, subject, settings.words)
    seed, layers = settings.asking.seed, subject.layers
    evidence = Evidence(
        digest=subject.vector.digest,
        layers=layers,
        safe=subject.safe,
        stability=stability(reliable, layers, settings) if reliable else None,
        discrimination=discrimination(subject.vector, held_out, layers, seed) if held_out else None,
        steered=steering.steered if steering else None,
        random_directions=steering.null if steering else None,
        shuffled_labels=shuffled_labels(subject.vector, made_from, held_out, layers, settings)
        if made_from and held_out
        else None,
        selectivity=_selectivity(backend, subject, steering, progress) if steering and subject.others else None,
        lens=present(lens, "lens"),
        not_measured=missing,
        settings={
            **settings.model_dump(mode="json", exclude={"asking": {"questions"}}),
            "questions": data_hash(settings.asking.questions),
            "system_prompts": data_hash(subject.system_prompts),
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        package_version=package_version(),
    )
    answers = answer_records(steering.meter, steering.row) if steering else ()
    return MeasuredCard(evidence, answers)


def stability(sides: Sides, layers: Sequence[int], settings: CardSettings) -> Stability:
    """Split halves, resampled questions and the agreement of single questions; cosines are means over the layers."""
    seed = settings.asking.seed
    halves, drawn, agreements = [], [], []
    for layer in layers:
        means = sides.means(layer)
        halves.append(statistics.split_half_cosines(*means, *sides.questions, splits=settings.splits, seed=seed))
        drawn.append(statistics.bootstrap_cosines(*means, *sides.questions, resamples=settings.resamples, seed=seed))
        agreements.append(statistics.pairwise_agreement(_differences(means, sides.questions)))
    half = float(np.mean(halves))
    resampled = np.mean(drawn, axis=0)
    return Stability(
        split_half=half,
        reliability=statistics.spearman_brown(half) if half > -1 else None,
        splits=settings.splits,
        bootstrap_mean=float(resampled.mean()),
        bootstrap_low=float(np.quantile(resampled, 0.05)),
        resamples=len(resampled),
        agreement=float(np.mean(agreements)),
        questions=len(_shared_questions(sides.questions)),
    )


def discrimination(vector: SteeringVector, sides: Sides, layers: Sequence[int], seed: int) -> Discrimination:
    """AUROC and d' of held-out answers by their projection, and AUROC once their length is removed."""
    values = band_projections(vector, sides, layers)
    found = statistics.separation(*values, *sides.questions, seed=seed)
    adjusted = statistics.without_covariate(*values, *sides.lengths)
    return Discrimination(
        auroc=found.auroc,
        d_prime=found.d_prime,
        auroc_without_length=statistics.separation(*adjusted, *sides.questions, seed=seed).auroc,
        positives=len(values[0]),
        negatives=len(values[1]),
        questions=len({question for side in sides.questions for question in side}),
    )


def shuffled_labels(
    vector: SteeringVector, made_from: Sides, held_out: Sides, layers: Sequence[int], settings: CardSettings
) -> Null:
    """d' on held-out answers of vectors made from the same answers with their labels shuffled within each question."""
    pools = {layer: np.concatenate(made_from.means(layer)) for layer in layers}
    null = []
    for k in range(settings.shuffles):
        labels = statistics.permuted_sides(*made_from.questions, seed=settings.asking.seed + k)
        directions = {
            layer: (rows[labels].mean(0) - rows[~labels].mean(0)).astype(np.float32) for layer, rows in pools.items()
        }
        shuffled = SteeringVector(directions, vector.restrict(layers).metadata)
        null.append(statistics.d_prime(*band_projections(shuffled, held_out, layers)))
    return _null(statistics.d_prime(*band_projections(vector, held_out, layers)), null)


@dataclass(frozen=True)
class _Steering:
    meter: EffectMeter
    row: list[Answer | None]
    steered: Steered
    null: Null


def _steering(backend: Backend, subject: Subject, dose: Dose, settings: CardSettings, ask: Ask) -> _Steering:
    meter = settings.asking.meter(backend, subject.system_prompts, ask)
    probes = meter.reference.probes
    controls = [dose.control(1.0, settings.asking.seed + k) for k in range(settings.controls)]
    row, *random_rows = meter.measure([dose.recipe(1.0), *controls], probes, "card")
    effect = meter.evaluate([row], probes)
    effects = meter.effects(row, probes)
    steered = Steered(
        score=effect.score,
        gain=effect.gain,
        coherence=effect.coherence,
        anti_steered=statistics.anti_steered(effects),
        questions=len(probes),
    )
    null = [float(np.mean(meter.effects(other, probes))) for other in random_rows]
    return _Steering(meter, row, steered, _null(float(np.mean(effects)), null))


def _selectivity(
    backend: Backend, subject: Subject, steering: _Steering, progress: ProgressCallback
) -> dict[str, Interval]:
    """What the steered answers gain under the system prompts of the others: no new answers, only new readings."""
    base = steering.meter.reference.base
    pairs = [(plain, steered) for plain, steered in zip(base, steering.row, strict=True) if steered is not None]
    found: dict[str, Interval] = {}
    for done, (name, prompts) in enumerate(sorted(subject.others.items())):
        progress(Progress("selectivity", done, len(subject.others)))
        texts = [
            Text(conversation(one.probe.question, prompts[i % len(prompts)]), one.text)
            for i, pair in enumerate(pairs)
            for one in pair
        ]
        scores = [one.mean for one in backend.score(texts)]
        gains = [
            (scores[2 * i + 1] - steered.base_logprob) - (scores[2 * i] - plain.base_logprob)
            for i, (plain, steered) in enumerate(pairs)
        ]
        found[name] = mean_interval(gains)
    progress(Progress("selectivity", len(subject.others), len(subject.others)))
    return found


def _lens(backend: Backend, subject: Subject, words: int) -> Lens | Missing:
    layer = subject.layers[len(subject.layers) // 2]
    direction = subject.vector.direction(layer)
    try:
        positive, negative = (backend.unembed(sign * direction, top=words) for sign in (1, -1))
    except PersonaSteeringError as error:
        return Missing(error.message)
    return Lens(layer=layer, positive=positive, negative=negative)


def _null(value: float, null: Sequence[float]) -> Null:
    return Null(
        count=len(null),
        mean=float(np.mean(null)),
        low=min(null),
        high=max(null),
        value=value,
        z=statistics.z_score(value, null),
    )


def _enough(sides: Sides) -> Sides | Missing:
    count = len(_shared_questions(sides.questions))
    return (
        sides
        if count >= MIN_QUESTIONS
        else Missing(f"it was made from {count} questions, and {MIN_QUESTIONS} are needed")
    )


def _shared_questions(questions: tuple[list[str], list[str]]) -> list[str]:
    positive, negative = questions
    return [question for question in dict.fromkeys(positive) if question in set(negative)]


def _differences(means: tuple[np.ndarray, np.ndarray], questions: tuple[list[str], list[str]]) -> np.ndarray:
    """The difference of means of every question that both sides have, `[questions, hidden]`."""
    rows = []
    for question in _shared_questions(questions):
        plus, minus = (
            side[[i for i, q in enumerate(own) if q == question]].mean(0)
            for side, own in zip(means, questions, strict=True)
        )
        rows.append(plus - minus)
    return np.stack(rows)
