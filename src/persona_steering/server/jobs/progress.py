"""How far a job is: counted, and timed only while something was really computed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic import Field

from persona_steering.backends.base import Progress
from persona_steering.vectors.values import Closed

WINDOW = 8  # of the newest steps make the rate


class Planned(NamedTuple):
    """A phase that is to come: the answers that are not on disk yet, and the tokens of one at most."""

    phase: str
    answers: int
    tokens: int


class JobProgress(Closed):
    """Where a job stands. Rate and times are measured; None until there is something to measure."""

    phase: str
    phase_index: int = Field(ge=0, description="0 is the first of `phases`")
    phases: tuple[str, ...]
    done: int = Field(ge=0, description="of this phase")
    total: int = Field(ge=0, description="of this phase")
    rate: float | None = Field(default=None, ge=0, description="units of this phase a second, chats included")
    eta_s: float | None = Field(
        default=None, ge=0, description="seconds left of the job, if its later phases go as fast as those until now"
    )


class Meter:
    """Turns the steps of a job into its progress.

    Steps that computed nothing, as those that a resumed job finds on disk, are counted and not timed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phases: list[str] = []
        self._planned: dict[str, Planned] = {}
        self._step: Progress | None = None
        self._since = clock()
        self._computed = False  # since then
        self._timed: deque[tuple[int, float]] = deque(maxlen=WINDOW)  # units and seconds of this phase
        self._tokens, self._seconds = 0, 0.0  # of all phases; seconds of scoring lie between two phases

    def plan(self, work: Sequence[Planned]) -> None:
        """Says which phases there will be, in order."""
        self._phases = list(dict.fromkeys(one.phase for one in work))
        self._planned = {one.phase: one for one in work}

    def take(self, step: Progress, *, computed: bool) -> JobProgress:
        """The progress after one more step. `computed`: something ran on the device since the one before."""
        before, self._step = self._step, step
        self._computed |= computed
        entered = before is None or before.phase != step.phase
        if entered:
            self._enter(step.phase, before.phase if before else None)
        if entered or (before is not None and before.done != step.done):
            self._time(step, 0 if entered or before is None else step.done - before.done)
        units, seconds = sum(units for units, _ in self._timed), sum(time for _, time in self._timed)
        return JobProgress(
            phase=step.phase,
            phase_index=self._phases.index(step.phase),
            phases=tuple(self._phases),
            done=step.done,
            total=step.total,
            rate=units / seconds if seconds > 0 else None,
            eta_s=self._seconds / self._tokens * self._left(step) if self._tokens and self._seconds > 0 else None,
        )

    def _time(self, step: Progress, units: int) -> None:
        now = self._clock()
        if self._computed:
            self._seconds += now - self._since
            if units > 0:
                self._timed.append((units, now - self._since))
                self._tokens += units * self._tokens_of(step.phase)
        self._since, self._computed = now, False

    def _left(self, step: Progress) -> int:
        """Tokens that are still to be written."""
        later = self._phases[self._phases.index(step.phase) + 1 :]
        own = max(step.total - step.done, 0) * self._tokens_of(step.phase)
        return own + sum(self._planned[name].answers * self._tokens_of(name) for name in later if name in self._planned)

    def _tokens_of(self, phase: str) -> int:
        return max(self._planned[phase].tokens, 1) if phase in self._planned else 1

    def _enter(self, phase: str, before: str | None) -> None:
        """A phase that nobody planned comes after the one before it."""
        self._timed.clear()
        if phase not in self._phases:
            self._phases.insert(self._phases.index(before) + 1 if before is not None else 0, phase)
