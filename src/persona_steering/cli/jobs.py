"""`jobs`: the long work of a server, also that of the page and of other commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import click

from persona_steering.cli.context import Session, asking_options, common_options, json_option, pass_session
from persona_steering.errors import ServerError

if TYPE_CHECKING:
    from persona_steering.server.jobs.access import JobAccess, RemoteJobs
    from persona_steering.server.stores.job_models import Job, JobStatus

STATES = ("queued", "running", "succeeded", "failed", "cancelled", "interrupted")


@click.group()
def jobs() -> None:
    """Show and steer the long work of a server: what `create`, `sweep` and the page have asked of it.

    Where no server runs, the workspace's own list is read and changed; what is queued in it runs with the next
    `persona-steer serve`.

    \b
    Examples:
      persona-steer jobs list
      persona-steer jobs watch job_01J8Z3Q4R5S6T7V8W9X0Y1Z2A3
    """


@jobs.command(name="list")
@click.option("--status", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--type", "kind", metavar="TYPE", help="Only those of a type, such as sweep or persona.create.")
@click.option("-n", "most", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="At most.")
@asking_options
@json_option
@common_options
@pass_session
def list_(session: Session, status: str | None, kind: str | None, most: int) -> None:
    """Show the jobs there are, the newest first.

    \b
    Examples:
      persona-steer jobs list
      persona-steer jobs list --status failed --json
    """
    from persona_steering.cli.job_shown import show_jobs
    from persona_steering.cli.render import emit_json, note

    with opened(session) as access:
        found = access.jobs(status=cast("JobStatus | None", status), type=kind, most=most) if access else []
    if session.as_json:
        emit_json([job.model_dump(mode="json") for job in found])
    elif session.quiet:
        click.echo("".join(f"{job.id}\n" for job in found), nl=False)
    elif found:
        show_jobs(found)
    else:
        note("There are none of these." if status or kind else "There are no jobs.")


@jobs.command()
@click.argument("job_id", metavar="JOB")
@asking_options
@json_option
@common_options
@pass_session
def watch(session: Session, job_id: str) -> None:
    """Show a job's progress until it ends. Ctrl-C looks away; the job goes on.

    The exit code is 0 where it succeeds, else that of what it failed with.

    \b
    Examples:
      persona-steer jobs watch job_01J8Z3Q4R5S6T7V8W9X0Y1Z2A3
    """
    from persona_steering.cli import job_shown

    with opened(session) as access:
        job = there(access, job_id)
        if not job.finished:
            job = job_shown.watch(session, _remote(access, job), job, own=False)
    show_job(session, job)
    if job.status == "failed" and job.error is not None:
        raise job_shown.error_of_job(job.error, job)


@jobs.command()
@click.argument("job_id", metavar="JOB")
@asking_options
@json_option
@common_options
@pass_session
def cancel(session: Session, job_id: str) -> None:
    """Cancel a job. What it has finished is kept, and `jobs retry` goes on from there.

    \b
    Examples:
      persona-steer jobs cancel job_01J8Z3Q4R5S6T7V8W9X0Y1Z2A3
    """
    with opened(session) as access:
        there(access, job_id)
        show_job(session, cast("JobAccess", access).cancel(job_id))


@jobs.command()
@click.argument("job_id", metavar="JOB")
@click.option("--detach", is_flag=True, help="Do not wait for its end.")
@asking_options
@json_option
@common_options
@pass_session
def retry(session: Session, job_id: str, detach: bool) -> None:
    """Go on with a job that failed, was cancelled or interrupted.

    It is queued again, and begins with the answers it has.

    \b
    Examples:
      persona-steer jobs retry job_01J8Z3Q4R5S6T7V8W9X0Y1Z2A3
    """
    from persona_steering.cli import job_shown
    from persona_steering.cli.render import note
    from persona_steering.server.jobs.access import RemoteJobs

    with opened(session) as access:
        there(access, job_id)
        job = cast("JobAccess", access).retry(job_id)
        if isinstance(access, RemoteJobs) and not detach:
            job = job_shown.watch(session, access, job, own=True)
        elif not isinstance(access, RemoteJobs):
            note("No server runs: it goes on with the next persona-steer serve.", quiet=session.quiet)
    show_job(session, job)


@jobs.command()
@click.argument("job_id", metavar="JOB")
@asking_options
@json_option
@common_options
@pass_session
def logs(session: Session, job_id: str) -> None:
    """Show what has happened in a job until now.

    \b
    Examples:
      persona-steer jobs logs job_01J8Z3Q4R5S6T7V8W9X0Y1Z2A3
    """
    from persona_steering.cli.job_shown import lines_of
    from persona_steering.cli.render import emit_json, printable

    with opened(session) as access:
        there(access, job_id)
        events = list(cast("JobAccess", access).events(job_id))
    if session.as_json:
        emit_json([event.model_dump(mode="json") for event in events])
        return
    for when, text in lines_of(events):
        click.echo(f"{when}  {printable(text)}")


@contextmanager
def opened(session: Session) -> Iterator[JobAccess | None]:
    """The jobs: of the named server, of the one that runs, else of the workspace; None where it never had any.

    Raises ServerError for a named server that does not answer, BusyError for a workspace that another server holds.
    """
    from persona_steering.cli.joining import running
    from persona_steering.server.jobs.access import RemoteJobs, StoredJobs
    from persona_steering.server.stores.database import Database, database_file
    from persona_steering.server.stores.jobs import JobStore

    joined = running(session)
    if joined is not None:
        yield RemoteJobs(joined.api)
        return
    file = database_file(session.config.workspace)
    if not file.exists():
        yield None
        return
    database = Database(file)
    try:
        yield StoredJobs(JobStore(database))
    finally:
        database.close()


def there(access: JobAccess | None, identifier: str) -> Job:
    """A job that must be there. Raises NotFoundError, or UsageError for what is no identifier."""
    from persona_steering.errors import NotFoundError
    from persona_steering.server.ids import check_id
    from persona_steering.server.stores.job_models import JOB

    check_id(identifier, JOB)
    if access is None:
        raise NotFoundError(f"there is no job {identifier}.", hint="See: persona-steer jobs list")
    return access.get(identifier)


def show_job(session: Session, job: Job) -> None:
    """Where a job is now, on one line."""
    from persona_steering.cli.job_shown import subject_of
    from persona_steering.cli.render import emit_json

    if session.as_json:
        emit_json(job.model_dump(mode="json"))
    elif session.quiet:
        click.echo(job.id)
    else:
        click.echo(f"{job.id}  {job.type} {subject_of(job)}  {job.status}")


def _remote(access: JobAccess | None, job: Job) -> RemoteJobs:
    from persona_steering.server.jobs.access import RemoteJobs

    if isinstance(access, RemoteJobs):
        return access
    raise ServerError(f"{job.id} is {job.status}, and no server runs.", hint="It goes on with: persona-steer serve")
