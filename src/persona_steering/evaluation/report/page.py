"""Sections become one page of HTML, through a template that escapes every text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from persona_steering.evaluation.report.plot import make_plot, number
from persona_steering.evaluation.report.sections import Answers, Cell, Chart, Note, Point, Section, Table
from persona_steering.files import write_atomically
from persona_steering.vectors.values import Interval

if TYPE_CHECKING:
    from jinja2 import Environment

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Report:
    """A page. `judge` says what gave the scores and `n` over how much; `facts` are further rows of its head.

    Raises ValueError where two groups of answers have one key, or a point names a group that is not there.
    """

    title: str
    sections: Sequence[Section]
    judge: str
    n: str
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = [group.key for section in self.sections if isinstance(section, Answers) for group in section.groups]
        if len(set(keys)) != len(keys):
            raise ValueError("two groups of answers have the same key")
        charts = [section for section in self.sections if isinstance(section, Chart)]
        if lost := {point.answers for chart in charts for point in chart.points if point.answers} - set(keys):
            raise ValueError(f"points name answers that are not in the report: {sorted(lost)}")

    def render(self) -> str:
        """The page as text."""
        template = _environment().get_template("page.html")
        return template.render(report=self, heads={"judge": self.judge, "n": self.n, **self.facts})

    def write(self, path: Path) -> None:
        """Writes the page, whole or not at all. Raises StorageError."""
        write_atomically(path, self.render().encode())


def chart_svg(chart: Chart) -> str:
    """One chart as an SVG file of its own, with its style, light and dark. It must have points."""
    return _environment().get_template("chart.svg").render(chart=chart)


@dataclass(frozen=True, slots=True)
class ShownCell:
    """A cell as it is read, and the group of answers that it links to."""

    text: str
    answers: str = ""
    missing: bool = False
    is_text: bool = False


def table_rows(table: Table) -> list[list[ShownCell]]:
    """The cells of a table."""
    return [[_cell(value) for value in row] for row in table.rows]


def chart_columns(chart: Chart) -> list[str]:
    """The head of the table beside a chart: x, then the series; with named points name, x and y."""
    if chart.has_names:
        return ["", chart.x_label, chart.y_label]
    return [chart.x_label, *(series.name for series in chart.series)]


def chart_rows(chart: Chart) -> list[list[ShownCell]]:
    """The numbers of a chart: a row for each x and a cell for each series, or a row for each named point."""
    if chart.has_names:
        return [[_cell(point.name), _cell(point.x), _point_cell(point)] for point in chart.points]
    series = [{point.x: point for point in one.points} for one in chart.series]
    places = sorted({point.x for point in chart.points})
    return [[_cell(x), *(_point_cell(points.get(x)) for points in series)] for x in places]


def _point_cell(point: Point | None) -> ShownCell:
    if point is None:
        return _cell(None)
    if point.low is None or point.high is None:
        return _cell(point.y, point.answers)
    return _cell(Interval(mean=point.y, low=point.low, high=point.high), point.answers)


def _cell(value: Cell, answers: str = "") -> ShownCell:
    return ShownCell(shown(value), answers, missing=value is None, is_text=isinstance(value, str))


def shown(value: Cell) -> str:
    """A cell as text."""
    if value is None:
        return NOT_MEASURED
    if isinstance(value, Interval):
        mean, low, high = (_decimal(number, value) for number in (value.mean, value.low, value.high))
        return f"{mean} [{low}, {high}]"
    return number(float(value)) if isinstance(value, int | float) else value


def _decimal(value: float, interval: Interval) -> str:
    """A number of an interval with as many digits as the interval's width tells something about."""
    width = interval.high - interval.low
    if width <= 0:
        return number(value)
    digits = min(max(1 - math.floor(math.log10(width)), 0), 6)
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0.0: no minus before a zero


def _kind(section: Section) -> str:
    return {Chart: "chart", Table: "table", Answers: "answers", Note: "note"}[type(section)]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("persona_steering.evaluation.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": shown,
        "kind": _kind,
        "plot": make_plot,
        "table_rows": table_rows,
        "chart_columns": chart_columns,
        "chart_rows": chart_rows,
    }
    return environment
