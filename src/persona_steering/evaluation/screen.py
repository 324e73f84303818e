"""Which samples of a training set would push a trait: the projection difference of "Persona Vectors".

    difference = (a_data - a_own)·v / ||v||

`a_data` is the mean over the tokens of the answer in the data, `a_own` over those of the answer that the model itself
gives to the same prompt, both teacher-forced so that they are measured alike. Above zero, training on the sample
would make the model more of the trait; the mean over the samples foretells by how much (arXiv 2507.21509, which
reports r = 0.88 to 0.95 against the trait after training).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from persona_steering.backends.base import (
    Backend,
    Progress,
    ProgressCallback,
    Request,
    Sampling,
    Text,
    no_progress,
)
from persona_steering.errors import PromptError, UsageError
from persona_steering.evaluation.project import Skipped
from persona_steering.evaluation.readouts import (
    Reader,
    Reading,
    Readout,
    control_readouts,
    null_means,
    saved_readings,
)
from persona_steering.evaluation.samples import Sample, csv_line
from persona_steering.evaluation.statistics import mean_interval, z_score
from persona_steering.extraction.run import Run, answer_seed
from persona_steering.vectors.values import Closed, Interval

OWN, PHASE = "own answers", "differences"


class Ranked(Closed):
    """A sample with its difference. `data` and `own` are the two projections, `answer` is that of the data."""

    line: int
    difference: float
    data: float
    own: float
    question: str
    answer: str
    own_answer: str


class Pushed(Closed):
    """What a data set would do along one vector at one layer.

    `difference` is the mean over samples with a 95 % interval, `relative` the same over ||v||. `above` is the share
    of samples above zero. `control_mean`, `control_sd` and `z` compare with the random directions at the same layer.
    `ranked` holds the samples that would push the most, the strongest first.
    """

    vector: str
    layer: int
    difference: Interval
    relative: float
    above: float
    control_mean: float
    control_sd: float
    z: float | None
    ranked: tuple[Ranked, ...]


class Screened(Closed):
    """A screening in numbers. `out` holds the values of every sample, `own` says how the own answers were made."""

    file: Path
    out: Path
    model: str
    samples: int
    measured: int
    skipped: tuple[Skipped, ...]
    controls: int
    own: Sampling
    pushes: tuple[Pushed, ...]
    run: Path


@dataclass(frozen=True)
class Differences:
    """What was read. Both projections are float64 `[samples, readouts]`; the readouts end with their controls."""

    samples: tuple[Sample, ...]
    own_answers: tuple[str, ...]
    readouts: tuple[Readout, ...]
    data: np.ndarray
    own: np.ndarray
    skipped: tuple[Skipped, ...]

    @property
    def differences(self) -> np.ndarray:
        """Projection of the data's answer minus that of the model's own, `[samples, readouts]`."""
        return np.asarray(self.data - self.own)


def choose(samples: Sequence[Sample], count: int | None, *, seed: int) -> list[Sample]:
    """All samples, or `count` of them drawn without repeats, in the order of the file. Raises UsageError below 2."""
    if count is None or count >= len(samples):
        return list(samples)
    if count < 2:
        raise UsageError(f"a sample of {count} says nothing of a data set.", hint="Take at least 2.")
    drawn = np.random.default_rng(seed).choice(len(samples), count, replace=False)
    return [samples[i] for i in sorted(drawn)]


def screen_samples(
    backend: Backend,
    samples: Sequence[Sample],
    readouts: Sequence[Readout],
    *,
    sampling: Sampling,
    answers: Run,
    run: Run,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Differences:
    """The projection differences of samples, along the readouts and random directions after them.

    The model's own answers are saved in the run `answers`, which other vectors can share, and the readings in `run`;
    neither is made twice. A sample that cannot be understood, asked or read is skipped by name.
    Raises UsageError where fewer than 2 are left.
    """
    problems = {i: sample.problem for i, sample in enumerate(samples) if sample.text is None}
    own = _own_answers(backend, samples, problems, sampling, answers, progress, cancelled)
    reader = Reader(backend, (*readouts, *control_readouts(readouts, seed=sampling.seed)))
    texts = [text for i, answer in own.items() for text in _pair(samples[i], answer)]
    folder = run.folder / f"{PHASE}-{reader.digest(_digest(texts))}"
    found = saved_readings(reader, texts, folder=folder, cancelled=cancelled)
    values: dict[int, tuple[Reading, Reading]] = {}
    progress(Progress(PHASE, 0, len(own)))
    for done, (i, data, mine) in enumerate(((i, next(found), next(found)) for i in own), 1):
        if data.problem or mine.problem:
            problems[i] = data.problem or f"the model's own answer: {mine.problem}"
        else:
            values[i] = data, mine
        progress(Progress(PHASE, done, len(own)))
    if len(values) < 2:
        reasons = "; ".join(f"line {samples[i].line}: {reason}" for i, reason in sorted(problems.items())[:3])
        raise UsageError(f"{len(values)} samples can be measured, and 2 are needed.", hint=reasons)
    return Differences(
        samples=tuple(samples[i] for i in values),
        own_answers=tuple(own[i] for i in values),
        readouts=reader.readouts,
        data=np.array([data.values for data, _ in values.values()]),
        own=np.array([mine.values for _, mine in values.values()]),
        skipped=tuple(Skipped(line=samples[i].line, reason=problems[i]) for i in sorted(problems)),
    )


def pushes(found: Differences, *, top: int, seed: int = 0) -> tuple[Pushed, ...]:
    """What the samples would do along each vector and layer, with the `top` samples that would do it most."""
    return tuple(
        _pushed(found, k, top=top, seed=seed) for k, readout in enumerate(found.readouts) if not readout.control
    )


def _pushed(found: Differences, k: int, *, top: int, seed: int) -> Pushed:
    readout, own = found.readouts[k], found.differences[:, k]
    mean = mean_interval(own.tolist(), seed=seed)
    null = null_means(found.differences, found.readouts, readout.layer)
    order = np.argsort(-own, kind="stable")[:top]
    return Pushed(
        vector=readout.label,
        layer=readout.layer,
        difference=mean,
        relative=mean.mean / readout.norm,
        above=float((own > 0).mean()),
        control_mean=float(null.mean()),
        control_sd=float(null.std(ddof=1)),
        z=z_score(mean.mean, null),
        ranked=tuple(_ranked(found, int(i), k) for i in order),
    )


def _ranked(found: Differences, i: int, k: int) -> Ranked:
    sample = found.samples[i]
    assert sample.text is not None
    return Ranked(
        line=sample.line,
        difference=float(found.differences[i, k]),
        data=float(found.data[i, k]),
        own=float(found.own[i, k]),
        question=sample.question,
        answer=sample.text.response,
        own_answer=found.own_answers[i],
    )


def values_csv(found: Differences) -> Iterator[bytes]:
    """Every sample's values as a CSV, piece by piece: a row for each sample, vector and layer (ours, 0-based)."""
    yield csv_line(["line", "vector", "layer", "difference", "data", "own"])
    for i, sample in enumerate(found.samples):
        for k, readout in enumerate(found.readouts):
            if not readout.control:
                numbers = (found.differences[i, k], found.data[i, k], found.own[i, k])
                cells = [str(sample.line), readout.label, str(readout.layer)]
                yield csv_line([*cells, *(repr(float(number)) for number in numbers)])


def _own_answers(
    backend: Backend,
    samples: Sequence[Sample],
    problems: dict[int, str],
    sampling: Sampling,
    run: Run,
    progress: ProgressCallback,
    cancelled: Callable[[], bool] | None,
) -> dict[int, str]:
    """The model's own answers by the place of their sample; why there is none goes to `problems`."""
    requests = {i: _request(sample, sampling) for i, sample in enumerate(samples) if i not in problems}
    for i, request in requests.items():
        if refusal := _refusal(backend, request):
            problems[i] = refusal
    asked = {i: request for i, request in requests.items() if i not in problems}
    found = run.answers(backend, list(asked.values()), phase=OWN, progress=progress, cancelled=cancelled)
    own = {i: answer.text for i, answer in zip(asked, found, strict=True)}
    problems |= {i: "the model's own answer is empty" for i, text in own.items() if not text.strip()}
    return {i: text for i, text in own.items() if i not in problems}


def _request(sample: Sample, sampling: Sampling) -> Request:
    assert sample.text is not None
    seed = answer_seed(sampling.seed, OWN, sample.line)
    return Request(sample.text.messages, sampling=sampling.model_copy(update={"seed": seed}))


def _refusal(backend: Backend, request: Request) -> str:
    """Why the model does not take a prompt; empty when it does. Nothing is computed: it is stopped before it begins."""
    try:
        backend.generate([request], cancelled=lambda: True)
    except PromptError as error:
        return error.message.rstrip(".")
    return ""


def _pair(sample: Sample, own: str) -> tuple[Text, Text]:
    assert sample.text is not None
    return sample.text, replace(sample.text, response=own)


def _digest(texts: Sequence[Text]) -> str:
    fields = [[[turn.role, turn.content] for turn in text.messages] + [text.response] for text in texts]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()
