"""Jobs and what happened in them. A change and the event that tells of it are one transaction.

    queued -> running -> succeeded | failed | cancelled | interrupted
      ^  |                             |          |            |
      |  +-> cancelled                 +----------+------------+
      +---------------------------------- retry

An event's number is its place in the one feed of all jobs: whoever has seen `seq` goes on after it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from pydantic import JsonValue

from persona_steering.errors import BusyError, ConflictError, NotFoundError
from persona_steering.server.ids import check_id, new_id
from persona_steering.server.jobs.progress import JobProgress
from persona_steering.server.paging import Page, PageQuery, select_page
from persona_steering.server.stores.database import Database
from persona_steering.server.stores.job_models import (
    AGAIN,
    JOB,
    EventType,
    Job,
    JobError,
    JobEvent,
    JobModel,
    JobStatus,
    Outcome,
    Sample,
    Subject,
)
from persona_steering.server.stores.job_retention import forget_events, forget_jobs

Data = Mapping[str, JsonValue]


class JobStore:
    """The jobs of a workspace. Any thread may use it, and wait in it for what happens next.

    Raises: NotFoundError for a job that does not exist, ConflictError for a change that its state does not allow,
    UsageError for an identifier that is none, and what the database raises.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._news = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        with database.read() as connection:
            self._last = _last_seq(connection)

    def listen(self, listener: Callable[[], None]) -> None:
        """Has `listener` called after every event, in the thread that made it; it must not wait for anything."""
        self._listeners.append(listener)

    # -- what there is -------------------------------------------------------------------------------------------------

    def get(self, identifier: str) -> Job:
        """One job."""
        with self._database.read() as connection:
            return _find(connection, identifier)

    def page(
        self, query: PageQuery | None = None, *, status: JobStatus | None = None, type: str | None = None
    ) -> Page[Job]:
        """A page of them, of one state or type where given."""
        query = query or PageQuery()
        if query.after is not None:
            check_id(query.after, JOB)
        with self._database.read() as connection:
            return select_page(connection, "jobs", query, _job, where={"status": status, "type": type})

    def unfinished(self) -> list[Job]:
        """Those that are queued or running, in the order in which they run."""
        with self._database.read() as connection:
            return _unfinished(connection)

    # -- what changes --------------------------------------------------------------------------------------------------

    def add(
        self,
        type: str,
        params: Data,
        *,
        subject: Subject | None = None,
        model: JobModel | None = None,
        idempotency_key: str | None = None,
        max_unfinished: int | None = None,
    ) -> Job:
        """Queues a new job; with a key that was used before, gives the job that it was used for.

        Raises: ConflictError where the key belongs to something else, or an unfinished job has the same type and
        subject; BusyError where `max_unfinished` are there already.
        """
        with self._changing() as connection:
            known = _with_key(connection, idempotency_key)
            if known is not None:
                if (known.type, known.params) != (type, dict(params)):
                    raise ConflictError(
                        f"the idempotency key was used for another request, {known.id}.", hint="Take a new key."
                    )
                return known
            _check_room(_unfinished(connection), type, subject, max_unfinished)
            now = time.time()
            job = Job(
                id=new_id(JOB),
                type=type,
                status="queued",
                subject=subject,
                model=model,
                params=dict(params),
                created_at=now,
                queued_at=now,
            )
            _insert(connection, job, idempotency_key)
            _tell(connection, job.id, "state", {"status": job.status})
            return job

    def known(self, idempotency_key: str | None) -> Job | None:
        """The job that a key was used for."""
        with self._database.read() as connection:
            return _with_key(connection, idempotency_key)

    def begin_next(self) -> Job | None:
        """Takes the job that waits longest into the state running; None when none waits."""
        with self._changing() as connection:
            row = connection.execute(
                "SELECT id FROM jobs WHERE status = 'queued' ORDER BY queued_at, id LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE jobs SET status = 'running', started_at = ?, attempts = attempts + 1 WHERE id = ?",
                (time.time(), row["id"]),
            )
            _tell(connection, row["id"], "state", {"status": "running"})
            return _find(connection, row["id"])

    def finish(
        self,
        identifier: str,
        status: Outcome,
        *,
        result: Data | None = None,
        error: JobError | None = None,
    ) -> Job:
        """Ends a job that is running."""
        with self._changing() as connection:
            job = _find(connection, identifier)
            if job.status != "running":
                raise ConflictError(f"the job is {job.status}, and not running.", hint="Look at it again.")
            done = _finish(connection, job, status, result=result, error=error)
            forget_jobs(connection)
            return done

    def requeue(self, identifier: str, *, max_unfinished: int | None = None) -> Job:
        """Queues a job that failed, was cancelled or interrupted once more, at the end. Raises as `add`, too."""
        with self._changing() as connection:
            job = _find(connection, identifier)
            if job.status not in AGAIN:
                raise ConflictError(
                    f"the job is {job.status}, so there is nothing to try again.",
                    hint="A job that failed, was cancelled or interrupted can be tried again.",
                )
            _check_room(_unfinished(connection), job.type, job.subject, max_unfinished)
            return _requeue(connection, job, interruptions=0)

    def request_cancel(self, identifier: str) -> Job:
        """Cancels a job that is queued; notes for one that is running that it is to stop."""
        with self._changing() as connection:
            job = _find(connection, identifier)
            if job.status == "queued":
                return _finish(connection, job, "cancelled")
            if job.status != "running":
                raise ConflictError(f"the job is {job.status} already.", hint="Nothing is left to be cancelled.")
            connection.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", (identifier,))
            return _find(connection, identifier)

    def recover(self, *, resume: bool = True, most: int = 3) -> list[Job]:
        """For the start of a server: what the last one left running is interrupted, or cancelled where that was asked.

        With `resume` interrupted jobs are queued again, in their old places; not one in which the server was killed
        `most` times in a row. Returns the jobs that are interrupted, or were until now.
        """
        with self._changing() as connection:
            for job in _with_status(connection, "running"):
                if job.cancel_requested:
                    _finish(connection, job, "cancelled")
                    continue
                _finish(connection, job, "interrupted")
                connection.execute("UPDATE jobs SET interruptions = interruptions + 1 WHERE id = ?", (job.id,))
            jobs = _with_status(connection, "interrupted")
            for job in jobs if resume else ():
                if job.interruptions < most:
                    _requeue(connection, job, interruptions=job.interruptions, queued_at=job.queued_at)
                else:
                    message = f"The server was killed {job.interruptions} times in the middle of it: retry it by hand."
                    _tell(connection, job.id, "log", {"level": "warning", "message": message})
            return [_find(connection, job.id) for job in jobs]

    def note_progress(self, identifier: str, progress: JobProgress, *, sample: Sample | None = None) -> None:
        """Keeps where a job is, and one of its answers. Of its events only the newest stay."""
        with self._changing() as connection:
            connection.execute("UPDATE jobs SET progress = ? WHERE id = ?", (progress.model_dump_json(), identifier))
            _tell(connection, identifier, "progress", progress.model_dump(mode="json"))
            if sample is not None:
                _tell(connection, identifier, "sample", sample.model_dump(mode="json"))
            forget_events(connection, identifier)

    def log(self, identifier: str, message: str, *, level: Literal["info", "warning"] = "info") -> None:
        """Keeps a line for people."""
        with self._changing() as connection:
            _tell(connection, identifier, "log", {"level": level, "message": message})

    # -- what happened -------------------------------------------------------------------------------------------------

    @property
    def last_seq(self) -> int:
        """The number of the newest event of all; 0 before the first."""
        with self._news:
            return self._last

    def events(self, after: int = 0, *, job_id: str | None = None, limit: int = 1000) -> list[JobEvent]:
        """At most `limit` events that came after number `after`, of one job or of all, in order."""
        chosen, values = ("AND job_id = ? ", [job_id]) if job_id is not None else ("", [])
        with self._database.read() as connection:
            if job_id is not None:
                _find(connection, job_id)
            rows = connection.execute(
                f"SELECT * FROM job_events WHERE seq > ? {chosen}ORDER BY seq LIMIT ?", [after, *values, limit]
            )
            return [_event(row) for row in rows]

    def wait(self, after: int, timeout: float | None = None) -> bool:
        """Waits until some event has a number above `after`; False when `timeout` seconds are over first."""
        with self._news:
            return self._news.wait_for(lambda: self._last > after, timeout)

    def follow(self, job_id: str, after: int = 0) -> Iterator[JobEvent]:
        """The events of a job after number `after`, as they come, until it is finished and all were given."""
        while True:
            seen, job = self.last_seq, self.get(job_id)
            found = self.events(after, job_id=job_id)
            for event in found:
                after = event.seq
                yield event
            if not found:
                if job.finished:
                    return
                self.wait(seen)

    def counts(self) -> dict[JobStatus, int]:
        """How many jobs there are of each state that any has."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT status, count(*) AS jobs FROM jobs GROUP BY status")
            return {row["status"]: row["jobs"] for row in rows}

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction; when it is kept, whoever waits for events is told."""
        with self._database.write() as connection:
            yield connection
            last = _last_seq(connection)
        with self._news:
            if last <= self._last:  # of two threads the later one may come here first
                return
            self._last = last
            self._news.notify_all()
        for listener in self._listeners:
            listener()


def _find(connection: sqlite3.Connection, identifier: str) -> Job:
    check_id(identifier, JOB)
    row = connection.execute("SELECT * FROM jobs WHERE id = ?", (identifier,)).fetchone()
    if row is None:
        raise NotFoundError(f"there is no job {identifier}.", hint="List them to see what there is.")
    return _job(row)


def _with_key(connection: sqlite3.Connection, key: str | None) -> Job | None:
    row = connection.execute("SELECT * FROM jobs WHERE idempotency_key = ?", (key,)).fetchone()
    return _job(row) if row is not None else None


def _with_status(connection: sqlite3.Connection, status: JobStatus) -> list[Job]:
    rows = connection.execute("SELECT * FROM jobs WHERE status = ? ORDER BY id", (status,))
    return [_job(row) for row in rows.fetchall()]


def _unfinished(connection: sqlite3.Connection) -> list[Job]:
    rows = connection.execute(
        "SELECT * FROM jobs WHERE status IN ('queued', 'running') ORDER BY status = 'queued', queued_at, id"
    )
    return [_job(row) for row in rows]


def _insert(connection: sqlite3.Connection, job: Job, key: str | None) -> None:
    values = {
        "id": job.id,
        "type": job.type,
        "status": job.status,
        "subject_kind": job.subject.kind if job.subject else None,
        "subject_name": job.subject.name if job.subject else None,
        "model": job.model.model_dump_json() if job.model else None,
        "params": json.dumps(job.params),
        "idempotency_key": key,
        "attempts": job.attempts,
        "interruptions": job.interruptions,
        "cancel_requested": job.cancel_requested,
        "created_at": job.created_at,
        "queued_at": job.queued_at,
    }
    places = ", ".join(f":{column}" for column in values)
    connection.execute(f"INSERT INTO jobs ({', '.join(values)}) VALUES ({places})", values)


def _check_room(there: list[Job], type: str, subject: Subject | None, most: int | None) -> None:
    for job in there:
        if subject is not None and (job.type, job.subject) == (type, subject):
            raise ConflictError(
                f"{job.id} is {job.status} and does the same for {subject.name!r}.", hint="Wait for it, or cancel it."
            )
    if most is not None and len(there) >= most:
        raise BusyError(f"{len(there)} jobs are waiting already.", hint="Wait until some are done, or cancel some.")


def _finish(
    connection: sqlite3.Connection,
    job: Job,
    status: Outcome,
    *,
    result: Data | None = None,
    error: JobError | None = None,
) -> Job:
    connection.execute(
        "UPDATE jobs SET status = ?, result = ?, error = ?, finished_at = ? WHERE id = ?",
        (
            status,
            json.dumps(dict(result)) if result is not None else None,
            error.model_dump_json() if error is not None else None,
            time.time(),
            job.id,
        ),
    )
    if error is not None:
        _tell(connection, job.id, "error", error.model_dump(mode="json"))
    if result is not None:
        _tell(connection, job.id, "done", result)
    _tell(connection, job.id, "state", {"status": status})
    return _find(connection, job.id)


def _requeue(connection: sqlite3.Connection, job: Job, *, interruptions: int, queued_at: float | None = None) -> Job:
    connection.execute(
        "UPDATE jobs SET status = 'queued', queued_at = ?, interruptions = ?, cancel_requested = 0, error = NULL, "
        "finished_at = NULL WHERE id = ?",
        (time.time() if queued_at is None else queued_at, interruptions, job.id),
    )
    _tell(connection, job.id, "state", {"status": "queued"})
    return _find(connection, job.id)


def _tell(connection: sqlite3.Connection, job_id: str, type: EventType, data: Data) -> None:
    connection.execute(
        "INSERT INTO job_events (job_id, type, data, created_at) VALUES (?, ?, ?, ?)",
        (job_id, type, json.dumps(dict(data), ensure_ascii=False), time.time()),
    )


def _last_seq(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'job_events'").fetchone()
    return int(row["seq"]) if row is not None else 0


def _job(row: sqlite3.Row) -> Job:
    fields = dict(row)
    kind, name = fields.pop("subject_kind"), fields.pop("subject_name")
    del fields["idempotency_key"]
    for column in ("model", "params", "progress", "result", "error"):
        if fields[column] is not None:
            fields[column] = json.loads(fields[column])
    return Job.model_validate({**fields, "subject": Subject(kind=kind, name=name) if name is not None else None})


def _event(row: sqlite3.Row) -> JobEvent:
    return JobEvent.model_validate({**dict(row), "data": json.loads(row["data"])})
