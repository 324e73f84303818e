"""Work on a few threads at once, for what waits on a server."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Self, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

POLL = 0.1  # seconds between two looks at `cancelled` while results are waited for


class Pool(Generic[Job, Result]):
    """A few threads that do jobs; after a failure none begins another. Use it as a context manager.

    They are daemons, so that nobody who stops waits for a server that hangs. `work` is given a job, and a function
    that says whether to stop.
    """

    def __init__(
        self,
        work: Callable[[Job, Callable[[], bool]], Result],
        jobs: Sequence[Job],
        concurrency: int,
    ) -> None:
        self._work, self._total = work, len(jobs)
        self._waiting: queue.SimpleQueue[tuple[int, Job]] = queue.SimpleQueue()
        for job in enumerate(jobs):
            self._waiting.put(job)
        self._results: queue.SimpleQueue[tuple[int, Result | Exception]] = queue.SimpleQueue()
        self._stopped, self._failed = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(min(concurrency, len(jobs)))]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()

    def results(self, cancelled: Callable[[], bool] | None) -> Iterator[tuple[int, Result | Exception]]:
        """What comes in, by the job's index, until all is there, `cancelled` says so, or no thread is left."""
        seen = 0
        while seen < self._total and not (cancelled is not None and cancelled()):
            alive = any(thread.is_alive() for thread in self._threads)
            try:
                yield self._results.get(timeout=POLL)
                seen += 1
            except queue.Empty:
                if not alive:
                    return

    def _run(self) -> None:
        while not (self._stopped.is_set() or self._failed.is_set()):
            try:
                index, job = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._results.put((index, self._work(job, self._stopped.is_set)))
            except Exception as error:  # raised where it is waited for, not lost in the thread
                self._failed.set()
                self._results.put((index, error))
