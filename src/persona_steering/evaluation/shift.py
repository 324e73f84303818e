"""What a finetuning has moved: the change of the last-prompt-token projection on questions.

    shift = mean over questions of (p_tuned - p_base)·v / ||v||,   p the last prompt token in the residual stream

Source: the finetuning shift of "Persona Vectors" (arXiv 2507.21509), on a trait's evaluation questions without a
system prompt. Beside it stands the shift along random directions at the same layer: a finetuning moves the stream in
every direction somewhat, and only what stands out from that is about the trait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from persona_steering.backends.base import Backend, Progress, ProgressCallback, Text, conversation, no_progress
from persona_steering.errors import ModelMismatchError, UsageError
from persona_steering.evaluation.readouts import (
    CONTROLS,
    Reader,
    Readout,
    batched,
    control_readouts,
    null_means,
)
from persona_steering.evaluation.statistics import mean_interval, z_score
from persona_steering.vectors import ModelIdentity
from persona_steering.vectors.values import Closed, Interval

BASE, TUNED = "base model", "tuned model"
AT_ONCE = 32  # questions between two reports of progress


class Shifted(Closed):
    """The shift along one vector at one layer.

    `base`, `tuned` and `shift` are signed lengths in the residual stream; `relative` is the shift over ||v||, so 1 is
    as far as from the vector's negative side to its positive. `control_mean` and `control_sd` are of the mean shifts
    along CONTROLS random directions, and `z` says how many of those standard deviations the shift is away.
    """

    vector: str
    layer: int
    base: float
    tuned: float
    shift: Interval
    relative: float
    control_mean: float
    control_sd: float
    z: float | None
    by_question: tuple[float, ...]


class Shift(Closed):
    """The shifts of all vectors and layers on the same questions."""

    base: str
    tuned: str
    questions: tuple[str, ...]
    shifts: tuple[Shifted, ...]
    controls: int
    run: Path | None = None


def last_token_readings(
    backend: Backend,
    questions: Sequence[str],
    readouts: Sequence[Readout],
    *,
    phase: str,
    progress: ProgressCallback = no_progress,
) -> np.ndarray:
    """The projections of the last prompt token of every question, float64 `[questions, readouts]`.

    Raises UsageError naming a question that the model does not take.
    """
    reader = Reader(backend, readouts, "prompt_last_proj")
    rows: list[tuple[float, ...]] = []
    progress(Progress(phase, 0, len(questions)))
    for part in batched(questions, AT_ONCE):
        found = reader.read([Text(conversation(question), ".") for question in part])
        for question, reading in zip(part, found, strict=True):
            if reading.problem:
                raise UsageError(f"the question {question[:60]!r} cannot be asked: {reading.problem}.")
            rows.append(reading.values)
        progress(Progress(phase, len(rows), len(questions), part[-1]))
    return np.array(rows, np.float64)


def measure_shift(
    open_base: Callable[[], Backend],
    open_tuned: Callable[[], Backend],
    questions: Sequence[str],
    make: Callable[[ModelIdentity], Sequence[Readout]],
    *,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
) -> Shift:
    """The shift from one model to another along the readouts that `make` gives for the base model.

    The models are opened one after the other, and each is closed before the next.
    Raises ModelMismatchError for a model of other layers or another hidden size, and UsageError without questions.
    """
    if len(questions) < 2:
        raise UsageError(f"{len(questions)} questions were given.", hint="An interval needs at least 2.")
    with open_base() as backend:
        base = backend.identity
        readouts = tuple(make(base))
        everything = (*readouts, *control_readouts(readouts, seed=seed))
        before = last_token_readings(backend, questions, everything, phase=BASE, progress=progress)
    with open_tuned() as backend:
        tuned = backend.identity
        if (tuned.num_layers, tuned.hidden_size) != (base.num_layers, base.hidden_size):
            raise ModelMismatchError(
                f"{tuned} cannot be a finetuned {base}.", hint="Both need the same layers and the same hidden size."
            )
        after = last_token_readings(backend, questions, everything, phase=TUNED, progress=progress)
    return Shift(
        base=base.id,
        tuned=tuned.id,
        questions=tuple(questions),
        shifts=tuple(_shifted(i, everything, before, after, seed=seed) for i in range(len(readouts))),
        controls=CONTROLS,
    )


def _shifted(index: int, readouts: Sequence[Readout], before: np.ndarray, after: np.ndarray, *, seed: int) -> Shifted:
    own, moved = readouts[index], after - before
    shift = mean_interval(moved[:, index].tolist(), seed=seed)
    null = null_means(moved, readouts, own.layer)
    return Shifted(
        vector=own.label,
        layer=own.layer,
        base=float(before[:, index].mean()),
        tuned=float(after[:, index].mean()),
        shift=shift,
        relative=shift.mean / own.norm,
        control_mean=float(null.mean()),
        control_sd=float(null.std(ddof=1)),
        z=z_score(shift.mean, null),
        by_question=tuple(map(float, moved[:, index])),
    )
