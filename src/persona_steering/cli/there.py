"""Long work that a running server does for a command: asked for as a job, shown as if it were done here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from persona_steering.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel, JsonValue

    from persona_steering.cli.context import Session
    from persona_steering.cli.joining import Joined
    from persona_steering.cli.measured import Result
    from persona_steering.server.jobs.kinds import JobEstimate
    from persona_steering.server.stores.job_models import Job
    from persona_steering.vectors import SteeringVector
    from persona_steering.vectors.metadata import VectorKind

Function = TypeVar("Function", bound=Callable[..., Any])
Value = TypeVar("Value", bound="BaseModel")


def detach_option(function: Function) -> Function:
    """--detach."""
    return click.option(
        "--detach", is_flag=True, help="With a running server: print the job's id, and do not wait for its end."
    )(function)


def check_detached(session: Session, *, detach: bool) -> None:
    """Raises UsageError for --detach where the work would be done here."""
    if detach and session.joined is None:
        raise UsageError("--detach needs a running server.", hint="Start one: persona-steer serve")


def run_there(
    session: Session, joined: Joined, path: str, params: Mapping[str, JsonValue], *, detach: bool
) -> Job | None:
    """Has the server do it, and returns the job when it succeeded; with `detach` shows it, and returns None.

    Raises what the server refuses it with, and what the job fails with. Ctrl-C cancels the job.
    """
    from persona_steering.cli.job_shown import watch
    from persona_steering.cli.render import emit_json, note
    from persona_steering.server.jobs.access import RemoteJobs

    jobs = RemoteJobs(joined.api)
    job = jobs.submit(path, params)
    if not detach:
        return watch(session, jobs, job, own=True)
    if session.as_json:
        emit_json(job.model_dump(mode="json"))
    else:
        click.echo(job.id)
        note(f"It goes on there. See: persona-steer jobs watch {job.id}", quiet=session.quiet)
    return None


def estimate_there(session: Session, joined: Joined, path: str, params: Mapping[str, JsonValue]) -> None:
    """Shows what it would take there. Raises as `run_there`."""
    from persona_steering.cli.render import working
    from persona_steering.server.jobs.access import RemoteJobs

    with working("Timing a small batch", quiet=session.quiet):
        found = RemoteJobs(joined.api).estimate(path, params)
    show_estimated(session, found)


def show_estimated(session: Session, found: JobEstimate) -> None:
    """A server's estimate."""
    from persona_steering.cli.estimates import SAID, duration, size
    from persona_steering.cli.progress import label
    from persona_steering.cli.render import card, emit_json, note

    if session.as_json:
        emit_json(found.model_dump(mode="json"))
        return
    rows = {label(phase): f"{answers} answers" for phase, answers in found.phases.items()}
    rows["in all"] = f"{found.answers} answers of {found.max_tokens} tokens at most"
    rows |= {"time there": duration(found.seconds), "disk": size(found.disk_bytes)}
    card(f"on {session.service.model.id}, by the server", rows)
    note(SAID, quiet=session.quiet)


def made_there(session: Session, joined: Joined, kind: VectorKind, name: str) -> SteeringVector | None:
    """A vector that a job has made; None where it lies on another machine."""
    identity = session.service.model.identity
    if not joined.is_here or identity is None:
        return None
    session.manager.bind(identity)
    return session.manager.store.load(kind, name, identity)


def measure_there(
    session: Session,
    joined: Joined,
    kind: str,
    params: Mapping[str, JsonValue],
    form: type[Value],
    *,
    out: Path | None,
    dry_run: bool,
    detach: bool,
) -> Result[Value] | None:
    """A measurement's result; None where there is none to show, with `dry_run` or `detach`. Raises as `run_there`."""
    from persona_steering.cli.measured import Result

    path = f"/api/v1/{kind}" if kind.endswith("s") else f"/api/v1/{kind}s"
    if dry_run:
        estimate_there(session, joined, path, params)
        return None
    job = run_there(session, joined, path, params, detach=detach)
    if job is None:
        return None
    run, data = _result(joined, job, form)
    if out is None:
        return Result(data, f"{joined.api.url}{run}/data", f"{joined.api.url}{run}/report")
    return _written(joined, run, data, out / f"{kind}.json", out / "report.html")


def _result(joined: Joined, job: Job, form: type[Value]) -> tuple[str, Value]:
    """Where on the server the result of a job is, and its numbers. Raises ServerError."""
    from pydantic import ValidationError

    from persona_steering.engine.remote.refusals import strange

    try:
        run = f"/api/v1/runs/{(job.result or {})['run_id']}"
        return run, form.model_validate(joined.api.get(f"{run}/data")["result"])
    except (ValidationError, KeyError) as error:
        raise strange("with a result that cannot be read", joined.api.url) from error


def _written(joined: Joined, run: str, value: Value, data: Path, report: Path) -> Result[Value]:
    """The result, with its two files fetched into a folder of this machine. Raises StorageError."""
    from persona_steering.cli.measured import Result
    from persona_steering.files import write_atomically

    write_atomically(data, f"{value.model_dump_json(indent=1)}\n".encode())
    write_atomically(report, joined.api.download("GET", f"{run}/report"))
    return Result(value, str(data), str(report))
