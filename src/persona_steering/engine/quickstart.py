"""The first run: a persona from its archetype, then a few questions answered plainly and in character, measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from persona_steering.backends.base import Progress, ProgressCallback, Request, Sampling, conversation, no_progress
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.config import Config
from persona_steering.engine.create import EFFORTS, Creator
from persona_steering.engine.steering import SteeringEngine
from persona_steering.errors import QualityError
from persona_steering.interventions import Recipe
from persona_steering.personas import load_archetype
from persona_steering.personas.manager import PersonaManager
from persona_steering.scoring.coherence import CoherenceScale
from persona_steering.scoring.likelihood import Answer, make_probes, score_answers
from persona_steering.vectors import Calibration, SteeringVector

# None of the shipped extraction or calibration questions.
QUESTIONS = (
    "What should I do on a rainy day?",
    "How do I make new friends in a new town?",
    "Tell me what you had for breakfast.",
)
MIN_SCORE = 0.5
MIN_COHERENCE = 60.0


@dataclass(frozen=True)
class Lane:
    """One answer, measured. `score` is None where the model does not take the persona from a prompt."""

    text: str
    score: float | None
    coherence: float


@dataclass(frozen=True)
class QuickstartResult:
    """What the first run found. `calibration` is that of the vector as it was used (safe)."""

    vector: SteeringVector
    calibration: Calibration
    path: Path
    reused: bool
    questions: tuple[str, ...]
    base: tuple[Lane, ...]
    steered: tuple[Lane, ...]

    @property
    def failure(self) -> QualityError | None:
        """What is missing for persona score and coherence to pass MIN_SCORE and MIN_COHERENCE; None when they do."""
        score, coherence = self.calibration.persona_score, self.calibration.coherence
        hint = "Try another archetype with --archetype, or persona-steer create NAME --thorough."
        if score is None or coherence is None:
            return QualityError(f"{self.vector.name!r} passes no threshold: {self.calibration.weak_reason}.", hint=hint)
        if score.mean >= MIN_SCORE and coherence.mean >= MIN_COHERENCE:
            return None
        return QualityError(
            f"persona score {score.mean:.2f} and coherence {coherence.mean:.0f} were measured, "
            f"and {MIN_SCORE} and {MIN_COHERENCE:.0f} are asked for.",
            hint=hint,
        )


def run_quickstart(
    model: ModelWrapper,
    manager: PersonaManager,
    config: Config,
    *,
    archetype: str = "sage",
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> QuickstartResult:
    """Creates the persona (or takes the one there is), and answers QUESTIONS with and without it."""
    persona = load_archetype(archetype)
    creator = Creator(model, manager, config, effort=EFFORTS["quick"], progress=progress, cancelled=cancelled)
    created = creator.create(persona, reuse=True)
    steering = SteeringEngine(model, manager, config).steering({persona.name: 1.0})
    calibration = created.vector.metadata.safe_calibration if steering.safety else created.vector.metadata.calibration
    if calibration is None:
        raise QualityError(
            f"{persona.name!r} was stored without a calibration.",
            hint=f"Delete it (persona-steer delete {persona.name}) and run this again.",
        )
    progress(Progress("answers", 0, 2 * len(QUESTIONS)))
    recipes = (Recipe(), steering.recipe)
    requests = [
        Request(conversation(question), recipe, Sampling(max_new_tokens=60, seed=seed))
        for recipe in recipes
        for seed, question in enumerate(QUESTIONS)
    ]
    texts = [done.text for done in model.backend.generate(requests, cancelled=cancelled)]
    progress(Progress("answers", len(requests), len(requests), texts[-1]))
    probes = make_probes(QUESTIONS, persona.system_prompts)
    answers = score_answers(model.backend, list(zip([*probes, *probes], texts, strict=True)))
    base, steered = answers[: len(probes)], answers[len(probes) :]
    kind = created.vector.metadata.kind
    return QuickstartResult(
        vector=created.vector,
        calibration=calibration,
        path=manager.store.path(kind, persona.name, model.identity),
        reused=created.reused,
        questions=QUESTIONS,
        base=tuple(lane(text, own, own, calibration) for text, own in zip(texts, base, strict=False)),
        steered=tuple(
            lane(text, own, plain, calibration)
            for text, own, plain in zip(texts[len(probes) :], steered, base, strict=True)
        ),
    )


def lane(text: str, answer: Answer | None, base: Answer | None, calibration: Calibration) -> Lane:
    """One measured answer: its gain over the base answer in units of the calibration's prompted effect."""
    effect = calibration.prompted_gain
    scale = CoherenceScale(**calibration.settings["scale"])  # type: ignore[arg-type]
    score = None
    if calibration.persona_score is not None and effect is not None and answer is not None and base is not None:
        score = (answer.gain - base.gain) / effect.mean
    return Lane(text.strip(), score, scale(answer))
