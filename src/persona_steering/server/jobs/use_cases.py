"""The jobs there are: what the engine makes and measures, by name. A new one: one class, one line in `JOBS`."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import JsonValue, ValidationError

from persona_steering.engine.comparing import compare_stored, write_comparison
from persona_steering.engine.create import Creator
from persona_steering.engine.estimate import Work, baseline_work, creation_work, safety_work
from persona_steering.engine.measuring import CardMeasurement, LayersMeasurement, Measurement, SweepMeasurement
from persona_steering.engine.writing import open_writer
from persona_steering.errors import UsageError
from persona_steering.extraction.axes import MIN_PERSONAS
from persona_steering.personas import Persona, Trait, find_trait, load_archetype, trait_from_word
from persona_steering.personas.datasets import Datasets
from persona_steering.server.jobs.kinds import Artefact, Bench, JobControl, JobType, Outcome
from persona_steering.server.jobs.params import (
    AxesParams,
    CardParams,
    EffortParams,
    LayersParams,
    MeasureParams,
    PersonaParams,
    SimilarityParams,
    SweepParams,
    TraitParams,
)
from persona_steering.server.stores.job_models import Subject
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.card import active_calibration

Made = TypeVar("Made", PersonaParams, TraitParams)
Measured = TypeVar("Measured", bound=MeasureParams)
Subjected = TypeVar("Subjected", Persona, Trait)


class Creation(JobType[Made]):
    """A calibrated vector out of a persona or trait."""

    changes = "made"

    @abstractmethod
    def planned(self, params: Made) -> Persona | Trait:
        """What is made; where a model still has to write its prompts, others stand in for them."""

    def written(self, params: Made, creator: Creator) -> Persona | Trait:
        """What is made, with what a model had to write."""
        return self.planned(params)

    def check(self, params: Made, bench: Bench) -> None:
        Datasets(bench.config.datasets_dir).check_apart(params.own_questions)
        bench.manager.check_new(self.planned(params).name)

    def work(self, params: Made, bench: Bench) -> list[Work]:
        return creation_work(_creator(params, bench), self.planned(params))

    def run(self, params: Made, bench: Bench, control: JobControl) -> Outcome:
        creator = _creator(params, bench, control)
        subject = self.written(params, creator)
        # An earlier attempt may have been killed between storing the vector and saying so.
        vector = creator.create(subject, reuse=control.attempt > 1).vector
        folder = creator.run_folder(subject.name, creator.extraction_settings(subject), subject.model_dump(mode="json"))
        kind = vector.metadata.kind
        return Outcome(_described(vector, bench), Artefact(kind, vector.name, _model(bench), folder))


class CreatePersona(Creation[PersonaParams]):
    """`persona.create`"""

    name = "persona.create"
    params = PersonaParams

    def subject(self, params: PersonaParams) -> Subject:
        return Subject(kind="persona", name=params.name)

    def planned(self, params: PersonaParams) -> Persona:
        if params.archetype is not None:
            return load_archetype(params.archetype).model_copy(update={"name": params.name})
        prompts = params.system_prompts or tuple(
            f"Prompt {i}, yet to be written." for i in range(1, params.prompts + 1)
        )
        fields = {"name": params.name, "description": params.description or "", "system_prompts": prompts}
        return _checked(Persona, fields)

    def written(self, params: PersonaParams, creator: Creator) -> Persona:
        if params.archetype is None and params.system_prompts is None and params.description is not None:
            return creator.propose(params.name, params.description, prompts=params.prompts)
        return self.planned(params)


class CreateTrait(Creation[TraitParams]):
    """`trait.create`"""

    name = "trait.create"
    params = TraitParams

    def subject(self, params: TraitParams) -> Subject:
        return Subject(kind="trait", name=self.planned(params).name)

    def planned(self, params: TraitParams) -> Trait:
        trait_from_word(params.word, params.opposite)  # refuses a file's name: a request never names a path
        trait = find_trait(params.word, params.opposite)
        changes: dict[str, object] = {} if params.name is None else {"name": params.name}
        if params.own_questions:
            changes["questions"] = params.own_questions
        pairs = [{"pos": one.positive, "neg": one.negative} for one in params.pairs or ()]
        if pairs and pairs != [pair.model_dump() for pair in trait.pairs]:
            changes |= {"pairs": pairs, "source": "edited"}
        return _checked(Trait, trait.model_dump() | changes) if changes else trait


class ExtractAxes(JobType[AxesParams]):
    """`axes.extract`"""

    name = "axes.extract"
    changes = "made"
    params = AxesParams

    def subject(self, params: AxesParams) -> Subject:
        return Subject(kind="axis", name=params.which)

    def check(self, params: AxesParams, bench: Bench) -> None:
        if params.which == "assistant" and (missing := _missing_personas(bench)):
            raise UsageError(missing, hint="Make more personas first.")

    def work(self, params: AxesParams, bench: Bench) -> list[Work]:
        creator = _creator(params, bench)
        return baseline_work(creator) + (safety_work(creator) if params.which != "assistant" else [])

    def run(self, params: AxesParams, bench: Bench, control: JobControl) -> Outcome:
        creator = _creator(params, bench, control)
        axes = [creator.extract_safety_axis()] if params.which != "assistant" else []
        missing = _missing_personas(bench) if params.which != "safety" else ""
        if missing:
            control.log(f"No assistant axis: {missing}")
        elif params.which != "safety":
            axes.append(creator.extract_assistant_axis())
        made: list[JsonValue] = [_described(axis, bench) for axis in axes]
        return Outcome({"axes": made})


class MeasureJob(JobType[Measured]):
    """A measurement of a stored vector, with a report."""

    @abstractmethod
    def plan(self, params: Measured, bench: Bench) -> Measurement[Any]:
        """The measurement. Raises NotFoundError, UsageError or RecipeError for what cannot be measured."""

    def subject(self, params: Measured) -> Subject:
        return Subject(kind="vector", name=params.name)

    def check(self, params: Measured, bench: Bench) -> None:
        self.plan(params, bench)

    def work(self, params: Measured, bench: Bench) -> list[Work]:
        return self.plan(params, bench).work()

    def run(self, params: Measured, bench: Bench, control: JobControl) -> Outcome:
        measurement = self.plan(params, bench)
        done = measurement.run(progress=control.progress, cancelled=control.cancelled)
        result: dict[str, JsonValue] = {"name": params.name, "digest": measurement.vector.digest}
        folder = done.report.parent
        return Outcome(result, Artefact(measurement.kind, params.name, _model(bench), folder, done.data, done.report))


class SweepJob(MeasureJob[SweepParams]):
    """`sweep`"""

    name = "sweep"
    params = SweepParams

    def plan(self, params: SweepParams, bench: Bench) -> SweepMeasurement:
        return SweepMeasurement(
            *bench.parts,
            params.name,
            params.strengths,
            controls=params.controls,
            unit=params.unit(),
            scale=params.scale(),
        )


class LayersJob(MeasureJob[LayersParams]):
    """`layers`"""

    name = "layers"
    params = LayersParams

    def plan(self, params: LayersParams, bench: Bench) -> LayersMeasurement:
        return LayersMeasurement(
            *bench.parts,
            params.name,
            layers=params.layers,
            dose=params.dose,
            held_out=params.held_out,
            scale=params.scale(),
        )


class CardJob(MeasureJob[CardParams]):
    """`card`"""

    name = "card"
    changes = "changed"
    params = CardParams

    def plan(self, params: CardParams, bench: Bench) -> CardMeasurement:
        return CardMeasurement(
            *bench.parts,
            params.name,
            held_out=params.held_out,
            controls=params.controls,
            shuffles=params.shuffles,
            unit=params.unit(),
            scale=params.scale(),
        )


class SimilarityJob(JobType[SimilarityParams]):
    """`similarity`, which asks the model nothing."""

    name = "similarity"
    params = SimilarityParams

    def check(self, params: SimilarityParams, bench: Bench) -> None:
        compare_stored(bench.manager, params.names, layers=params.layers)  # a moment, for the model is not asked

    def work(self, params: SimilarityParams, bench: Bench) -> list[Work]:
        return []

    def run(self, params: SimilarityParams, bench: Bench, control: JobControl) -> Outcome:
        found = compare_stored(bench.manager, params.names, layers=params.layers)
        vectors = {name: bench.manager.load(name).digest for name in found.names}
        plan = json.dumps([vectors, list(found.layers)], sort_keys=True)
        folder = bench.config.runs_dir / f"similarity-{hashlib.sha256(plan.encode()).hexdigest()[:8]}"
        report = write_comparison(found, bench.model.identity, bench.config.runs_dir, folder)
        result: dict[str, JsonValue] = {"names": list(found.names)}
        names = ",".join(found.names)
        data = folder / "similarity.json"
        return Outcome(result, Artefact("similarity", names, _model(bench), folder, data, report))


JOBS: dict[str, JobType[Any]] = {
    job.name: job
    for job in (CreatePersona(), CreateTrait(), ExtractAxes(), SweepJob(), LayersJob(), CardJob(), SimilarityJob())
}


def _checked(kind: type[Subjected], fields: Mapping[str, object]) -> Subjected:
    """The persona or trait of some parameters. Raises UsageError that names the first that is wrong."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"parameter {where!r}: {first['msg']}.", hint="Correct it.") from error


def _creator(params: EffortParams, bench: Bench, control: JobControl | None = None) -> Creator:
    """A creator that tells `control`; without one, for counting only."""
    effort = params.to_effort()
    questions = params.own_questions if isinstance(params, PersonaParams) else ()  # a trait has its own with it
    if control is None:
        return Creator(*bench.parts, effort=effort, questions=questions)
    return Creator(
        *bench.parts,
        effort=effort,
        questions=questions,
        writer=open_writer(None, bench.config, local=lambda: bench.model.backend),
        progress=control.progress,
        cancelled=control.cancelled,
    )


def _model(bench: Bench) -> str:
    return bench.model.identity.fingerprint


def _missing_personas(bench: Bench) -> str:
    """Why there can be no assistant axis; empty when there can."""
    found = [entry for entry in bench.manager.entries() if entry.metadata and entry.metadata.kind == "persona"]
    if len(found) >= MIN_PERSONAS:
        return ""
    return f"the assistant axis needs {MIN_PERSONAS} personas of this model, and there are {len(found)}."


def _described(vector: SteeringVector, bench: Bench) -> dict[str, JsonValue]:
    """What was made, and whether it is weak."""
    facts: dict[str, JsonValue] = {
        "kind": vector.metadata.kind,
        "name": vector.name,
        "digest": vector.digest,
        "layers": list(vector.layers),
    }
    calibration = active_calibration(vector.metadata, safety=bench.config.steering.safety)
    if calibration is not None:
        facts |= {"weak": calibration.weak, "weak_reason": calibration.weak_reason}
    return facts
