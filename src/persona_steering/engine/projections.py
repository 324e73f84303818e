"""The use cases behind `project`, `shift` and `screen`: names and files become readouts, a run folder and a report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from persona_steering.backends.base import Backend, ProgressCallback, Sampling, no_progress
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.config import Config
from persona_steering.engine.estimate import Work
from persona_steering.engine.evaluating import read_trait
from persona_steering.errors import CapabilityError, UsageError
from persona_steering.evaluation.project import PHASE, Projected, column_names, project_file
from persona_steering.evaluation.projection_reports import projected_report, screened_report, shifted_report
from persona_steering.evaluation.readouts import CONTROLS, ProjectionKind, Reader, Readout, make_readouts
from persona_steering.evaluation.samples import Sample, SampleFile, open_samples
from persona_steering.evaluation.screen import (
    OWN,
    Screened,
    choose,
    pushes,
    screen_samples,
    values_csv,
)
from persona_steering.evaluation.screen import PHASE as DIFFERENCES
from persona_steering.evaluation.shift import BASE, TUNED, Shift, measure_shift
from persona_steering.extraction.run import Run
from persona_steering.files import atomic_writer
from persona_steering.personas.datasets import Datasets
from persona_steering.personas.manager import PersonaManager
from persona_steering.vectors import ModelIdentity, SteeringVector

REPORT = "report.html"


@dataclass(frozen=True)
class Projecting:
    """What is to be projected, and where it goes. `out` None is a side file beside `file`."""

    file: Path
    vectors: tuple[str, ...]
    layers: tuple[int, ...] | None = None
    kind: ProjectionKind = "proj"
    out: Path | None = None
    in_place: bool = False
    overwrite: bool = False

    @property
    def target(self) -> Path:
        """The file that is written."""
        if self.in_place:
            return self.file
        return self.out or self.file.with_name(f"{self.file.stem}.projections.csv")

    def check(self) -> SampleFile:
        """The opened file, where nothing speaks against writing. Raises UsageError or NotFoundError.

        Whatever can be refused is refused here, before a model is loaded.
        """
        samples = open_samples(self.file)
        if self.in_place and self.out is not None:
            raise UsageError("--in-place and --out were both given.", hint="Give one of them, or neither.")
        if not self.in_place and self.target.resolve() == self.file.resolve():
            raise UsageError(f"{self.file.name!r} would be written over itself.", hint="If so be it: --in-place.")
        if self.target != self.file and self.target.exists() and not self.overwrite:
            raise UsageError(f"{self.target} exists already.", hint="Replace it with --overwrite, or give --out FILE.")
        if self.out is not None and self.out.suffix.lower() != self.file.suffix.lower():
            raise UsageError(
                f"{self.out.name!r} cannot hold the rows of {self.file.name!r}.",
                hint=f"Give it the ending {self.file.suffix}.",
            )
        return samples


def project(
    model: ModelWrapper,
    manager: PersonaManager,
    config: Config,
    asked: Projecting,
    *,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Projected:
    """The projections of the answers in a file, written beside them or into it, with a report in a run folder.

    Raises UsageError, NotFoundError, ModelMismatchError, RecipeError, CancelledError and StorageError.
    """
    samples = asked.check()
    readouts = find_readouts(manager, asked.vectors, asked.layers, model.identity)
    column_names(samples, model.identity, readouts, asked.kind, overwrite=asked.overwrite)
    plan = _plan("project", model.identity, readouts, {"file": samples.digest(), "type": asked.kind})
    run = _open_run(config, plan)
    found = project_file(
        samples,
        Reader(model.backend, readouts, asked.kind),
        out=asked.target,
        layout="copy" if asked.in_place or asked.out is not None else "side",
        run=run,
        overwrite=asked.overwrite,
        progress=progress,
        cancelled=cancelled,
    )
    projected_report(found).write(run.folder / REPORT)
    return found


def project_work(asked: Projecting) -> list[Work]:
    """What `project` would read; no model is needed. Raises as `Projecting.check`."""
    rows = sum(1 for sample in asked.check() if sample.text is not None)
    return [Work(PHASE, 0, 0, rows, captured=False)]


@dataclass(frozen=True)
class Shifting:
    """Which two models are compared, along which vectors of the base model, on which trait's questions.

    Without a trait the shipped questions are asked that no vector is extracted from. `tuned` is named as any model.
    """

    tuned: str
    vectors: tuple[str, ...]
    layers: tuple[int, ...] | None = None
    trait: str | None = None
    count: int | None = None

    def questions(self) -> tuple[str, ...]:
        """The questions, the first `count` of them. Raises UsageError and NotFoundError."""
        if self.trait is None:
            questions = Datasets(None).calibration_questions()
        else:
            questions = read_trait(self.trait, "eval").evaluation_questions
            if not questions:
                raise UsageError(
                    f"the trait {self.trait!r} has no evaluation questions.",
                    hint="Take a trait of the library, or leave --trait out.",
                )
        if self.count is not None and self.count > len(questions):
            raise UsageError(f"{self.count} questions were asked for, and there are {len(questions)}.")
        return questions[: self.count]

    def check(self) -> None:
        """Refuses what can be refused before a model is loaded. Raises UsageError, NotFoundError, CapabilityError."""
        self.questions()
        _refuse_adapter(self.tuned)
        if not self.vectors:
            raise UsageError("no vector was named.", hint="Give --vector NAME, or a file.")


def shift(
    config: Config,
    manager: PersonaManager,
    asked: Shifting,
    *,
    open_model: Callable[[Config], Backend],
    progress: ProgressCallback = no_progress,
) -> Shift:
    """How far finetuning has moved the configured model along some vectors, with a report in a run folder.

    `open_model` loads the model that a configuration names; the base model is closed before the tuned one is opened.
    Raises as `measure_shift` and `make_readouts`.
    """
    asked.check()
    # a configured revision is one of the base model's repository
    tuned_model = config.model.model_copy(update={"name": asked.tuned, "revision": None})
    tuned = config.model_copy(update={"model": tuned_model})
    made: list[Run] = []

    def make(identity: ModelIdentity) -> tuple[Readout, ...]:
        manager.bind(identity)
        readouts = find_readouts(manager, asked.vectors, asked.layers, identity)
        given: dict[str, JsonValue] = {"tuned": asked.tuned, "questions": list(asked.questions())}
        made.append(_open_run(config, _plan("shift", identity, readouts, given)))
        return readouts

    found = measure_shift(
        lambda: open_model(config),
        lambda: open_model(tuned),
        asked.questions(),
        make,
        seed=config.extraction.seed,
        progress=progress,
    ).model_copy(update={"run": made[0].folder})
    shifted_report(found).write(made[0].folder / REPORT)
    return found


def shift_work(asked: Shifting) -> list[Work]:
    """What `shift` would read of each model."""
    count = len(asked.questions())
    return [Work(BASE, 0, 0, count, captured=False), Work(TUNED, 0, 0, count, captured=False)]


@dataclass(frozen=True)
class Screening:
    """Which data set is screened, along which vectors. `sample` draws so many of its lines."""

    file: Path
    vectors: tuple[str, ...]
    layers: tuple[int, ...] | None = None
    top: int = 20
    sample: int | None = None
    out: Path | None = None

    def check(self, seed: int) -> list[Sample]:
        """The samples that are to be measured. Raises UsageError and NotFoundError, before a model is loaded."""
        if self.file.suffix.lower() == ".csv":
            raise UsageError(
                f"{self.file.name!r} holds prompts that are already rendered, which no model can be asked again.",
                hint='Screen a .jsonl file of {"messages": [...]}.',
            )
        samples = list(open_samples(self.file))
        if not any(sample.text for sample in samples):
            reason = f"Line {samples[0].line}: {samples[0].problem}." if samples else "It is empty."
            raise UsageError(f"{self.file.name!r} holds no sample.", hint=reason)
        return choose(samples, self.sample, seed=seed)


def screen(
    model: ModelWrapper,
    manager: PersonaManager,
    config: Config,
    asked: Screening,
    *,
    sampling: Sampling,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Screened:
    """Which samples would push the traits of some vectors, with every value in a CSV and a report in a run folder.

    Raises as `screen_samples` and `make_readouts`.
    """
    samples = asked.check(sampling.seed)
    readouts = find_readouts(manager, asked.vectors, asked.layers, model.identity)
    given: dict[str, JsonValue] = {
        "file": open_samples(asked.file).digest(),
        "sample": asked.sample,
        "sampling": sampling.model_dump(mode="json"),
    }
    run = _open_run(config, _plan("screen", model.identity, readouts, given))
    found = screen_samples(
        model.backend,
        samples,
        readouts,
        sampling=sampling,
        answers=_open_run(config, _plan("own-answers", model.identity, (), given)),
        run=run,
        progress=progress,
        cancelled=cancelled,
    )
    out = asked.out or run.folder / "samples.csv"
    with atomic_writer(out) as file:
        for piece in values_csv(found):
            file.write(piece)
    screened = Screened(
        file=asked.file,
        out=out,
        model=model.identity.id,
        samples=len(samples),
        measured=len(found.samples),
        skipped=found.skipped,
        controls=CONTROLS,
        own=sampling,
        pushes=pushes(found, top=asked.top, seed=sampling.seed),
        run=run.folder,
    )
    screened_report(screened).write(run.folder / REPORT)
    return screened


def own_sampling(config: Config, seed: int, max_new_tokens: int | None, temperature: float | None) -> Sampling:
    """How the model's own answers are made: as configured, but for what is given."""
    made = Sampling.configured(config.generation, seed=seed, max_new_tokens=max_new_tokens)
    return made if temperature is None else made.model_copy(update={"temperature": temperature})


def screen_work(asked: Screening, sampling: Sampling) -> list[Work]:
    """What `screen` would ask and read; no model is needed. Raises as `Screening.check`."""
    count = sum(1 for sample in asked.check(sampling.seed) if sample.text is not None)
    return [
        Work(OWN, count, sampling.max_new_tokens, captured=False),
        Work(DIFFERENCES, 0, 0, 2 * count, captured=False),
    ]


def find_readouts(
    manager: PersonaManager, sources: Sequence[str], layers: Sequence[int] | None, model: ModelIdentity
) -> tuple[Readout, ...]:
    """Every vector that is named, by name or file, at every layer. Raises as the manager and `make_readouts`."""
    found: dict[str, SteeringVector] = {}
    for source in sources:
        label = Path(source).stem
        if label in found:
            raise UsageError(f"two vectors are called {label!r}.", hint="Name every vector once; rename one file.")
        found[label] = manager.find_vector(source)
    return make_readouts(found, layers, model)


def _plan(
    name: str, model: ModelIdentity, readouts: Sequence[Readout], given: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    directions: list[JsonValue] = [
        {"vector": readout.label, "digest": readout.vector.digest, "layer": readout.layer} for readout in readouts
    ]
    return {"name": name, "model": model.model_dump(mode="json"), "readouts": directions, **given}


def _open_run(config: Config, plan: Mapping[str, JsonValue]) -> Run:
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:8]
    return Run(config.runs_dir / f"{plan['name']}-{digest}", plan)


def _refuse_adapter(name: str) -> None:
    folder = Path(name.removeprefix("hf:"))
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise CapabilityError(
            f"{name!r} holds a LoRA adapter, not a whole model.",
            hint="Merge it into its base model first (peft: merge_and_unload, then save_pretrained).",
        )
