"""The index of what was made and measured: which folder below `runs/` holds which result."""

from __future__ import annotations

import sqlite3
import time

from pydantic import BaseModel, ConfigDict, Field

from persona_steering.errors import NotFoundError
from persona_steering.server.ids import check_id, new_id
from persona_steering.server.paging import Page, PageQuery, select_page
from persona_steering.server.stores.database import Database

RUN = "run"


class RunRecord(BaseModel):
    """One result. `kind` is the measurement ("sweep", "layers", "card", "similarity") or what was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    kind: str
    name: str = Field(description="of the vector; several are joined by commas")
    model: str = Field(description="the model's fingerprint")
    folder: str = Field(description="below the workspace's folder of runs")
    data: str | None = Field(description="the file of results in it")
    report: str | None = Field(description="the page in it")
    job_id: str | None
    created_at: float = Field(description="seconds since 1970")


class RunStore:
    """The results of a workspace. Raises NotFoundError, UsageError and what the database raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        kind: str,
        name: str,
        *,
        model: str,
        folder: str,
        data: str | None = None,
        report: str | None = None,
        job_id: str | None = None,
    ) -> RunRecord:
        """Notes a result; one of the same kind in the same folder is replaced, for there it was measured again."""
        made = RunRecord(
            id=new_id(RUN),
            kind=kind,
            name=name,
            model=model,
            folder=folder,
            data=data,
            report=report,
            job_id=job_id,
            created_at=time.time(),
        )
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO runs VALUES "
                "(:id, :kind, :name, :model, :folder, :data, :report, :job_id, :created_at)",
                made.model_dump(),
            )
        return made

    def get(self, identifier: str) -> RunRecord:
        """One result."""
        check_id(identifier, RUN)
        with self._database.read() as connection:
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (identifier,)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no run {identifier}.", hint="It may have been made again since.")
        return _run(row)

    def page(
        self,
        query: PageQuery | None = None,
        *,
        kind: str | None = None,
        name: str | None = None,
        model: str | None = None,
    ) -> Page[RunRecord]:
        """A page of them, of one kind, vector or model where given."""
        query = query or PageQuery()
        if query.after is not None:
            check_id(query.after, RUN)
        with self._database.read() as connection:
            return select_page(connection, "runs", query, _run, where={"kind": kind, "name": name, "model": model})


def _run(row: sqlite3.Row) -> RunRecord:
    return RunRecord.model_validate(dict(row))
