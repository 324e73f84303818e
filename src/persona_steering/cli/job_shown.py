"""Jobs as a person sees them: a table, and one of them while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from persona_steering import errors
from persona_steering.errors import CancelledError, PersonaSteeringError

if TYPE_CHECKING:
    from persona_steering.cli.context import Session
    from persona_steering.cli.progress import ProgressReport
    from persona_steering.server.jobs.access import RemoteJobs
    from persona_steering.server.stores.job_models import Job, JobError, JobEvent

COLUMNS = ("job", "what", "of", "asked", "progress", "status")


def show_jobs(jobs: Sequence[Job]) -> None:
    """A row each."""
    from persona_steering.cli.render import table

    table(
        COLUMNS,
        [(job.id, job.type, subject_of(job), moment(job.created_at), progress_of(job), job.status) for job in jobs],
    )


def subject_of(job: Job) -> str:
    """What it makes or measures."""
    return job.subject.name if job.subject else "-"


def progress_of(job: Job) -> str:
    """How far it is, in words; of a finished job nothing."""
    from persona_steering.cli.estimates import duration
    from persona_steering.cli.progress import label

    at = job.progress
    if at is None or job.status == "succeeded":
        return "-"
    left = f", {duration(at.eta_s)} left" if at.eta_s is not None and job.status == "running" else ""
    return f"{label(at.phase)} {at.done} of {at.total}{left}"


def moment(seconds: float) -> str:
    """A time of today as the hour, of another day with its date."""
    then, now = time.localtime(seconds), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%Y-%m-%d %H:%M", then)


def lines_of(events: Iterable[JobEvent]) -> Iterable[tuple[str, str]]:
    """What happened in a job as (when, what); of the steps of a phase only the last."""
    last: JobEvent | None = None
    for event in events:
        steps_on = event.type == "progress" and event.data.get("done") != event.data.get("total")
        if steps_on:
            last = event
            continue
        if last is not None and event.type != "progress":
            yield moment(last.created_at), said(last)
        last = None
        if text := said(event):
            yield moment(event.created_at), text
    if last is not None:
        yield moment(last.created_at), said(last)


def said(event: JobEvent) -> str:
    """An event in words; samples are for those who watch."""
    from persona_steering.cli.progress import label

    data = event.data
    if event.type == "state":
        return str(data.get("status"))
    if event.type == "progress":
        return f"{label(str(data.get('phase')))}: {data.get('done')} of {data.get('total')}"
    if event.type == "log":
        return str(data.get("message"))
    if event.type == "error":
        return f"error: {data.get('message')} {data.get('hint') or ''}".strip()
    return ""


def watch(session: Session, jobs: RemoteJobs, job: Job, *, own: bool) -> Job:
    """Shows a job until it ends, and returns it. Raises what it failed with.

    own: the command asked for it, so that Ctrl-C cancels it; else Ctrl-C only looks away.
    """
    from persona_steering.cli.interrupts import stoppable
    from persona_steering.cli.progress import ProgressReport
    from persona_steering.cli.render import note

    others = [other for other in jobs.jobs(status="running") if other.id != job.id]
    if others and not job.finished:
        note(f"{job.id} waits for {others[0].id} ({others[0].type}).", quiet=session.quiet)
    with stoppable() as stopped, ProgressReport(quiet=session.quiet) as progress:
        for event in jobs.follow(job.id, cancelled=stopped):
            _show(session, event, progress)
        if stopped():
            raise _left(jobs, job, own=own)
    ended = jobs.get(job.id)
    if ended.status == "failed" and ended.error is not None:
        raise error_of_job(ended.error, ended)
    if ended.status != "succeeded":
        raise CancelledError(f"{ended.id} is {ended.status}.", hint=resume_hint(ended.id))
    return ended


def resume_hint(identifier: str) -> str:
    """How a job that ended early goes on."""
    return f"Go on with: persona-steer jobs retry {identifier}"


def error_of_job(error: JobError, job: Job) -> PersonaSteeringError:
    """What a job failed with, as if it had happened here."""
    kind = getattr(errors, error.type, PersonaSteeringError)
    known = isinstance(kind, type) and issubclass(kind, PersonaSteeringError)
    hint = f"{error.hint} {resume_hint(job.id)}".strip()
    if not known or kind is errors.ServerRefusalError:
        return PersonaSteeringError(error.message, hint=hint)
    return kind(error.message, hint=hint)


def _left(jobs: RemoteJobs, job: Job, *, own: bool) -> CancelledError:
    """Ctrl-C was pressed: what is done with the job, as the error to raise."""
    if not own:
        return CancelledError(f"{job.id} goes on.", hint=f"Look again with: persona-steer jobs watch {job.id}")
    try:
        jobs.cancel(job.id)
    except errors.ConflictError:  # it has just ended
        return CancelledError(f"stopped; {job.id} has ended.", hint=f"See: persona-steer jobs logs {job.id}")
    return CancelledError(f"stopped; every finished batch of {job.id} is saved.", hint=resume_hint(job.id))


def _show(session: Session, event: JobEvent, progress: ProgressReport) -> None:
    from persona_steering.backends.base import Progress
    from persona_steering.cli.render import note, warn

    data = event.data
    if event.type == "progress":
        ago = max(0.0, time.time() - event.created_at)  # of what is told again, because the job runs already
        report = Progress(str(data["phase"]), int(str(data["done"])), int(str(data["total"])))
        progress(report, at=time.monotonic() - ago)
    elif event.type == "sample":
        progress.show_sample(str(data.get("answer", "")))
    elif event.type == "log":
        warn(str(data["message"])) if data.get("level") == "warning" else note(
            str(data["message"]), quiet=session.quiet
        )
