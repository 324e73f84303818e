"""A job of small steps that needs no model: it counts, and writes down on disk what it has counted."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from persona_steering.backends.base import Backend, Progress
from persona_steering.config import Config
from persona_steering.engine.estimate import Work
from persona_steering.errors import ModelError, QualityError, StorageError, UsageError
from persona_steering.server.jobs.kinds import Bench, JobControl, JobType, Outcome
from persona_steering.server.jobs.runner import JobRunner
from persona_steering.server.model.lane import Lane, SoleLane
from persona_steering.server.stores.database import Database
from persona_steering.server.stores.job_models import Subject
from persona_steering.server.stores.jobs import JobStore
from persona_steering.server.stores.runs import RunStore
from persona_steering.vectors.values import Closed


class CountParams(Closed):
    name: str = "numbers"
    to: int = 3
    fail: Literal["", "quality", "bug", "disk"] = ""
    file: str | None = None  # with what was counted, one a line
    kill_at: int | None = None  # the process, unless the file says that this was done before


class Counting(JobType[CountParams]):
    """Counts in turns. A test may hold `gate` back, so that the job stays in the middle of a step."""

    name = "count"
    params = CountParams
    needs_model = False

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.in_step = threading.Event()

    def subject(self, params: CountParams) -> Subject:
        return Subject(kind="numbers", name=params.name)

    def check(self, params: CountParams, bench: Bench) -> None:
        if params.to < 0:
            raise UsageError("nothing below zero is counted.", hint="Give a positive number.")

    def work(self, params: CountParams, bench: Bench) -> list[Work]:
        return [Work("counting", params.to, 1), Work("checking", 1, 1)]

    def run(self, params: CountParams, bench: Bench, control: JobControl) -> Outcome:
        known = Path(params.file).read_text().split() if params.file and Path(params.file).exists() else []
        control.progress(Progress("counting", 0, params.to))
        for number in range(1, params.to + 1):
            if str(number) not in known:
                self._step(params, control, number)
            control.progress(Progress("counting", number, params.to, f"This is {number}.", f"What is {number}?"))
        if params.fail == "quality":
            raise QualityError("too few numbers passed.", hint="Count further.")
        if params.fail == "disk":
            raise StorageError("/secret/place/x.bin was not written.", hint="Look at /secret/place.")
        if params.fail == "bug":
            raise KeyError("/secret/path")
        control.log("All were counted.")
        control.progress(Progress("checking", 1, 1))
        return Outcome({"counted": params.to, "attempt": control.attempt})

    def _step(self, params: CountParams, control: JobControl, number: int) -> None:
        with control.turn():
            self.in_step.set()
            self.gate.wait(60)
            if params.file:
                with open(params.file, "a") as file:
                    file.write(f"{number}\n")
            if number == params.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def no_model() -> Backend:
    raise ModelError("no model is loaded.", hint="Load one.")


def make_runner(
    database: Database,
    *jobs: JobType,  # type: ignore[type-arg]
    lane: Lane | None = None,
    config: Config | None = None,
    open_backend: Callable[[], Backend] = no_model,
    max_unfinished: int = 50,
) -> JobRunner:
    return JobRunner(
        JobStore(database),
        RunStore(database),
        {job.name: job for job in jobs or (Counting(),)},
        config=config or Config(),
        open_backend=open_backend,
        lane=lane or SoleLane(),
        max_unfinished=max_unfinished,
    )
