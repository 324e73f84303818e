"""The reports of projections, shifts and screenings: what was found, beside what was read."""

from __future__ import annotations

from collections.abc import Sequence

from persona_steering.evaluation.project import Column, Projected, ShownSample, Skipped
from persona_steering.evaluation.report import (
    AnswerGroup,
    Answers,
    Chart,
    Note,
    Point,
    Report,
    Section,
    Series,
    ShownAnswer,
    Table,
)
from persona_steering.evaluation.report.sections import Style
from persona_steering.evaluation.screen import Pushed, Ranked, Screened
from persona_steering.evaluation.shift import Shift, Shifted

JUDGE = "none: projections in the residual stream"
STYLES: tuple[Style, ...] = ("main", "second", "third")
BAND = 1.96  # standard deviations of the random directions
NAMED = 20
FEW_LAYERS = 3  # below which points are not joined
QUESTION_COLUMNS = 6


def projected_report(found: Projected) -> Report:
    """The columns of a file, with the answers at both ends of each."""
    table = Table(
        "Projections",
        ("column", "vector", "layer", "n", "mean", "standard deviation"),
        [(one.name, one.vector, str(one.layer), one.n, one.mean, one.sd) for one in found.columns],
        note="The layer is the 0-based block; the number in a column's name is the published one, one more.",
    )
    groups = [group for one in found.columns for group in _ends(one)]
    return Report(
        f"{found.type} of {found.file.name}",
        [table, *_skipped(found.skipped, found.num_skipped), Answers("Answers at both ends", groups)],
        judge=JUDGE,
        n=f"{found.rows - found.num_skipped} of {found.rows} answers",
        facts={"model": found.model, "written to": str(found.out)},
    )


def shifted_report(found: Shift) -> Report:
    """Shifts against layers, and those of every question."""
    labels = list(dict.fromkeys(one.vector for one in found.shifts))
    series = [Series(label, _shift_points(found.shifts, label), STYLES[i % 3]) for i, label in enumerate(labels)]
    chart = Chart(
        "Shift of the last prompt token",
        "layer",
        "shift along the vector",
        [*series, _control(found.shifts)],
        baseline=0,
        discrete=len({one.layer for one in found.shifts}) < FEW_LAYERS,
        note=f"Grey: the mean of {found.controls} random directions, and where 95 % of such would lie.",
    )
    table = Table(
        "Shifts",
        ("vector", "layer", "base", "tuned", "shift", "in lengths of the vector", "z"),
        [(s.vector, str(s.layer), s.base, s.tuned, s.shift, s.relative, s.z) for s in found.shifts],
        note="z: standard deviations of the mean shift along random directions at the same layer.",
    )
    clearest = sorted(found.shifts, key=lambda one: -abs(one.z or 0))[:QUESTION_COLUMNS]
    by_question = Table(
        "By question",
        ("question", *(f"{one.vector}, layer {one.layer}" for one in clearest)),
        [(question, *(one.by_question[i] for one in clearest)) for i, question in enumerate(found.questions)],
        note="" if len(clearest) == len(found.shifts) else f"The {QUESTION_COLUMNS} that stand out the most.",
    )
    return Report(
        f"From {found.base} to {found.tuned}",
        [chart, table, by_question],
        judge=JUDGE,
        n=f"{len(found.questions)} questions",
    )


def screened_report(found: Screened) -> Report:
    """What a data set would push, and the samples that would do it most, beside the model's own answers."""
    table = Table(
        "Projection differences",
        ("vector", "layer", "difference", "in lengths of the vector", "samples above 0", "z"),
        [(p.vector, str(p.layer), p.difference, p.relative, f"{p.above:.0%}", p.z) for p in found.pushes],
        note=f"z: standard deviations of the mean difference along {found.controls} random directions at the layer.",
    )
    sections: list[Section] = [table, *_skipped(found.skipped, len(found.skipped))]
    for push in found.pushes:
        sections += _ranking(push)
    return Report(
        f"What {found.file.name} would push",
        sections,
        judge=JUDGE,
        n=f"{found.measured} of {found.samples} samples",
        facts={
            "model": found.model,
            "own answers": f"at most {found.own.max_new_tokens} tokens, temperature {found.own.temperature:g}, "
            f"seed {found.own.seed}",
            "all values": str(found.out),
        },
    )


def _ends(column: Column) -> list[AnswerGroup]:
    ends = (("highest", column.highest), ("lowest", column.lowest))
    return [
        AnswerGroup(f"{column.name}-{end}", f"{column.name}: {end}", [_shown(sample, column.name) for sample in shown])
        for end, shown in ends
    ]


def _shown(sample: ShownSample, name: str) -> ShownAnswer:
    return ShownAnswer(sample.question, sample.answer, {name: sample.value, "line": str(sample.line)})


def _shift_points(shifts: Sequence[Shifted], label: str) -> list[Point]:
    return [Point.of(one.layer, one.shift) for one in shifts if one.vector == label]


def _control(shifts: Sequence[Shifted]) -> Series:
    by_layer = {one.layer: (one.control_mean, BAND * one.control_sd) for one in shifts}
    points = [Point(layer, mean, mean - half, mean + half) for layer, (mean, half) in sorted(by_layer.items())]
    return Series("random directions", points, "control")


def _ranking(push: Pushed) -> list[Section]:
    title = f"{push.vector}, layer {push.layer}"
    keys = [f"{push.vector}-{push.layer}-{sample.line}" for sample in push.ranked]
    points = [
        Point(rank, sample.difference, answers=key)
        for rank, (sample, key) in enumerate(zip(push.ranked, keys, strict=True), 1)
    ]
    chart = Chart(
        f"Samples that would push the most: {title}",
        "rank",
        "difference",
        [Series(title, points)],
        baseline=0,
        discrete=True,
    )
    groups = [
        AnswerGroup(key, f"line {sample.line}: {sample.difference:.3g}", _both(sample))
        for sample, key in zip(push.ranked, keys, strict=True)
    ]
    return [chart, Answers(f"These samples: {title}", groups)]


def _both(sample: Ranked) -> list[ShownAnswer]:
    return [
        ShownAnswer(sample.question, sample.answer, {"answer": "in the data", "projection": sample.data}),
        ShownAnswer(sample.question, sample.own_answer, {"answer": "the model's own", "projection": sample.own}),
    ]


def _skipped(skipped: Sequence[Skipped], count: int) -> list[Section]:
    if not count:
        return []
    named = "; ".join(f"line {one.line}: {one.reason}" for one in skipped[:NAMED])
    rows = "1 row has" if count == 1 else f"{count} rows have"
    return [Note(f"{rows} no value. {named}{' …' if count > NAMED else ''}", caution=True)]
