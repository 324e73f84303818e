"""From a description to a calibrated vector: the use case behind `create`, `extract-axes` and `quickstart`.

    baseline run (shared) -> persona or trait run -> raw vector -> safety axis -> calibration -> store

Every generation goes through a run folder, so a killed command resumes where it was and ends with the same vector.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from persona_steering.backends.base import Backend, ProgressCallback, Request, no_progress
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.calibration.dose import CalibrationSettings, DoseSearch
from persona_steering.config import Config
from persona_steering.engine.examples import Examples, keep_examples
from persona_steering.engine.steering import SteeringEngine
from persona_steering.engine.writing import propose_persona
from persona_steering.errors import UsageError
from persona_steering.extraction.axes import MIN_PERSONAS, assistant_axis, baseline_vector, safety_axis
from persona_steering.extraction.contrast import (
    Extraction,
    ExtractionSettings,
    Group,
    extract_baseline,
    extract_persona,
    extract_trait,
)
from persona_steering.extraction.run import Run
from persona_steering.personas import Persona, Trait
from persona_steering.personas.datasets import Datasets
from persona_steering.personas.manager import PersonaManager
from persona_steering.vectors import ModelIdentity, SteeringVector, orthogonalize_persona, replace_metadata
from persona_steering.vectors.card import MEASURED_WITH

LEAST_CONFIRMING = 4  # questions that a dose is confirmed on, beside those that chose it


class Effort(BaseModel):
    """How much is measured. More answers make a cleaner direction and narrower intervals, and take longer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts_per_question: int = Field(default=3, ge=1)
    questions: int | None = Field(default=None, description="None: the configured number")
    max_new_tokens: int | None = Field(default=None, description="None: the configured number")
    calibration_questions: int = Field(default=40, ge=8, le=40)
    search_questions: int = 12
    coarse_questions: int = 6
    coarse_doses: tuple[float, ...] = (0.14, 0.24, 0.36)
    search_bands: int = Field(default=2, ge=1, description="bands whose doses are searched finely")
    search_coherence: float = Field(default=72, description="lowest mean coherence of a dose in the search")
    controls: int = 2
    safety_prompts: int = Field(default=100, ge=8, le=200, description="of each kind")


EFFORTS = {
    "quick": Effort(
        prompts_per_question=2,
        questions=16,
        max_new_tokens=36,
        calibration_questions=20,
        search_questions=8,
        coarse_questions=5,
        search_bands=1,
        # Few questions make a noisy search, and smoothing noise errs to the weak side; the confirmation steps down.
        search_coherence=66,
        controls=1,
        safety_prompts=24,
    ),
    "standard": Effort(),
    "thorough": Effort(questions=40, prompts_per_question=5, controls=4, safety_prompts=200),
}


@dataclass(frozen=True)
class Created:
    """A stored vector, and whether it was there before."""

    vector: SteeringVector
    reused: bool


class Creator:
    """Makes vectors and axes for one model. `progress` hears of every phase; `cancelled` is asked every token.

    Questions and prompts are the workspace's own where it has some; `questions` are asked of a persona in their place.
    `writer` is the backend that writes system prompts from a description; None: the model itself.
    """

    def __init__(
        self,
        model: ModelWrapper,
        manager: PersonaManager,
        config: Config,
        *,
        effort: Effort | None = None,
        questions: Sequence[str] = (),
        writer: Backend | None = None,
        progress: ProgressCallback = no_progress,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self.model, self.manager, self.config = model, manager, config
        self.datasets = Datasets(config.datasets_dir)
        self._writer = writer
        self.effort, self._questions = effort or EFFORTS["standard"], tuple(questions)
        self._progress, self._cancelled = progress, cancelled
        self._latest_baseline: tuple[Path, Group] | None = None  # a creation asks for it twice
        manager.bind(model.identity)

    def create(self, subject: Persona | Trait, *, reuse: bool = False) -> Created:
        """Extracts, calibrates and stores a persona or trait.

        With `reuse` an existing vector is returned as it is; without, a name in use raises UsageError. A vector
        that does not steer this model is stored too, marked weak with the reason.
        """
        if subject.name in self.manager.list_available():
            if reuse:
                return Created(self.manager.load(subject.name), reused=True)
            raise UsageError(
                f"{subject.name!r} exists already for this model.",
                hint=f"Delete it first (persona-steer delete {subject.name}), or choose another name.",
            )
        settings = self.extraction_settings(subject)
        self.calibration_settings()  # too few questions are refused before anything is asked
        baseline = self._baseline(settings)
        safety = self.manager.safety_axis() if self.manager.has_safety_axis() else self.extract_safety_axis()
        run = self._run(subject.name, settings, subject.model_dump(mode="json"))
        extraction = self._extract(subject, settings, run, baseline)
        vector = self._calibrated(extraction.vector, subject, run, safety)
        self.manager.save(vector)
        if isinstance(subject, Persona):
            self.refresh_assistant_axis()
        return Created(vector, reused=False)

    def propose(self, name: str, description: str, *, prompts: int = 5) -> Persona:
        """The persona of a description: the workspace's, if it has it, else `prompts` are newly written and saved.

        Raises: as `propose_persona`.
        """
        return propose_persona(
            self._writer or self.model.backend,
            self.datasets,
            name,
            description,
            prompts=prompts,
            seed=self.config.extraction.seed,
            progress=self._progress,
            cancelled=self._cancelled,
        )

    def create_from_description(self, name: str, description: str) -> SteeringVector:
        """Writes a persona's system prompts, then as `create`. Raises as `propose` and `create`."""
        return self.create(self.propose(name, description)).vector

    def extract_baseline(self) -> None:
        """Has the model answer without a system prompt, and stores the mean: the assistant baseline."""
        self._baseline(self._base_settings())

    def extract_safety_axis(self) -> SteeringVector:
        """Extracts and stores the safety axis with its floors."""
        safe, unsafe = self.safety_prompts()
        settings = self._base_settings()
        run = self._run("safety", settings, [*safe, *unsafe])
        axis = safety_axis(
            self.model.backend,
            safe,
            unsafe,
            settings,
            run=run,
            progress=self._progress,
            cancelled=self._cancelled,
        )
        self.manager.save(axis)
        return axis

    def extract_assistant_axis(self) -> SteeringVector:
        """Extracts the baseline, and the assistant axis from the personas there are. Raises UsageError below two."""
        settings = self._base_settings()
        baseline = self._baseline(settings)
        axis = assistant_axis(self._personas(), baseline, settings.layers)
        self.manager.save(axis)
        return axis

    def refresh_assistant_axis(self) -> SteeringVector | None:
        """The assistant axis of the present personas; None (and no stale axis kept) while there are too few."""
        if len(self._personas()) >= MIN_PERSONAS:
            return self.extract_assistant_axis()
        if self.manager.store.exists("axis", "assistant", self.manager.model):
            self.manager.store.delete("axis", "assistant", self.manager.model)
        return None

    def safety_prompts(self) -> tuple[list[str], list[str]]:
        """The safe and the unsafe prompts behind the safety axis, as many as the effort says."""
        count = self.effort.safety_prompts
        safe, unsafe = (
            [item.prompt for item in self.datasets.safety_prompts(kind, count)] for kind in ("safe", "unsafe")
        )
        return safe, unsafe

    def extraction_settings(self, subject: Persona | Trait | None = None) -> ExtractionSettings:
        """What is asked for an extraction; without a subject, for the baseline and the axes."""
        settings = self._base_settings()
        own: tuple[str, ...] = ()
        if subject is not None:
            own = subject.questions if isinstance(subject, Trait) else self._questions
        return settings.model_copy(update={"questions": own}) if own else settings

    def calibration_settings(self) -> CalibrationSettings:
        """How a dose is searched. Raises UsageError where the workspace has too few questions."""
        effort = self.effort
        questions = self.datasets.calibration_questions()[: effort.calibration_questions]
        least = effort.search_questions + LEAST_CONFIRMING
        if len(questions) < least:
            raise UsageError(
                f"the questions of the workspace leave {len(questions)} for calibration, and {least} are needed.",
                hint="Write more (persona-steer datasets generate questions --replace), or delete that file.",
            )
        return CalibrationSettings(
            questions=questions,
            search_questions=effort.search_questions,
            coarse_questions=effort.coarse_questions,
            coarse_doses=effort.coarse_doses,
            fine_bands=effort.search_bands,
            search_coherence=effort.search_coherence,
            controls=effort.controls,
            seed=self.config.extraction.seed,
        )

    def _extract(self, subject: Persona | Trait, settings: ExtractionSettings, run: Run, baseline: Group) -> Extraction:
        backend, progress, cancelled = self.model.backend, self._progress, self._cancelled
        if isinstance(subject, Persona):
            return extract_persona(
                backend, subject, settings, run=run, baseline=baseline, progress=progress, cancelled=cancelled
            )
        return extract_trait(
            backend, subject, settings, run=run, baseline=baseline, progress=progress, cancelled=cancelled
        )

    def _calibrated(
        self, vector: SteeringVector, subject: Persona | Trait, run: Run, safety: SteeringVector
    ) -> SteeringVector:
        def ask(requests: Sequence[Request], phase: str) -> list[str]:
            answered = run.answers(
                self.model.backend, requests, phase=phase, progress=self._progress, cancelled=self._cancelled
            )
            return [answer.text for answer in answered]

        search = DoseSearch(self.model.backend, evoking_prompts(subject), self.calibration_settings(), ask=ask)
        floor = SteeringEngine(self.model, self.manager, self.config).safety_floor()
        raw, safe = search.calibrate(vector, safe=orthogonalize_persona(vector, safety), floor=floor)
        if safe is not None:
            safe = safe.model_copy(update={"settings": {**safe.settings, MEASURED_WITH: safety.digest}})
        shown = Examples(
            source="creation", vector=vector.digest, strength=1.0, safe=safe is not None, data=search.examples
        )
        keep_examples(run.folder, shown)
        metadata = vector.metadata.model_copy(update={"calibration": raw, "safe_calibration": safe})
        return replace_metadata(vector, metadata)

    def _baseline(self, settings: ExtractionSettings) -> Group:
        run = self._run("baseline", settings, None)
        if self._latest_baseline is not None and self._latest_baseline[0] == run.folder:
            group = self._latest_baseline[1]
        else:
            group = extract_baseline(
                self.model.backend, settings, run=run, progress=self._progress, cancelled=self._cancelled
            )
            self._latest_baseline = run.folder, group
        self.manager.save(baseline_vector(group, settings, self.model.identity))
        return group

    def _base_settings(self) -> ExtractionSettings:
        config, effort = self.config.extraction, self.effort
        count = effort.questions or config.num_questions
        layers = self.model.layers if config.target_layers == "auto" else tuple(config.target_layers)
        return ExtractionSettings(
            questions=self.datasets.extraction_questions(count),
            prompts_per_question=effort.prompts_per_question,
            samples=config.num_samples_per_prompt,
            max_new_tokens=effort.max_new_tokens or config.max_new_tokens,
            temperature=config.temperature,
            seed=config.seed,
            layers=layers,
        )

    def _personas(self) -> list[SteeringVector]:
        names = [entry.name for entry in self.manager.entries() if entry.metadata and entry.metadata.kind == "persona"]
        return [self.manager.load(name) for name in sorted(names)]

    def run_folder(self, name: str, settings: ExtractionSettings, subject: JsonValue) -> Path:
        """Where the answers of a run are kept; nothing is created."""
        return run_place(self.config, self.model.identity, name, settings, subject)[0]

    def _run(self, name: str, settings: ExtractionSettings, subject: JsonValue) -> Run:
        return Run(*run_place(self.config, self.model.identity, name, settings, subject))


def run_place(
    config: Config, identity: ModelIdentity, name: str, settings: ExtractionSettings, subject: JsonValue
) -> tuple[Path, dict[str, JsonValue]]:
    """The folder of a run and its plan, of which the folder's name is a digest; nothing is created."""
    plan: dict[str, JsonValue] = {
        "name": name,
        "model": identity.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "subject": subject,
    }
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:8]
    return config.runs_dir / f"{name}-{digest}", plan


def evoking_prompts(subject: Persona | Trait) -> tuple[str, ...]:
    """The system prompts that evoke a persona, or the positive side of a trait."""
    return subject.system_prompts if isinstance(subject, Persona) else tuple(pair.pos for pair in subject.pairs)
