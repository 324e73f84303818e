"""Setting up a workspace: its folders, and then in steps what every steered answer stands on.

    folders -> datasets -> baseline -> safety axis -> personas -> assistant axis

Each step says beforehand whether it is done and what it would ask of the model, and can be skipped. A step that was
interrupted goes on where it stopped, because every answer goes through a run folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from persona_steering.config import FILE_NAME, find_workspace
from persona_steering.config.edit import template
from persona_steering.config.places import MARKER
from persona_steering.engine.create import Creator
from persona_steering.engine.estimate import Work, baseline_work, creation_work, safety_work
from persona_steering.errors import QualityError, UsageError, unknown
from persona_steering.extraction.axes import MIN_PERSONAS
from persona_steering.files import storage_error, write_atomically
from persona_steering.personas import load_archetype
from persona_steering.personas.datasets import SET_KINDS, SetKind
from persona_steering.vectors.card import active_calibration, make_cards
from persona_steering.vectors.metadata import ASSISTANT_AXIS, ASSISTANT_BASELINE

StepName = Literal["datasets", "baseline", "safety", "personas", "assistant"]
State = Literal["todo", "done", "skipped", "failed"]
STEPS: tuple[StepName, ...] = get_args(StepName)
FOLDERS = ("datasets", "vectors", "runs")
STARTERS = ("sage", "pirate", "hermit")


@dataclass(frozen=True)
class Step:
    """One step, as it is now: what it does, why it need not be done, and what it would ask of the model."""

    name: StepName
    title: str
    state: State
    detail: str = ""
    work: tuple[Work, ...] = ()
    subject: str = ""  # the persona or the data set of a step that makes one


@dataclass(frozen=True)
class Made:
    """What making the folders changed."""

    root: Path
    created: tuple[Path, ...]


def make_folders(root: Path, *, dry_run: bool = False) -> Made:
    """Makes the folder of a workspace with its config.yaml, `datasets/`, `vectors/` and `runs/`; keeps what is there.

    Raises: UsageError where a file, or another program's config.yaml, is in the way; StorageError.
    """
    file = root / FILE_NAME
    for path in (root, *(root / name for name in FOLDERS)):
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file, and a folder is needed there.", hint="Choose another folder.")
    if file.exists() and find_workspace(root) != root.resolve():
        raise UsageError(
            f"{file} belongs to another program.",
            hint=f"Choose another folder, or add the line `{MARKER}: 1` to that file.",
        )
    missing = [path for path in (file, *(root / name for name in FOLDERS)) if not path.exists()]
    if dry_run:
        return Made(root, tuple(missing))
    for path in missing:
        if path == file:
            write_atomically(file, template().encode())
            continue
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise storage_error(error, path) from error
    return Made(root, tuple(missing))


class WorkspaceSetup:
    """The steps of one workspace on one model.

    write_set: has a model write a data set of the workspace; None keeps the shipped ones.

    Raises: NotFoundError for an unknown step or archetype.
    """

    def __init__(
        self,
        creator: Creator,
        *,
        personas: Sequence[str] = STARTERS,
        skip: Sequence[str] = (),
        write_set: Callable[[SetKind], object] | None = None,
    ) -> None:
        for name in skip:
            if name not in STEPS:
                raise unknown("step", name, STEPS)
        self._creator = creator
        self._personas = [load_archetype(name) for name in dict.fromkeys(personas)]
        self._skip = frozenset(skip)
        self._write_set = write_set

    def plan(self) -> list[Step]:
        """Every step as it is now, in order."""
        return [step for name in STEPS for step in self._steps_of(name)]

    def run(self, step: Step) -> Step:
        """Does one step of the plan, and returns it as it is then. A persona that fails does not stop the others.

        Raises what the model raises, and CancelledError: the same step goes on later where it stopped.
        """
        creator = self._creator
        try:
            if step.name == "datasets" and self._write_set is not None:
                (kind,) = (one for one in SET_KINDS if one == step.subject)
                self._write_set(kind)
            if step.name == "baseline":
                creator.extract_baseline()
            elif step.name == "safety":
                creator.extract_safety_axis()
            elif step.name == "personas":
                return self._make_persona(step)
            elif step.name == "assistant":
                return self._refresh_axis(step)
        except QualityError as error:
            return self._changed(step, "failed", str(error))
        return self._changed(step, "done", "")

    def _make_persona(self, step: Step) -> Step:
        (persona,) = (one for one in self._personas if one.name == step.subject)
        vector = self._creator.create(persona, reuse=True).vector
        calibration = active_calibration(vector.metadata, safety=self._creator.config.steering.safety)
        weak = calibration.weak_reason if calibration is not None and calibration.weak else ""
        return self._changed(step, "done", f"weak on this model: {weak}" if weak else "")

    def _refresh_axis(self, step: Step) -> Step:
        if self._creator.refresh_assistant_axis() is None:
            return self._changed(step, "skipped", f"needs {MIN_PERSONAS} personas of this model")
        return self._changed(step, "done", "")

    def _steps_of(self, name: StepName) -> list[Step]:
        make = {
            "datasets": self._datasets_step,
            "baseline": self._baseline_step,
            "safety": self._safety_step,
            "personas": self._persona_steps,
            "assistant": self._assistant_step,
        }[name]
        steps = make()
        if name in self._skip:
            return [Step(step.name, step.title, "skipped", subject=step.subject) for step in steps]
        return steps

    def _datasets_step(self) -> list[Step]:
        if self._write_set is None:
            return [Step("datasets", "questions and prompts", "done", "those that ship with the package")]
        datasets = self._creator.datasets
        return [_step("datasets", f"data set {kind}", datasets.own(kind) is not None, (), kind) for kind in SET_KINDS]

    def _baseline_step(self) -> list[Step]:
        manager, work = self._creator.manager, tuple(baseline_work(self._creator))
        done = not work and manager.store.exists("baseline", ASSISTANT_BASELINE, manager.model)
        return [_step("baseline", "assistant baseline", done, work)]

    def _safety_step(self) -> list[Step]:
        done = self._creator.manager.has_safety_axis()
        return [_step("safety", "safety axis with its floors", done, () if done else tuple(safety_work(self._creator)))]

    def _persona_steps(self) -> list[Step]:
        present = self._creator.manager.list_available()
        steps = []
        alone = bool(self._skip & {"baseline", "safety"})  # the first persona makes what was skipped but is needed
        for persona in self._personas:
            done = persona.name in present
            work = () if done else tuple(creation_work(self._creator, persona, alone=alone))
            alone = alone and done
            steps.append(_step("personas", f"persona {persona.name}", done, work, persona.name))
        return steps

    def _assistant_step(self) -> list[Step]:
        manager = self._creator.manager
        axes = [card for card in make_cards(manager.entries(), manager.model) if card.kind == "axis"]
        current = any(card.name == ASSISTANT_AXIS and card.status == "ready" for card in axes)
        more = any(name not in manager.list_available() for name in (one.name for one in self._personas))
        return [_step("assistant", "assistant axis", current and (not more or "personas" in self._skip), ())]

    @staticmethod
    def _changed(step: Step, state: State, detail: str) -> Step:
        return Step(step.name, step.title, state, detail, subject=step.subject)


def _step(name: StepName, title: str, done: bool, work: tuple[Work, ...], subject: str = "") -> Step:
    return Step(name, title, "done" if done else "todo", "there already" if done else "", work, subject)
