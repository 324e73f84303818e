"""What a report is made of. Plain values: nothing here knows HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from persona_steering.vectors.values import Interval

Cell = str | int | float | Interval | None  # None: not measured
Style = Literal["main", "second", "third", "control"]


@dataclass(frozen=True, slots=True)
class Point:
    """A measured value at `x`. `answers` is the key of the group of answers behind it, `name` is written beside it."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    answers: str = ""
    name: str = ""

    @classmethod
    def of(cls, x: float, value: Interval, *, answers: str = "") -> Point:
        """A mean with its interval."""
        return cls(x, value.mean, value.low, value.high, answers)


@dataclass(frozen=True, slots=True)
class Series:
    """Points under one name; `control` is drawn dashed and grey, as what the others are compared with."""

    name: str
    points: Sequence[Point]
    style: Style = "main"


@dataclass(frozen=True, slots=True)
class Span:
    """A shaded range of x with a name, for instance the coherent strengths."""

    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Chart:
    """Values against a number, with the same values as a table beside it.

    A shaded ribbon is the interval of each point. `y_range` fixes an axis that has natural ends, such as 0 to 100;
    `baseline` draws a line at a y that means something, such as no effect. With `discrete` the points are not
    joined, for an x that only counts.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    spans: Sequence[Span] = ()
    y_range: tuple[float, float] | None = None
    baseline: float | None = None
    discrete: bool = False
    note: str = ""

    @property
    def points(self) -> list[Point]:
        """All points of all series."""
        return [point for series in self.series for point in series.points]

    @property
    def has_names(self) -> bool:
        """Whether points have names of their own, as in a map."""
        return any(point.name for point in self.points)


@dataclass(frozen=True)
class Table:
    """Rows under columns. Each row has as many cells as there are columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(self.columns)} columns")


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """One answer with what was measured on it; a value of None reads "not measured"."""

    question: str
    text: str
    values: Mapping[str, float | str | None] = field(default_factory=dict)
    system_prompt: str = ""


@dataclass(frozen=True)
class AnswerGroup:
    """The answers behind one point. `key` is what points name; it is unique in a report."""

    key: str
    label: str
    answers: Sequence[ShownAnswer]


@dataclass(frozen=True)
class Answers:
    """Groups of answers, folded away until they are asked for."""

    title: str
    groups: Sequence[AnswerGroup]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence or two; a caution stands out."""

    text: str
    caution: bool = False


Section = Chart | Table | Answers | Note
