"""Where the ink of a chart goes: data to coordinates. No drawing happens here, only arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from persona_steering.evaluation.report.sections import Chart, Point, Style

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 46
TICKS = 6
MARGIN = 0.06  # of the range of the data, left free above and below it


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in place; `whisker` are the ends of its interval. Its name stands left of it where the edge is near."""

    x: float
    y: float
    text: str
    answers: str
    whisker: tuple[float, float] | None
    name: str

    @property
    def name_is_left(self) -> bool:
        return self.x > 0.75 * WIDTH


@dataclass(frozen=True, slots=True)
class Line:
    """A series in place: `path` joins its marks and `ribbon` encloses their intervals; empty where there is none."""

    name: str
    style: Style
    path: str
    ribbon: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Area:
    """A span in place."""

    x: float
    width: float
    label: str


@dataclass(frozen=True)
class Plot:
    """A chart in coordinates of WIDTH x HEIGHT."""

    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    areas: tuple[Area, ...]
    baseline: float | None

    width, height = WIDTH, HEIGHT
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM


def make_plot(chart: Chart) -> Plot:
    """The chart in place. It must have points."""
    points = chart.points
    x_low, x_high = _padded([p.x for p in points], 0.03)
    tops = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    y_low, y_high = chart.y_range or _padded(tops + ([] if chart.baseline is None else [chart.baseline]), MARGIN)

    def x_at(value: float) -> float:
        return round(LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT), 1)

    def y_at(value: float) -> float:
        inside = min(max(value, y_low), y_high)
        return round(HEIGHT - BOTTOM - (inside - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM), 1)

    def place(point: Point) -> Mark:
        ends = None if point.low is None or point.high is None else (y_at(point.low), y_at(point.high))
        return Mark(x_at(point.x), y_at(point.y), _described(point), point.answers, ends, point.name)

    lines = []
    for series in chart.series:
        marks = tuple(place(point) for point in sorted(series.points, key=lambda p: p.x))
        joined = not chart.discrete and len(marks) > 1
        lines.append(
            Line(
                series.name,
                series.style,
                _path((m.x, m.y) for m in marks) if joined else "",
                _ribbon(marks) if joined else "",
                marks,
            )
        )
    areas = []
    for span in chart.spans:
        low, high = x_at(max(span.low, x_low)), x_at(min(span.high, x_high))
        areas.append(Area(low, max(round(high - low, 1), 1.0), span.label))
    return Plot(
        tuple(Tick(x_at(v), number(v)) for v in nice_ticks(x_low, x_high)),
        tuple(Tick(y_at(v), number(v)) for v in nice_ticks(y_low, y_high)),
        tuple(lines),
        tuple(areas),
        None if chart.baseline is None else y_at(chart.baseline),
    )


def nice_ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """Round numbers inside a range, at steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def number(value: float) -> str:
    """A number as people write it: three significant digits, no trailing zeros."""
    if value == 0:
        return "0"
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


def _padded(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    space = (high - low) * share or abs(high) * 0.1 or 0.5
    return low - space, high + space


def _described(point: Point) -> str:
    text = f"{number(point.x)}: {number(point.y)}"
    if point.low is None or point.high is None:
        return text
    return f"{text} (95 %: {number(point.low)} to {number(point.high)})"


def _path(places: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in places)


def _ribbon(marks: Sequence[Mark]) -> str:
    ends = [(m.x, *m.whisker) for m in marks if m.whisker is not None]
    if len(ends) < 2:
        return ""
    there = [(x, low) for x, low, _ in ends]
    back = [(x, high) for x, _, high in reversed(ends)]
    return f"{_path([*there, *back])}Z"
