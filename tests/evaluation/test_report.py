"""The report: one file that stands alone, in which nothing is drawn that was not measured."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from persona_steering.errors import StorageError
from persona_steering.evaluation.report import (
    AnswerGroup,
    Answers,
    Chart,
    Note,
    Point,
    Report,
    Series,
    ShownAnswer,
    Span,
    Table,
    chart_svg,
)
from persona_steering.evaluation.report.plot import HEIGHT, WIDTH, make_plot, nice_ticks, number
from persona_steering.vectors import Interval

NASTY = "<script>alert('x')</script> & \"quotes\""
VOID = {"meta", "br", "link", "img"}


def sweep_chart(**changes: object) -> Chart:
    fields: dict[str, object] = {
        "title": "Score",
        "x_label": "strength",
        "y_label": "persona score",
        "series": [
            Series("pirate", [Point(-1, -0.4, -0.6, -0.2), Point(0, 0), Point(1, 0.8, 0.6, 1.0, answers="at-1")]),
            Series("random", [Point(-1, 0.0, -0.1, 0.1), Point(1, 0.02, -0.1, 0.1)], "control"),
        ],
        "spans": [Span(-1, 0.5, "coherent")],
        "baseline": 0,
    }
    return Chart(**(fields | changes))  # type: ignore[arg-type]


def report(*sections: object, **changes: object) -> Report:
    answers = Answers("Answers", [AnswerGroup("at-1", "strength 1", [ShownAnswer("Why?", "Arr", {"score": 0.9})])])
    fields: dict[str, object] = {"judge": "likelihood gain", "n": "20 questions"}
    return Report("Sweep", [*sections, answers], **(fields | changes))  # type: ignore[arg-type]


class Page(HTMLParser):
    """What a browser would find: balanced tags, links, ids, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for _, key, value in self.attributes if key == name]


def test_a_page_names_its_judge_and_n_and_shows_each_number_beside_the_chart() -> None:
    page = Page(report(sweep_chart(), facts={"model": "embedded"}).render())
    for text in (
        "likelihood gain",
        "20 questions",
        "embedded",
        "0.80 [0.60, 1.00]",
        "−0.40 [−0.60, −0.20]",
        "coherent",
    ):
        assert text in page.text


def test_every_point_with_answers_is_a_link_to_them() -> None:
    page = Page(report(sweep_chart()).render())
    links = [value for tag, key, value in page.attributes if (tag, key) == ("a", "href")]
    assert links == ["#at-1", "#at-1"], "from the point, and from its row"
    assert ("details", "id", "at-1") in page.attributes
    assert "Arr" in page.text and "0.9" in page.text


def test_a_page_asks_for_nothing_from_anywhere() -> None:
    text = report(sweep_chart(), Table("T", ["a"], [[1]]), Note("n")).render()
    page = Page(text)
    assert not [v for key in ("src", "href", "action", "srcset") for v in page.values(key) if not v.startswith("#")]
    assert not re.search(r"https?:|url\(|@import", text)
    assert "default-src 'none'" in text


def test_texts_are_escaped_wherever_they_stand() -> None:
    nasty = [Series(NASTY, [Point(0, 1, answers="at-1"), Point(1, 1)]), Series("x", [Point(0, 2)])]
    chart = sweep_chart(title=NASTY, x_label=NASTY, y_label=NASTY, series=nasty, spans=[Span(0, 1, NASTY)], note=NASTY)
    answers = Answers(
        NASTY, [AnswerGroup("at-1", NASTY, [ShownAnswer(NASTY, NASTY, {NASTY: NASTY}, NASTY)])], note=NASTY
    )
    made = Report(NASTY, [chart, Table(NASTY, [NASTY], [[NASTY]], NASTY), Note(NASTY), answers], NASTY, NASTY)
    text = made.render()
    assert text.count("<script>") == 1, "the page's own"
    assert Page(text).text.count(NASTY) >= 15
    ElementTree.fromstring(chart_svg(chart))


def test_what_was_not_measured_says_so() -> None:
    empty = sweep_chart(series=[Series("pirate", [])])
    page = Page(report(empty, Table("T", ["a", "b"], [[1, None]]), Table("U", ["a"], [])).render())
    assert page.text.count("not measured") == 3
    assert not [tag for tag, _, _ in page.attributes if tag == "svg"], "no chart without data"
    gap = Page(report(sweep_chart()).render())
    assert gap.text.count("not measured") == 1, "the control has no value at 0"


def test_a_point_that_names_answers_which_are_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="at-9"):
        report(sweep_chart(series=[Series("s", [Point(0, 0, answers="at-9")])]))
    twice = AnswerGroup("at-1", "a", [])
    with pytest.raises(ValueError, match="same key"):
        Report("t", [Answers("a", [twice, twice])], "j", "n")
    with pytest.raises(ValueError, match="3 cells"):
        Table("T", ["a", "b"], [[1, 2, 3]])


def test_points_lie_where_their_values_say() -> None:
    chart = sweep_chart(y_range=(-1, 1), spans=[])
    plot = make_plot(chart)
    low, middle, high = plot.lines[0].marks
    assert middle.x - low.x == pytest.approx(high.x - middle.x, abs=0.11)
    span = plot.bottom - plot.top
    assert middle.y == pytest.approx(plot.top + span / 2, abs=0.1)
    assert high.y == pytest.approx(plot.top + 0.1 * span, abs=0.1)
    assert high.whisker == pytest.approx((plot.top + 0.2 * span, plot.top), abs=0.1)
    assert plot.baseline == pytest.approx(middle.y)
    assert all(plot.left <= mark.x <= plot.right for line in plot.lines for mark in line.marks)
    assert WIDTH > HEIGHT


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [1e-7, 2e-7], [-4e9, 5e9]])
def test_any_range_has_axes(values: list[float]) -> None:
    chart = sweep_chart(series=[Series("s", [Point(float(i), v) for i, v in enumerate(values)])], spans=[])
    plot = make_plot(chart)
    assert 2 <= len(plot.y_ticks) <= 12
    ElementTree.fromstring(chart_svg(chart))


def test_ticks_are_round_numbers_inside_the_range() -> None:
    assert nice_ticks(-2, 2, 4) == [-2, -1, 0, 1, 2]
    assert nice_ticks(0, 100, 5) == [0, 20, 40, 60, 80, 100]
    assert nice_ticks(0.03, 0.24, 5) == [0.05, 0.1, 0.15, 0.2]


def test_numbers_are_short() -> None:
    assert [number(v) for v in (0, 1, -0.5, 0.123456, 12345.6, 1e-9)] == ["0", "1", "−0.5", "0.123", "12346", "1e−09"]


def test_values_that_do_not_join_have_whiskers_and_no_line() -> None:
    plot = make_plot(sweep_chart(discrete=True))
    assert plot.lines[0].path == "" and plot.lines[0].ribbon == ""
    assert "whisker" in chart_svg(sweep_chart(discrete=True))


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    made = report(sweep_chart())
    made.write(tmp_path / "deep" / "report.html")
    assert (tmp_path / "deep" / "report.html").read_text() == made.render()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        made.write(tmp_path / "file" / "report.html")


def test_an_interval_is_a_cell() -> None:
    cell = Interval(mean=0.5, low=0.25, high=0.75)
    assert "0.50 [0.25, 0.75]" in Page(report(Table("T", ["a"], [[cell]])).render()).text.replace("−", "-")


@pytest.mark.parametrize(
    ("low", "mean", "high", "text"),
    [
        (0.612, 0.8237, 1.0449, "0.82 [0.61, 1.04]"),
        (62.31, 78.9, 91.4, "79 [62, 91]"),
        (1.0, 1.0, 1.0, "1 [1, 1]"),
        (-0.02, 1.0, 3.0, "1.0 [0.0, 3.0]"),
    ],
)
def test_an_interval_has_the_digits_that_its_width_allows(low: float, mean: float, high: float, text: str) -> None:
    cell = Interval(mean=mean, low=low, high=high)
    assert text in Page(report(Table("T", ["a"], [[cell]])).render()).text


def test_points_with_names_are_a_map_whose_table_names_them() -> None:
    chart = sweep_chart(series=[Series("s", [Point(0, 1, name="sage"), Point(5, 2, name="pirate")])], discrete=True)
    page = Page(report(chart).render())
    assert page.text.count("sage") == 2 and "not measured" not in page.text
    near, far = make_plot(chart).lines[0].marks
    assert not near.name_is_left and far.name_is_left
