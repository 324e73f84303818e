"""The use cases behind `sweep`, `layers` and `card`: a name becomes a measurement, in a run folder with a report."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, JsonValue

from persona_steering.backends.base import ProgressCallback, Request, no_progress
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.calibration.layers import coefficients_for_dose
from persona_steering.config import Config
from persona_steering.engine.create import evoking_prompts
from persona_steering.engine.estimate import SCORES_PER_ANSWER, Work
from persona_steering.engine.names import public_id
from persona_steering.engine.origins import Origin, answers_made_from, find_origin, held_out_questions
from persona_steering.engine.steering import UNCALIBRATED_DOSE, SteeringEngine
from persona_steering.errors import NotFoundError, UsageError
from persona_steering.evaluation import pages
from persona_steering.evaluation.card import CardSettings, MeasuredCard, Missing, Subject, measure_card
from persona_steering.evaluation.dosing import Asking, Dose
from persona_steering.evaluation.held_out import Sides, ask_held_out
from persona_steering.evaluation.layers import LayerScan, LayersSettings, scan_layers
from persona_steering.evaluation.report import Report
from persona_steering.evaluation.sweep import Sweep, SweepSettings, run_sweep
from persona_steering.extraction.contrast import ExtractionSettings, data_hash
from persona_steering.extraction.run import Run
from persona_steering.files import write_atomically
from persona_steering.personas.datasets import Datasets
from persona_steering.personas.manager import PersonaManager
from persona_steering.vectors import SteeringVector, replace_metadata
from persona_steering.vectors.vector import layer_ranges

Value = TypeVar("Value")
HELD_OUT_PROMPTS = 1  # system prompts under which each held-out question is asked
HELD_OUT_TOKENS = 48
REPORT = "report.html"


@dataclass(frozen=True)
class Unit:
    """What strength 1.0 is: the calibration's dose, unless this says otherwise.

    `dose` is a relative dose shared over `layers`, `coefficient` multiplies the raw direction at each of them; `safe`
    None takes the configured choice.
    """

    layers: tuple[int, ...] | None = None
    dose: float | None = None
    coefficient: float | None = None
    safe: bool | None = None

    def __post_init__(self) -> None:
        if self.dose is not None and self.coefficient is not None:
            raise UsageError("a dose and a coefficient were both given.", hint="Give one of them.")
        for what, given in (("dose", self.dose), ("coefficient", self.coefficient)):
            if given is not None and not given > 0:
                raise UsageError(f"a {what} of {given:g} is none.", hint="Give a positive number.")
            if given is not None and self.layers is None:
                raise UsageError(f"a {what} was given without layers.", hint="Say where with --layers 10-17.")


@dataclass(frozen=True)
class Scale:
    """How much is asked, and where the result goes: `out` None is the run folder."""

    questions: int = 20
    max_new_tokens: int = 32
    seed: int = 0
    out: Path | None = None


@dataclass(frozen=True)
class Finished(Generic[Value]):
    """A measurement, and where it was written."""

    value: Value
    data: Path
    report: Path


class Measurement(ABC, Generic[Value]):
    """One measurement of one stored vector, planned. `work` says what it asks; `run` asks it, and writes the result.

    Every answer goes through a run folder, so the same measurement goes on where it was stopped. Planning raises
    NotFoundError for an unknown name, UsageError or RecipeError for options that cannot be honoured; running raises
    QualityError where nothing can be compared, and what the backend raises.
    """

    kind: str

    def __init__(self, model: ModelWrapper, manager: PersonaManager, config: Config, name: str, scale: Scale) -> None:
        self.model, self.manager, self.config, self.scale = model, manager, config, scale
        self.datasets = Datasets(config.datasets_dir)
        manager.bind(model.identity)
        self.vector = manager.load(name)
        self.vector.check_model(model.identity)
        self.origin: Origin = find_origin(self.vector, config, model.identity)
        self.prompts = evoking_prompts(self.origin.subject)
        self.asking = Asking(
            questions=held_out_questions(self.origin.subject, scale.questions, self.datasets),
            max_new_tokens=scale.max_new_tokens,
            seed=scale.seed,
        )

    @abstractmethod
    def work(self) -> list[Work]:
        """The phases, as if nothing were on disk yet."""

    @abstractmethod
    def run(
        self, *, progress: ProgressCallback = no_progress, cancelled: Callable[[], bool] | None = None
    ) -> Finished[Value]:
        """Measures, and writes the result and its report."""

    def texts(self, phase: str, answers: int) -> Work:
        """A phase whose answers are scored and not captured."""
        return Work(phase, answers, self.scale.max_new_tokens, SCORES_PER_ANSWER * answers, captured=False)

    def held_out_settings(self, layers: Sequence[int], questions: int) -> ExtractionSettings:
        """What is asked to see how well the vector tells."""
        return ExtractionSettings(
            questions=held_out_questions(self.origin.subject, questions, self.datasets),
            prompts_per_question=HELD_OUT_PROMPTS,
            max_new_tokens=max(self.scale.max_new_tokens, HELD_OUT_TOKENS),
            seed=self.scale.seed,
            layers=tuple(layers),
            filter=False,
        )

    def opened(self, settings: BaseModel, **more: JsonValue) -> Run:
        """The run folder of this measurement."""
        plan: dict[str, JsonValue] = {
            "measurement": self.kind,
            "name": self.vector.name,
            "vector": self.vector.digest,
            "model": self.model.identity.model_dump(mode="json"),
            "settings": settings.model_dump(mode="json"),
            **more,
        }
        digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:8]
        return Run(self.config.runs_dir / f"{self.kind}-{self.vector.name}-{digest}", plan)

    def asker(
        self, run: Run, progress: ProgressCallback, cancelled: Callable[[], bool] | None
    ) -> Callable[[Sequence[Request], str], list[str]]:
        """Answers to requests, from the run or the model."""

        def ask(requests: Sequence[Request], phase: str) -> list[str]:
            answers = run.answers(self.model.backend, requests, phase=phase, progress=progress, cancelled=cancelled)
            return [answer.text for answer in answers]

        return ask

    def facts(self, **more: str) -> dict[str, str]:
        """The head of the report."""
        return {
            "model": public_id(self.model.identity.id),
            "vector": f"{self.vector.name}, sha256 {self.vector.digest[:12]}",
            **more,
            **({"calibration": f"weak, {weak}"} if (weak := self._weakness()) else {}),
            "prompts": self.origin.said,
            "questions": f"held out, sha256 {data_hash(self.asking.questions)[:12]}",
            "seed": str(self.scale.seed),
        }

    def _weakness(self) -> str:
        calibration = self.vector.metadata.calibration
        return calibration.weak_reason if calibration else ""

    def finish(self, value: Value, data: BaseModel, report: Report, run: Run) -> Finished[Value]:
        """Writes both files."""
        folder = self.scale.out or run.folder
        path = folder / f"{self.kind}.json"
        write_atomically(path, f"{data.model_dump_json(indent=1)}\n".encode())
        report.write(folder / REPORT)
        return Finished(value, path, folder / REPORT)


class SweepMeasurement(Measurement[Sweep]):
    """Effect and coherence at every strength, beside random directions."""

    kind = "sweep"

    def __init__(
        self,
        model: ModelWrapper,
        manager: PersonaManager,
        config: Config,
        name: str,
        strengths: Sequence[float],
        *,
        controls: int = 2,
        unit: Unit | None = None,
        scale: Scale | None = None,
    ) -> None:
        super().__init__(model, manager, config, name, scale or Scale())
        self.dose, self.safe = unit_dose(SteeringEngine(model, manager, config), config, self.vector, unit or Unit())
        self.settings = SweepSettings(strengths=tuple(strengths), asking=self.asking, controls=controls)

    def work(self) -> list[Work]:
        active = sum(strength != 0 for strength in self.settings.strengths)
        count = len(self.asking.questions)
        steered = active * (1 + self.settings.controls) * count
        return [self.texts("reference", 2 * count), self.texts("sweep", steered)]

    def run(
        self, *, progress: ProgressCallback = no_progress, cancelled: Callable[[], bool] | None = None
    ) -> Finished[Sweep]:
        run = self.opened(self.settings, recipe=self.dose.recipe(1.0).hash)
        ask = self.asker(run, progress, cancelled)
        found = run_sweep(self.model.backend, self.dose, self.prompts, self.settings, ask=ask)
        facts = self.facts(**{"strength 1.0": described(self.dose, self.safe)})
        return self.finish(found, found, pages.sweep_report(self.vector.name, found, facts), run)


class LayersMeasurement(Measurement[LayerScan]):
    """How well each layer tells, and how strongly it steers alone. Measured raw, without the floor."""

    kind = "layers"

    def __init__(
        self,
        model: ModelWrapper,
        manager: PersonaManager,
        config: Config,
        name: str,
        *,
        layers: Sequence[int] | None = None,
        dose: float | None = None,
        held_out: int = 20,
        scale: Scale | None = None,
    ) -> None:
        super().__init__(model, manager, config, name, scale or Scale(questions=8))
        calibration = self.vector.metadata.calibration
        self.band = calibration.layers if calibration else ()
        chosen = tuple(layers) if layers is not None else self.vector.layers
        for layer in chosen:
            self.vector.direction(layer)
        amount = dose if dose is not None else calibration.relative_dose if calibration else UNCALIBRATED_DOSE
        if not amount > 0:
            raise UsageError(f"a dose of {amount:g} is none.", hint="Give a positive number.")
        self.settings = LayersSettings(layers=chosen, dose=amount, asking=self.asking)
        self.held_out = self.held_out_settings(chosen, held_out)

    def work(self) -> list[Work]:
        count = len(self.asking.questions)
        return [
            Work("held out", 2 * len(self.held_out.questions), self.held_out.max_new_tokens),
            self.texts("reference", 2 * count),
            self.texts("layers", 2 * len(self.settings.layers) * count),
        ]

    def run(
        self, *, progress: ProgressCallback = no_progress, cancelled: Callable[[], bool] | None = None
    ) -> Finished[LayerScan]:
        run = self.opened(self.settings, held_out=self.held_out.model_dump(mode="json"))
        backend, subject = self.model.backend, self.origin.subject
        sides = ask_held_out(backend, subject, self.held_out, run=run, progress=progress, cancelled=cancelled)
        ask = self.asker(run, progress, cancelled)
        found = scan_layers(backend, self.vector, self.prompts, sides, self.settings, ask=ask, band=self.band)
        facts = self.facts(dose=f"{self.settings.dose:.3g} of the hidden state, at one layer at a time")
        return self.finish(found, found, pages.layers_report(self.vector.name, found, facts), run)


class CardMeasurement(Measurement[MeasuredCard]):
    """All evidence of a vector, stored with it."""

    kind = "card"

    def __init__(
        self,
        model: ModelWrapper,
        manager: PersonaManager,
        config: Config,
        name: str,
        *,
        held_out: int = 20,
        controls: int = 20,
        shuffles: int = 20,
        unit: Unit | None = None,
        scale: Scale | None = None,
    ) -> None:
        super().__init__(model, manager, config, name, scale or Scale())
        engine = SteeringEngine(model, manager, config)
        self.dose: Dose | Missing
        try:
            self.dose, self.safe = unit_dose(engine, config, self.vector, unit or Unit())
        except NotCalibratedError as error:  # the rest of the card can be measured all the same
            self.dose, self.safe = Missing(error.message.rstrip(".")), False
        self.layers = self.dose.layers if isinstance(self.dose, Dose) else self.vector.layers
        self.settings = CardSettings(asking=self.asking, controls=controls, shuffles=shuffles)
        self.held_out = self.held_out_settings(self.layers, held_out)

    def work(self) -> list[Work]:
        count = len(self.asking.questions)
        work = [Work("held out", 2 * len(self.held_out.questions), self.held_out.max_new_tokens)]
        if isinstance(self.dose, Dose):
            work += [self.texts("reference", 2 * count), self.texts("card", (1 + self.settings.controls) * count)]
            work.append(Work("selectivity", 0, 0, 2 * count * len(self._others()), captured=False))
        return work

    def run(
        self, *, progress: ProgressCallback = no_progress, cancelled: Callable[[], bool] | None = None
    ) -> Finished[MeasuredCard]:
        recipe = self.dose.recipe(1.0).hash if isinstance(self.dose, Dose) else ""
        run = self.opened(self.settings, held_out=self.held_out.model_dump(mode="json"), recipe=recipe)
        backend, vector = self.model.backend, self.vector
        made_from = answers_made_from(backend, self.origin, vector, self.config, progress=progress, cancelled=cancelled)
        sides: Sides = ask_held_out(
            backend, self.origin.subject, self.held_out, run=run, progress=progress, cancelled=cancelled
        )
        subject = Subject(
            vector=vector,
            layers=self.layers,
            made_from=made_from,
            held_out=sides,
            dose=self.dose,
            system_prompts=self.prompts,
            others=self._others(),
            safe=self.safe,
        )
        ask = self.asker(run, progress, cancelled)
        found = measure_card(backend, subject, self.settings, ask=ask, progress=progress)
        kept = replace_metadata(vector, vector.metadata.model_copy(update={"evidence": found.evidence}))
        self.manager.save(kept)
        about = described(self.dose, self.safe) if isinstance(self.dose, Dose) else self.dose.reason
        report = pages.card_report(kept, found, self.facts(**{"strength 1.0": about}))
        return self.finish(found, kept.metadata, report, run)

    def _others(self) -> Mapping[str, Sequence[str]]:
        """The system prompts of the model's other personas and traits; a copy of this one is no other."""
        own = self.vector.metadata
        entries = [entry.metadata for entry in self.manager.entries() if entry.metadata]
        return {
            one.name: one.system_prompts
            for one in entries
            if one.kind in ("persona", "trait") and one.made_as != own.made_as and one.system_prompts
        }


class NotCalibratedError(UsageError):
    """A vector without a calibration, where nothing else says what strength 1.0 is."""


def unit_dose(engine: SteeringEngine, config: Config, vector: SteeringVector, unit: Unit) -> tuple[Dose, bool]:
    """Strength 1.0 of a stored vector, and whether that is its safe form under the floor.

    Raises NotCalibratedError; RecipeError for a layer that is not there; NotFoundError without a safety axis.
    """
    safe = config.steering.safety if unit.safe is None else unit.safe
    if safe and not engine.manager.has_safety_axis():
        raise NotFoundError(
            f"the model {engine.model.identity.id!r} has no safety axis, so nothing can be measured with safety.",
            hint="Measure the raw vector with --raw, or make the axis with: persona-steer extract-axes safety",
        )
    used = engine.manager.get_vector(vector.name, safe=safe)
    calibration = used.metadata.calibration or vector.metadata.calibration
    bounds = (engine.safety_floor(),) if safe else ()
    if unit.layers is not None and unit.coefficient is not None:
        for layer in unit.layers:
            used.direction(layer)
        return Dose(used, dict.fromkeys(unit.layers, unit.coefficient), bounds), safe
    amount = unit.dose if unit.dose is not None else calibration.relative_dose if calibration else None
    if amount is None or (unit.layers is None and calibration is None):
        raise NotCalibratedError(
            f"{vector.name!r} is not calibrated, so none of its strengths is a measured one.",
            hint="Say what strength 1.0 is with --layers 10-17 --dose 0.2, or make it with: persona-steer create",
        )
    if unit.layers is None:
        assert calibration is not None
        return Dose(used, calibration.coefficients, bounds), safe
    return Dose(used, coefficients_for_dose(used, unit.layers, amount), bounds), safe


def described(dose: Dose, safe: bool) -> str:
    """Strength 1.0 in words."""
    where = f"layer{'s' if len(dose.layers) > 1 else ''} {layer_ranges(dose.layers)}"
    size = "a given coefficient" if dose.relative is None else f"{dose.relative:.2g} of the hidden state"
    return f"{size} at {where}, {'safe, under the floor' if safe else 'raw'}"
