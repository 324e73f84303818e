"""What a job type is: parameters, what they come to, and the work. `use_cases.py` has those there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from persona_steering.backends.base import Backend, Progress
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.config import Config
from persona_steering.engine.estimate import Estimate, Work
from persona_steering.errors import UsageError, nearest
from persona_steering.personas.manager import PersonaManager
from persona_steering.server.stores.job_models import Subject
from persona_steering.vectors.values import Closed

Change = Literal["made", "changed", "deleted"]
Params = TypeVar("Params", bound=BaseModel)


class Bench:
    """What a job works with: the settings, the loaded model, and the vectors of that model.

    `open_backend` gives the loaded model, and raises what says why there is none. It is asked at the first need.
    """

    def __init__(self, config: Config, open_backend: Callable[[], Backend]) -> None:
        self.config = config
        self._open_backend = open_backend

    @cached_property
    def model(self) -> ModelWrapper:
        """The loaded model."""
        return ModelWrapper(self.config, backend=self._open_backend())

    @cached_property
    def manager(self) -> PersonaManager:
        """A manager of the job's own, bound to the model."""
        return PersonaManager(self.config, model=self.model.identity)

    @property
    def parts(self) -> tuple[ModelWrapper, PersonaManager, Config]:
        """What the use cases of the engine begin with, in their order."""
        return self.model, self.manager, self.config


class JobControl(Protocol):
    """The runner, as the work of a job sees it."""

    @property
    def attempt(self) -> int:
        """1 the first time; more when the job is tried again, with all on disk that was there."""

    def progress(self, step: Progress) -> None:
        """Keeps where the work is. Raises CancelledError when it is to stop."""

    def cancelled(self) -> bool:
        """Whether it is to stop."""

    def turn(self) -> AbstractContextManager[None]:
        """Around every batch on the model: waits while chats want it. Raises CancelledError when it is to stop."""

    def log(self, message: str) -> None:
        """Keeps a line for people."""


@dataclass(frozen=True)
class Artefact:
    """A result on disk, for the index of runs. `folder` lies below the folder of runs."""

    kind: str
    name: str
    model: str
    folder: Path
    data: Path | None = None
    report: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What a job came to."""

    result: Mapping[str, JsonValue]
    artefact: Artefact | None = None


class JobEstimate(Closed):
    """What a job would take here, without doing it. Answers that end early make it shorter."""

    answers: int
    max_tokens: int
    seconds: float
    disk_bytes: int
    phases: dict[str, int]

    @classmethod
    def of(cls, found: Estimate) -> JobEstimate:
        """The engine's estimate."""
        return cls(
            answers=found.answers,
            max_tokens=found.tokens,
            seconds=round(found.seconds, 1),
            disk_bytes=found.disk,
            phases={one.phase: one.answers for one in found.work},
        )


class JobType(ABC, Generic[Params]):
    """One kind of job. The same parameters on the same model always go on from what an earlier attempt left."""

    name: str
    params: type[Params]
    changes: Change | None = None  # to the library, once it has succeeded
    needs_model: bool = True  # then it runs on the model that was loaded when it was asked for, or not at all

    def subject(self, params: Params) -> Subject | None:
        """What it makes or measures; two unfinished jobs of a type never have the same one."""
        return None

    def check(self, params: Params, bench: Bench) -> None:
        """Raises what is wrong with the parameters, before there is a job."""

    @abstractmethod
    def work(self, params: Params, bench: Bench) -> list[Work]:
        """The phases that are not on disk yet."""

    @abstractmethod
    def run(self, params: Params, bench: Bench, control: JobControl) -> Outcome:
        """Does it. Raises CancelledError when told to stop."""

    def parse(self, data: Mapping[str, JsonValue]) -> Params:
        """The parameters. Raises UsageError that names the field, and the nearest for an unknown one."""
        try:
            return self.params.model_validate(dict(data))
        except ValidationError as error:
            raise _refused(error, self.params) from error


def _refused(error: ValidationError, schema: type[BaseModel]) -> UsageError:
    # A misspelt field is both unknown and missing; the unknown one tells more.
    found = error.errors(include_url=False)
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return UsageError(f"unknown parameter {field!r}.", hint=nearest(field, schema.model_fields))
    if first["type"] == "missing":
        return UsageError(f"the parameter {field!r} is missing.", hint="Give it.")
    reason = first["msg"].removeprefix("Value error, ").rstrip(".")
    return UsageError(f"{f'parameter {field!r}: ' if field else ''}{reason}.", hint="Correct it.")
