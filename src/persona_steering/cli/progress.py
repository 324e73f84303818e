"""Long work as a person sees it: bars on a terminal's stderr, else one line per phase. A `ProgressCallback`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.spinner import Spinner
from rich.text import Text

from persona_steering.backends.base import Progress as Report
from persona_steering.cli.render import err, printable
from persona_steering.errors import CancelledError

LABELS = {
    "writing prompts": "writing system prompts",
    "writing pairs": "writing pairs of instructions",
    "baseline": "the model's own answers",
    "safe": "answers to safe prompts",
    "unsafe": "answers to unsafe prompts",
    "persona": "answers in character",
    "positive": "answers with the trait",
    "negative": "answers without the trait",
    "reference": "reference answers",
    "bands": "which layers",
    "doses": "how strongly",
    "confirm": "confirming on new questions",
    "answers": "answers side by side",
    "sweep": "answers at every strength",
    "layers": "answers at every layer",
    "card": "answers beside random ones",
    "selectivity": "other personas and traits",
    "rollouts": "answers",
    "own": "the model's own answers",
    "judging": "judging",
    "capture": "reading the answers",
}


AT_ONCE = 0.5  # seconds; what is done by then was read from an earlier run, and has no rate


class RateColumn(ProgressColumn):
    """Answers per second since the phase began. Rich's own rate needs more reports than a short phase has."""

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time if task.finished else task.elapsed
        known = task.completed and elapsed is not None and elapsed > AT_ONCE
        text = f"{task.completed / elapsed:.1f}/s" if known and elapsed else ""
        return Text(text, style="progress.data.speed")


class RemainingColumn(ProgressColumn):
    """Time left at the rate so far."""

    def __init__(self) -> None:
        super().__init__()
        self._spent: dict[tuple[TaskID, float], float] = {}

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text("")
        if not task.completed or not task.elapsed or task.total is None:
            return Text("ETA -:--", style="progress.remaining")
        # measured at the last report, so that it counts down between reports
        spent = self._spent.setdefault((task.id, task.completed), task.elapsed)
        left = max(0.0, spent / task.completed * task.total - task.elapsed)
        return Text(f"ETA {int(left) // 60}:{int(left) % 60:02}", style="progress.remaining")


class _Bars(Progress):
    """Bars, and beneath them the newest sample; between two phases, while answers are scored, a spinner."""

    sample = ""
    between = False
    _spinner = Spinner("dots", text=Text("measuring", style="dim"))

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.between:
            yield self._spinner
        elif self.sample:
            yield Text(f"  {self.sample}", style="dim italic", no_wrap=True, overflow="ellipsis")


class ProgressReport:
    """Shows the reports that it is called with. Use it as a context manager."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._console = console or err()
        self._quiet = quiet
        self._bars: _Bars | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._started = 0.0
        self._ended = True

    def __call__(self, report: Report, *, at: float | None = None) -> None:
        """Shows a report; `at` is when it was made, on the monotonic clock, where that is not now."""
        if self._quiet or not report.total:
            return
        now = time.monotonic() if at is None else at
        if report.done == 0 or report.phase != self._phase or self._ended:
            self._begin(report, now)
        self._ended = report.done >= report.total
        if self._bars is not None and self._task is not None:
            if at is not None and self._ended:
                self._row(self._bars).stop_time = now
            self._bars.between, self._bars.sample = self._ended, printable(" ".join(report.sample.split()))
            self._bars.update(self._task, completed=report.done)
        elif self._ended:
            seconds = now - self._started
            line = f"{label(report.phase)}: {report.done} of {report.total} in {seconds:.0f} s"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show_sample(self, text: str) -> None:
        """One of the answers, beneath the bars."""
        if self._bars is not None:
            self._bars.sample = printable(" ".join(text.split()))

    def _begin(self, report: Report, now: float) -> None:
        self._phase, self._started = report.phase, now
        if self._bars is not None:
            self._task = self._bars.add_task(label(report.phase), total=report.total)
            self._row(self._bars).start_time = now

    def _row(self, bars: Progress) -> Task:
        return next(task for task in bars.tasks if task.id == self._task)

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bars = _Bars(
                TextColumn("{task.description:<27}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                RateColumn(),
                TimeElapsedColumn(),
                RemainingColumn(),
                console=self._console,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.between, self._bars.sample = False, ""
            self._bars.stop()
            self._bars = None


def label(phase: str) -> str:
    """A phase in plain words."""
    return LABELS.get(phase, phase)


@contextmanager
def resumable_progress(*, quiet: bool = False) -> Iterator[ProgressReport]:
    """Progress of work that is saved as it goes: Ctrl-C ends it with a note that the same command resumes."""
    with resumable(ProgressReport(quiet=quiet)) as progress:
        yield progress


@contextmanager
def resumable(progress: ProgressReport) -> Iterator[ProgressReport]:
    """The same for a report that exists already."""
    try:
        with progress:
            yield progress
    except KeyboardInterrupt:
        raise CancelledError(
            "stopped; every finished batch is saved.", hint="The same command goes on where it stopped."
        ) from None
