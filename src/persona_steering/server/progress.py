"""How far a job is: counted, and timed only while something was really computed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from pydantic import Field

from persona_steering.backends.base import Progress
from persona_steering.vectors.values import Closed

WINDOW = 8  # of the newest steps make the rate


class JobProgress(Closed):
    """Where a job stands. `rate` and `eta_s` are measured, of this phase; None until there is something to measure."""

    phase: str
    phase_index: int = Field(ge=0, description="0 is the first of `phases`")
    phases: tuple[str, ...]
    done: int = Field(ge=0)
    total: int = Field(ge=0)
    rate: float | None = Field(default=None, ge=0, description="units a second, waiting for chats included")
    eta_s: float | None = Field(default=None, ge=0, description="seconds that are left of this phase")


class Meter:
    """Turns the steps of a job into its progress.

    Steps that computed nothing, as those that a resumed job finds on disk, are counted and not timed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phases: list[str] = []
        self._step: Progress | None = None
        self._since = clock()
        self._timed: deque[tuple[int, float]] = deque(maxlen=WINDOW)

    def plan(self, phases: Sequence[str]) -> None:
        """Says which phases there will be, in order."""
        self._phases = list(dict.fromkeys(phases))

    def take(self, step: Progress, *, computed: bool) -> JobProgress:
        """The progress after one more step, which took since the last one. `computed`: on the device."""
        now = self._clock()
        before = self._step
        if before is None or before.phase != step.phase:
            self._timed.clear()
            self._enter(step.phase, before.phase if before else None)
        elif computed and step.done > before.done:
            self._timed.append((step.done - before.done, now - self._since))
        if before is None or before.phase != step.phase or step.done != before.done:
            self._since = now
        self._step = step
        done, seconds = sum(done for done, _ in self._timed), sum(time for _, time in self._timed)
        rate = done / seconds if seconds > 0 else None
        return JobProgress(
            phase=step.phase,
            phase_index=self._phases.index(step.phase),
            phases=tuple(self._phases),
            done=step.done,
            total=step.total,
            rate=rate,
            eta_s=max(step.total - step.done, 0) / rate if rate else None,
        )

    def _enter(self, phase: str, before: str | None) -> None:
        """A phase that nobody planned comes after the one before it."""
        if phase not in self._phases:
            self._phases.insert(self._phases.index(before) + 1 if before is not None else 0, phase)
