"""Projections of the answers in a file, as further columns: what the persona-vectors pipeline calls `cal_projection`.

A column is named as published, `{model}_{vector}_{type}_layer{l}`, and so is its number: `l` is the row of a
persona_vectors file, one more than our layer, because row `l` is the output of block `l - 1`. The published row of
the last block is taken after the final norm and ours before it; that column ends in `_resid`, to be told apart.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from persona_steering.backends.base import Progress, ProgressCallback, Text, no_progress
from persona_steering.errors import UsageError
from persona_steering.evaluation.readouts import ProjectionKind, Reader, Reading, Readout, saved_readings
from persona_steering.evaluation.samples import Sample, SampleFile, copy_with, side_file
from persona_steering.extraction.run import Moments, Run
from persona_steering.files import atomic_writer
from persona_steering.vectors import ModelIdentity
from persona_steering.vectors.values import Closed

PHASE = "projections"
EXTREMES = 5  # answers shown from each end of a column
NAMED = 1000  # skipped rows that are named; the others are counted


class Skipped(Closed):
    """A row without a value, and why."""

    line: int
    reason: str


class ShownSample(Closed):
    """An answer with its projection."""

    line: int
    value: float
    question: str
    answer: str


class Column(Closed):
    """One projection of all answers. `layer` is ours, 0-based; the number in `name` is the published one.

    Mean, standard deviation and extremes are over answers, which are not independent where prompts repeat. None:
    there was nothing to measure.
    """

    name: str
    vector: str
    layer: int
    n: int
    mean: float | None
    sd: float | None
    lowest: tuple[ShownSample, ...]
    highest: tuple[ShownSample, ...]


class Projected(Closed):
    """What `project_file` did. `skipped` names the first NAMED rows without a value of `num_skipped`."""

    file: Path
    out: Path
    model: str
    type: ProjectionKind
    rows: int
    columns: tuple[Column, ...]
    num_skipped: int
    skipped: tuple[Skipped, ...]
    run: Path


def column_name(model: ModelIdentity, readout: Readout, kind: ProjectionKind) -> str:
    """The published name of a column, with the published number of its layer."""
    row = readout.layer + 1
    after = "" if row < model.num_layers else "_resid"
    return f"{Path(model.id.removeprefix('hf:')).name}_{readout.label}_{kind}_layer{row}{after}"


def column_names(
    samples: SampleFile, model: ModelIdentity, readouts: Sequence[Readout], kind: ProjectionKind, *, overwrite: bool
) -> tuple[str, ...]:
    """The names of the columns to come.

    Raises UsageError where two would be called the same, or the file has one already and is not to `overwrite` it.
    """
    names = tuple(column_name(model, readout, kind) for readout in readouts)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two columns would be called {twice[0]!r}.", hint="Name every vector and layer once.")
    there = [name for name in names if samples.has_column(name)]
    if there and not overwrite:
        raise UsageError(
            f"{samples.path.name!r} has the column {there[0]!r} already.", hint="Measure it again with --overwrite."
        )
    return names


def project_file(
    samples: SampleFile,
    reader: Reader,
    *,
    out: Path,
    layout: Literal["copy", "side"],
    run: Run,
    overwrite: bool = False,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Projected:
    """Writes the projections of every answer of a file to `out`, whole or not at all.

    A "copy" is the file with further columns, a "side" file has the columns alone. `out` may be the file itself.
    Only a chunk of rows is in memory at a time; what an interrupted run has read is not read again.
    Raises UsageError, CancelledError, StorageError, and what the backend raises.
    """
    model = reader.backend.identity
    names = column_names(samples, model, reader.readouts, reader.kind, overwrite=overwrite)
    total = sum(1 for _ in samples)
    folder = run.folder / f"{PHASE}-{reader.digest(samples.digest())}"
    texts = (sample.text or sample.problem for sample in samples)
    summary = _Summary(names, reader.readouts)
    rows = _watched(samples, saved_readings(reader, texts, folder=folder, cancelled=cancelled), summary)
    counted = _counted(rows, total, progress)
    pieces = copy_with(samples, names, counted) if layout == "copy" else side_file(names, counted)
    with atomic_writer(out) as file:
        for piece in pieces:
            file.write(piece)
        if not summary.measured:  # raised in the block, so that nothing is written
            reasons = "; ".join(f"line {one.line}: {one.reason}" for one in summary.skipped[:3])
            raise UsageError(f"no answer of {samples.path.name!r} could be read.", hint=reasons or "It is empty.")
    return Projected(
        file=samples.path,
        out=out,
        model=model.id,
        type=reader.kind,
        rows=total,
        columns=tuple(column.finished() for column in summary.columns),
        num_skipped=summary.num_skipped,
        skipped=tuple(summary.skipped),
        run=run.folder,
    )


def _watched(
    samples: Iterable[Sample], readings: Iterable[Reading], summary: _Summary
) -> Iterator[tuple[Sample, Sequence[float]]]:
    for sample, reading in zip(samples, readings, strict=True):
        summary.add(sample, reading)
        yield sample, reading.values


def _counted(
    rows: Iterable[tuple[Sample, Sequence[float]]], total: int, progress: ProgressCallback
) -> Iterator[tuple[Sample, Sequence[float]]]:
    progress(Progress(PHASE, 0, total))
    for done, row in enumerate(rows, 1):
        yield row
        progress(Progress(PHASE, done, total))


@dataclass
class _Column:
    """What is kept of one column while its values go by."""

    name: str
    readout: Readout
    moments: Moments = field(default_factory=Moments)
    low: list[tuple[float, int, Text]] = field(default_factory=list)  # heaps, of the negated and the plain value
    high: list[tuple[float, int, Text]] = field(default_factory=list)

    def add(self, value: float, line: int, text: Text) -> None:
        self.moments.add(np.asarray(value))
        for heap, key in ((self.low, -value), (self.high, value)):
            heapq.heappush(heap, (key, -line, text))
            if len(heap) > EXTREMES:
                heapq.heappop(heap)

    def finished(self) -> Column:
        known = self.moments.count > 0
        return Column(
            name=self.name,
            vector=self.readout.label,
            layer=self.readout.layer,
            n=self.moments.count,
            mean=float(self.moments.mean) if known else None,
            sd=float(self.moments.variance) ** 0.5 if known else None,
            lowest=tuple(_shown(-key, line, text) for key, line, text in sorted(self.low, reverse=True)),
            highest=tuple(_shown(key, line, text) for key, line, text in sorted(self.high, reverse=True)),
        )


class _Summary:
    """What is kept of all columns while the rows go by: nothing that grows with their number."""

    def __init__(self, names: Sequence[str], readouts: Sequence[Readout]) -> None:
        self.columns = [_Column(*pair) for pair in zip(names, readouts, strict=True)]
        self.skipped: list[Skipped] = []
        self.num_skipped = self.measured = 0

    def add(self, sample: Sample, reading: Reading) -> None:
        if sample.text is None or reading.problem:
            self.num_skipped += 1
            if len(self.skipped) < NAMED:
                self.skipped.append(Skipped(line=sample.line, reason=reading.problem))
            return
        self.measured += 1
        for column, value in zip(self.columns, reading.values, strict=True):
            column.add(value, sample.line, sample.text)


def _shown(value: float, line: int, text: Text) -> ShownSample:
    question = text.messages[-1].content if text.messages else text.rendered
    return ShownSample(line=-line, value=value, question=question, answer=text.response)
