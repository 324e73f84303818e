"""The jobs of a workspace for other programs: through its server, or out of its database where none runs."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from persona_steering.engine.remote.client import ApiClient, Event
from persona_steering.engine.remote.refusals import error_of, strange
from persona_steering.engine.remote.service import pages
from persona_steering.errors import ServerError, ServerRefusalError
from persona_steering.server.ids import check_id
from persona_steering.server.jobs.kinds import JobEstimate
from persona_steering.server.paging import MAX_LIMIT, PageQuery
from persona_steering.server.stores.job_models import JOB, Job, JobEvent, JobStatus
from persona_steering.server.stores.jobs import JobStore

Model = TypeVar("Model", bound=BaseModel)
JOBS = "/api/v1/jobs"
COMING_BACK = 3  # attempts to listen again when a stream broke off
PAUSE = 1.0  # seconds before each


class JobAccess(ABC):
    """Raises NotFoundError for a job that is not there, ConflictError for a change that its state does not allow."""

    @abstractmethod
    def jobs(self, *, status: JobStatus | None = None, type: str | None = None, most: int = 20) -> list[Job]:
        """The newest first."""

    @abstractmethod
    def get(self, identifier: str) -> Job:
        """One job."""

    @abstractmethod
    def events(self, identifier: str) -> Iterator[JobEvent]:
        """What has happened in it until now."""

    @abstractmethod
    def cancel(self, identifier: str) -> Job:
        """Cancels it, or has it stop at its next token."""

    @abstractmethod
    def retry(self, identifier: str) -> Job:
        """Queues it again; it goes on from the answers it has."""


class StoredJobs(JobAccess):
    """The jobs in a database that no server holds. What is queued there runs when one starts."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def jobs(self, *, status: JobStatus | None = None, type: str | None = None, most: int = 20) -> list[Job]:
        found: list[Job] = []
        query = PageQuery(limit=min(most, MAX_LIMIT))
        while True:
            page = self._store.page(query, status=status, type=type)
            found += page.data
            if not page.has_more or len(found) >= most:
                return found[:most]
            query = query.model_copy(update={"after": page.last_id})

    def get(self, identifier: str) -> Job:
        return self._store.get(identifier)

    def events(self, identifier: str) -> Iterator[JobEvent]:
        after = 0
        while found := self._store.events(after, job_id=identifier):
            yield from found
            after = found[-1].seq

    def cancel(self, identifier: str) -> Job:
        return self._store.request_cancel(identifier)

    def retry(self, identifier: str) -> Job:
        return self._store.requeue(identifier)


class RemoteJobs(JobAccess):
    """The jobs of a running server."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def jobs(self, *, status: JobStatus | None = None, type: str | None = None, most: int = 20) -> list[Job]:
        found: list[Job] = []
        for item in pages(self._api, JOBS, status=status, type=type):
            found.append(self._job(item))
            if len(found) == most:
                break
        return found

    def get(self, identifier: str) -> Job:
        return self._job(self._api.get(_path(identifier)))

    def events(self, identifier: str) -> Iterator[JobEvent]:
        after, more = 0, True
        while more:
            page = self._api.get(f"{_path(identifier)}/log", after=after, limit=1000)
            found = [self._event(item) for item in page["data"]]
            yield from found
            more = bool(page["has_more"]) and bool(found)
            after = found[-1].seq if found else after

    def cancel(self, identifier: str) -> Job:
        return self._job(self._api.send("POST", f"{_path(identifier)}/cancel"))

    def retry(self, identifier: str) -> Job:
        return self._job(self._api.send("POST", f"{_path(identifier)}/retry"))

    def submit(self, path: str, params: Mapping[str, JsonValue]) -> Job:
        """Asks for a job. Raises what the server refuses it with."""
        return self._job(self._api.send("POST", path, params))

    def estimate(self, path: str, params: Mapping[str, JsonValue]) -> JobEstimate:
        """What it would take there. Raises as `submit`."""
        return self._read(JobEstimate, self._api.send("POST", path, params, query={"dry_run": "true"}))

    def follow(
        self, identifier: str, *, after: int = 0, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[JobEvent]:
        """What happens in a job after event number `after`, until it ends or `cancelled` says so.

        A stream that breaks off is listened to again. Raises ServerError when the server is gone.
        """
        failures = 0
        while True:
            try:
                stream = self._api.events(
                    "GET", f"{_path(identifier)}/events", query={"after": after}, cancelled=cancelled
                )
                for event in stream:
                    found = self._told(event)
                    after, failures = found.seq, 0
                    yield found
                if (cancelled is not None and cancelled()) or self.get(identifier).finished:
                    return
            except ServerRefusalError:
                raise
            except ServerError:
                failures += 1
                if failures > COMING_BACK:
                    raise
            time.sleep(PAUSE)

    def _told(self, event: Event) -> JobEvent:
        if event.type == "failure":
            raise error_of(event.json()["error"])
        return self._event(event.json())

    def _job(self, value: object) -> Job:
        return self._read(Job, value)

    def _event(self, value: object) -> JobEvent:
        return self._read(JobEvent, value)

    def _read(self, kind: type[Model], value: object) -> Model:
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            raise strange(f"with something that is no {kind.__name__}", self._api.url) from error


def _path(identifier: str) -> str:
    return f"{JOBS}/{check_id(identifier, JOB)}"
