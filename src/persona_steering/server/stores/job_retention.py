"""What is forgotten of jobs, so that the database does not grow for ever. Their results are files, and stay."""

from __future__ import annotations

import sqlite3

KEPT_JOBS = 500  # finished ones
KEPT_EVENTS = 1000  # of one job


def forget_events(connection: sqlite3.Connection, job_id: str, *, keep: int = KEPT_EVENTS) -> None:
    """Deletes all but the newest events of a job."""
    connection.execute(
        "DELETE FROM job_events WHERE job_id = :job AND seq <= "
        "(SELECT seq FROM job_events WHERE job_id = :job ORDER BY seq DESC LIMIT 1 OFFSET :keep)",
        {"job": job_id, "keep": keep},
    )


def forget_jobs(connection: sqlite3.Connection, *, keep: int = KEPT_JOBS) -> None:
    """Deletes all but the newest of the jobs that succeeded, failed or were cancelled, with their events."""
    connection.execute(
        "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE status IN ('succeeded', 'failed', 'cancelled') "
        "ORDER BY finished_at DESC, id DESC LIMIT -1 OFFSET ?)",
        (keep,),
    )
