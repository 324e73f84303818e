"""Runs the jobs, one at a time, on a thread of its own; whatever happens in one is kept in the database.

A job is durable: its parameters and state are rows, its answers are batches in a run folder. A server that is killed
finds it running at the next start, says that it was interrupted, and goes on from the last batch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, JsonValue

from persona_steering.backends.base import Backend, Progress
from persona_steering.config import Config
from persona_steering.engine.estimate import Speed, estimate, measure_speed
from persona_steering.errors import (
    BusyError,
    CancelledError,
    ConflictError,
    ModelMismatchError,
    PersonaSteeringError,
    StorageError,
    unknown,
)
from persona_steering.server.jobs.kinds import Bench, JobEstimate, JobType, Outcome
from persona_steering.server.jobs.progress import Meter, Planned
from persona_steering.server.limits import LIMITS
from persona_steering.server.model.lane import Lane, LanedBackend
from persona_steering.server.stores.job_models import Job, JobError, JobModel, Sample
from persona_steering.server.stores.job_models import Outcome as Ending
from persona_steering.server.stores.jobs import JobStore
from persona_steering.server.stores.runs import RunStore

MAX_UNFINISHED = LIMITS.jobs
SPEED_KEEPS = 300.0  # seconds: a machine that was busy with something else may be free by then
RETRY_STORING = 1.0  # seconds between two attempts to keep how a job ended, where the disk refuses
_log = logging.getLogger(__name__)


class JobRunner:
    """Takes jobs, and works on them in the order in which they came. Any thread may ask it.

    open_backend: gives the loaded model, and raises what says why there is none (BusyError while it is loading).
    lane: says when a job may use the model. `types` are the jobs there are, by name.
    """

    def __init__(
        self,
        store: JobStore,
        runs: RunStore,
        types: Mapping[str, JobType[Any]],
        *,
        config: Config,
        open_backend: Callable[[], Backend],
        lane: Lane,
        max_unfinished: int = MAX_UNFINISHED,
    ) -> None:
        self.store, self._runs, self._types = store, runs, types
        self._config, self._open_backend, self._lane = config, open_backend, lane
        self._max_unfinished = max_unfinished
        self._news, self._stopping = threading.Event(), threading.Event()
        self._cancelled: set[str] = set()
        self._speeds: dict[str, tuple[float, Speed]] = {}  # and when they were measured
        self._timing = threading.Lock()
        self._listeners: list[Callable[[Job], None]] = []
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def listen(self, listener: Callable[[Job], None]) -> None:
        """Has `listener` called with every job that has run, in the thread of the jobs."""
        self._listeners.append(listener)

    def start(self, *, resume: bool = True) -> list[Job]:
        """Marks what an earlier server left as interrupted, and begins to work.

        With `resume` those jobs go on by themselves. Returns them.
        """
        left = self.store.recover(resume=resume)
        self._thread.start()
        return left

    def close(self, timeout: float | None = None) -> bool:
        """Interrupts the job that runs after the batch it is in, and ends. False when `timeout` seconds are over first.

        Then the job shows as running until the next start, which finds it interrupted.
        """
        self._stopping.set()
        self._news.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def submit(self, type: str, params: Mapping[str, JsonValue], *, idempotency_key: str | None = None) -> Job:
        """Queues a job. With a key that was used before, gives the job that it was used for.

        Raises: NotFoundError for an unknown type; what the type refuses; ConflictError and BusyError as `JobStore.add`.
        """
        kind = self._type(type)
        asked = kind.parse(params)
        kept = asked.model_dump(mode="json")
        bench = self._bench()
        if self.store.known(idempotency_key) is None:  # else what it made would be refused as being there
            kind.check(asked, bench)
        job = self.store.add(
            type,
            kept,
            subject=kind.subject(asked),
            model=_model_of(bench) if kind.needs_model else None,
            idempotency_key=idempotency_key,
            max_unfinished=self._max_unfinished,
        )
        self._news.set()
        return job

    def estimate(self, type: str, params: Mapping[str, JsonValue]) -> JobEstimate:
        """What a job would take here, from how fast the model answers. Raises as `submit`."""
        kind = self._type(type)
        asked, bench = kind.parse(params), self._bench()
        kind.check(asked, bench)
        work = kind.work(asked, bench)
        if not work:
            return JobEstimate(answers=0, max_tokens=0, seconds=0, disk_bytes=0, phases={})
        identity, layers = bench.model.identity, bench.config.extraction.target_layers
        found = estimate(
            work,
            self._speed(bench.model.backend),
            layers=identity.num_layers if layers == "auto" else len(layers),
            hidden=identity.hidden_size,
        )
        return JobEstimate.of(found)

    def cancel(self, identifier: str) -> Job:
        """Cancels a job; one that runs stops within a token. Raises NotFoundError, ConflictError when finished."""
        job = self.store.request_cancel(identifier)
        if not job.finished:
            self._cancelled.add(identifier)
        return job

    def retry(self, identifier: str) -> Job:
        """Queues a job that failed, was cancelled or interrupted; it goes on from the batches on disk.

        Raises: ModelMismatchError where another model is loaded by now, what says that none is, and NotFoundError,
        ConflictError, BusyError as `JobStore.requeue`.
        """
        model = self.store.get(identifier).model
        if model is not None:
            _check_model(model, _model_of(self._bench()))
        job = self.store.requeue(identifier, max_unfinished=self._max_unfinished)
        self._cancelled.discard(identifier)  # where it ended before it heard of that
        self._news.set()
        return job

    def check_idle(self) -> None:
        """Raises ConflictError while there are unfinished jobs."""
        if left := self.store.unfinished():
            raise ConflictError(
                f"{len(left)} jobs want the model, such as {left[0].id} ({left[0].type}).",
                hint="Wait for them, or cancel them.",
            )

    def _type(self, name: str) -> JobType[Any]:
        if name not in self._types:
            raise unknown("type of job", name, self._types)
        return self._types[name]

    def _bench(self, wrap: Callable[[Backend], Backend] | None = None) -> Bench:
        if wrap is None:
            return Bench(self._config, self._open_backend)
        return Bench(self._config, lambda: wrap(self._open_backend()))

    def _speed(self, backend: Backend) -> Speed:
        """Measured in one turn: waiting for chats in between would count as slowness."""
        key = f"{backend.identity.fingerprint} {backend.info.device} {backend.info.dtype}"
        with self._timing:  # of several who ask at once, one measures for all
            measured, speed = self._speeds.get(key, (0.0, None))
            if speed is None or time.monotonic() - measured > SPEED_KEEPS:
                with self._lane.turn():
                    speed = measure_speed(backend)
                self._speeds[key] = time.monotonic(), speed
        return speed

    # -- the worker's thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._news.clear()
            try:
                job = self.store.begin_next()
            except (StorageError, BusyError) as error:
                _log.error("no job can be begun: %s", error)
                self._stopping.wait(RETRY_STORING)
                continue
            if job is None:
                self._news.wait()
                continue
            self._run(job)

    def _run(self, job: Job) -> None:
        control = _Control(job, self.store, self._lane, lambda: self._is_to_stop(job.id))
        result, error = None, None
        ending: Ending = "succeeded"
        try:
            result = self._result(job, control)
        except PersonaSteeringError as caught:
            if isinstance(caught, CancelledError) and self._is_to_stop(job.id):
                ending = "cancelled" if job.id in self._cancelled else "interrupted"
            else:
                ending, error = "failed", JobError(type=type(caught).__name__, message=caught.message, hint=caught.hint)
        except Exception:  # the runner outlives whatever is wrong with one job
            _log.exception("%s (%s) failed", job.id, job.type)
            message = "something unforeseen stopped the job; the server's log has the details."
            ending, error = "failed", JobError(type="internal", message=message, hint="Retry goes on where it stopped.")
        self._keep(job, ending, result, error)
        self._cancelled.discard(job.id)

    def _result(self, job: Job, control: _Control) -> Mapping[str, JsonValue]:
        kind = self._type(job.type)
        params: BaseModel = kind.parse(job.params)
        bench = self._bench(lambda backend: LanedBackend(backend, control.turn))
        if job.model is not None:
            _check_model(job.model, _model_of(bench))
        control.plan([Planned(one.phase, one.answers, one.tokens) for one in kind.work(params, bench)])
        outcome: Outcome = kind.run(params, bench, control)
        return {**outcome.result, **self._recorded(job, outcome)}

    def _recorded(self, job: Job, outcome: Outcome) -> dict[str, JsonValue]:
        made = outcome.artefact
        if made is None:
            return {}
        record = self._runs.record(
            made.kind,
            made.name,
            model=made.model,
            folder=made.folder.relative_to(self._config.runs_dir).as_posix(),
            data=made.data.name if made.data and made.data.parent == made.folder else None,
            report=made.report.name if made.report else None,
            job_id=job.id,
        )
        return {"run_id": record.id}

    def _keep(self, job: Job, ending: Ending, result: Mapping[str, JsonValue] | None, error: JobError | None) -> None:
        """Keeps how a job ended, as soon as the disk lets it."""
        while True:
            try:
                done = self.store.finish(job.id, ending, result=result, error=error)
                break
            except (StorageError, BusyError) as refused:
                _log.error("how %s ended cannot be kept: %s", job.id, refused)
                if self._stopping.wait(RETRY_STORING):
                    return  # the next start finds it interrupted
        for listener in self._listeners:
            listener(done)

    def _is_to_stop(self, identifier: str) -> bool:
        return identifier in self._cancelled or self._stopping.is_set()


def _model_of(bench: Bench) -> JobModel:
    identity = bench.model.identity
    return JobModel(id=identity.id, fingerprint=identity.fingerprint)


def _check_model(asked: JobModel, loaded: JobModel) -> None:
    if asked.fingerprint != loaded.fingerprint:
        raise ModelMismatchError(
            f"the job was asked of the model {asked.id!r}, and {loaded.id!r} is loaded.",
            hint="Load that model, then retry the job.",
        )


class _Control:
    """What the work of one job is given."""

    def __init__(self, job: Job, store: JobStore, lane: Lane, stop: Callable[[], bool]) -> None:
        self._job, self._store, self._lane, self._stop = job, store, lane, stop
        self._meter = Meter()
        self._computed = False

    @property
    def attempt(self) -> int:
        return self._job.attempts

    def plan(self, work: list[Planned]) -> None:
        self._meter.plan(work)

    def progress(self, step: Progress) -> None:
        self._check()
        found = self._meter.take(step, computed=self._computed)
        sample = Sample(phase=step.phase, question=step.question, answer=step.sample) if step.sample else None
        self._store.note_progress(self._job.id, found, sample=sample)
        self._computed = False

    def cancelled(self) -> bool:
        return self._stop()

    @contextmanager
    def turn(self) -> Iterator[None]:
        self._check()
        with self._lane.turn():
            self._check()
            self._computed = True
            yield

    def log(self, message: str) -> None:
        self._store.log(self._job.id, message)

    def _check(self) -> None:
        if self._stop():
            raise CancelledError("stopped.", hint="Retry goes on where it stopped.")
