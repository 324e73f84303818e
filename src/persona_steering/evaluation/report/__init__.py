"""A measurement as one HTML file that stands alone: charts, the numbers beside them, the answers behind them.

    report = Report("Sweep of pirate", [chart, table, answers], judge="likelihood gain", n="20 questions")
    report.write(folder / "report.html")

The page asks for nothing from anywhere: charts are inline SVG, the style is in the file, every text is escaped. A
point of a chart names a group of answers (`Point.answers`), and is then a link to it. What was not measured says so:
a chart without points and a cell without a value read "not measured".
"""

from __future__ import annotations

from persona_steering.evaluation.report.page import Report, chart_svg
from persona_steering.evaluation.report.sections import (
    AnswerGroup,
    Answers,
    Chart,
    Note,
    Point,
    Section,
    Series,
    ShownAnswer,
    Span,
    Table,
)

__all__ = [
    "AnswerGroup",
    "Answers",
    "Chart",
    "Note",
    "Point",
    "Report",
    "Section",
    "Series",
    "ShownAnswer",
    "Span",
    "Table",
    "chart_svg",
]
