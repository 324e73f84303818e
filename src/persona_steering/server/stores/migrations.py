"""What the database is made of. A version is the number of steps that were taken; a published step never changes.

To change the tables, append a step.
"""

from __future__ import annotations

Step = tuple[str, ...]

_FIRST: Step = (
    """CREATE TABLE conversations (
        id TEXT PRIMARY KEY, title TEXT NOT NULL, model TEXT NOT NULL, leaf_id TEXT,
        created_at REAL NOT NULL, updated_at REAL NOT NULL, version INTEGER NOT NULL
    ) WITHOUT ROWID""",
    # The parent is checked when a transaction ends: a branch is deleted in one statement, however deep it is.
    """CREATE TABLE messages (
        id TEXT PRIMARY KEY,
        conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
        parent_id TEXT,
        role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
        content TEXT NOT NULL, status TEXT NOT NULL, made TEXT, created_at REAL NOT NULL,
        UNIQUE (conversation_id, id),
        FOREIGN KEY (conversation_id, parent_id) REFERENCES messages (conversation_id, id)
            DEFERRABLE INITIALLY DEFERRED
    ) WITHOUT ROWID""",
    "CREATE INDEX messages_by_parent ON messages (conversation_id, parent_id)",
    "CREATE INDEX messages_being_written ON messages (status) WHERE status = 'writing'",
    """CREATE TABLE presets (
        name TEXT PRIMARY KEY, description TEXT NOT NULL, steering TEXT NOT NULL,
        created_at REAL NOT NULL, updated_at REAL NOT NULL, version INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE jobs (
        id TEXT PRIMARY KEY, type TEXT NOT NULL,
        status TEXT NOT NULL
            CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'interrupted')),
        subject_kind TEXT, subject_name TEXT, model TEXT, params TEXT NOT NULL, idempotency_key TEXT UNIQUE,
        progress TEXT, result TEXT, error TEXT,
        attempts INTEGER NOT NULL, interruptions INTEGER NOT NULL, cancel_requested INTEGER NOT NULL,
        created_at REAL NOT NULL, queued_at REAL NOT NULL, started_at REAL, finished_at REAL
    ) WITHOUT ROWID""",
    "CREATE INDEX jobs_by_status ON jobs (status, queued_at)",
    # AUTOINCREMENT: a number is never used again, so a reader that comes back misses nothing.
    """CREATE TABLE job_events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        type TEXT NOT NULL, data TEXT NOT NULL, created_at REAL NOT NULL
    )""",
    "CREATE INDEX job_events_by_job ON job_events (job_id, seq)",
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, model TEXT NOT NULL,
        folder TEXT NOT NULL, data TEXT, report TEXT, job_id TEXT REFERENCES jobs (id) ON DELETE SET NULL,
        created_at REAL NOT NULL, UNIQUE (kind, folder)
    ) WITHOUT ROWID""",
    "CREATE INDEX runs_by_name ON runs (name, kind)",
)

MIGRATIONS: tuple[Step, ...] = (_FIRST,)
