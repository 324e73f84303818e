"""What is shown, on a terminal and in a pipe."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from tests.cli.conftest import Terminal, make_calibration

from persona_steering.backends.base import Completion, Progress
from persona_steering.cli import render
from persona_steering.cli.progress import ProgressReport, resumable_progress
from persona_steering.errors import CancelledError
from persona_steering.vectors import Interval

DONE = Completion("Arr!\x1b[2J", (1, 2), "stop", 5, "hash")
LONG = "a/very/long/name/of/a/model/" * 8


def pieces() -> Iterator[str | Completion]:
    yield "Arr"
    yield "!\x1b[2J"
    yield DONE


def on_terminal(monkeypatch: pytest.MonkeyPatch, *, stream: str = "stdout", columns: int = 100) -> Terminal:
    """A stream becomes a terminal. To be called in the test itself, since pytest sets the streams before it."""
    terminal = Terminal()
    monkeypatch.setattr(sys, stream, terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def test_an_answer_in_a_pipe_is_the_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert render.stream_answer(pieces()) is DONE
    assert capsys.readouterr().out == "Arr!\x1b[2J\n"


def test_an_answer_cannot_drive_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    render.stream_answer(pieces())
    assert terminal.getvalue() == "Arr![2J\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one two three four", "one two\nthree four"),
        ("one two  three", "one two\nthree"),
        ("  indented\n    more", "  indented\n    more"),
        ("a\n\nb ", "a\n\nb"),
        ("x" * 14 + " y", "x" * 10 + "\nxxxx y"),
        ("世界" * 4, "世界世界世\n界世界"),
        ("one two-three", "one\ntwo-three"),
    ],
)
def test_an_answer_is_broken_between_words_however_its_pieces_come(text: str, shown: str) -> None:
    for size in (1, 3, len(text)):
        stream = Terminal()
        wrapped = render.Wrapped(stream, 10)
        for start in range(0, len(text), size):
            wrapped.write(text[start : start + size])
        wrapped.flush()
        assert stream.getvalue() == shown


def test_lanes_in_a_pipe_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    render.show_lanes([("base", "I walk.\n\nOften."), ("pirate:0.5", "Arr.")])
    assert capsys.readouterr().out == "[base]\nI walk.\n\nOften.\n\n[pirate:0.5]\nArr.\n"


def test_printable_keeps_lines_tabs_and_every_script() -> None:
    assert render.printable("a\tb\nмир 世界 🏴‍☠️\r\x07\x9b") == "a\tb\nмир 世界 🏴‍☠️"


def test_a_table_in_a_pipe_is_never_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(("name", "model", "status"), [("sage", LONG, "ready"), ("x", "y", "weak")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"sage  {LONG}  ready"
    assert lines[0].index("status") == lines[1].index("ready") == lines[2].index("weak")


def test_tables_and_cards_on_a_terminal_fit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    render.table(("name", "status"), [("[bold]sage", "ready")])
    render.card("sage", {"status": "weak", "saved": LONG}, status="weak")
    lines = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue()).splitlines()
    assert max(map(len, lines)) <= 100
    assert "[bold]sage" in terminal.getvalue()
    assert "\x1b[3" not in terminal.getvalue()  # no colour


def test_answers_stand_side_by_side_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    lanes = [("base", "I walk."), ("pirate", "Arr, I sail.")]
    render.side_by_side("What do you do?", lanes)
    assert any("I walk." in line and "Arr, I sail." in line for line in terminal.getvalue().splitlines())
    terminal = on_terminal(monkeypatch, columns=60)
    render.side_by_side("What do you do?", lanes)
    lines = terminal.getvalue().splitlines()
    assert not any("I walk." in line and "Arr, I sail." in line for line in lines)
    assert any("Arr, I sail." in line for line in lines)


def test_a_card_shows_only_what_was_measured() -> None:
    rows = render.calibration_rows(make_calibration())
    assert rows["persona score"] == "0.83 (95 %: 0.71 to 0.95), 20 answers"
    assert rows["coherence"] == "78 (95 %: 70 to 85) of 100"
    assert rows["control"].endswith("2 random directions")
    unmeasured = make_calibration().model_copy(
        update={"persona_score": None, "gain": Interval(mean=0.18, low=0.1, high=0.3), "control_score": None}
    )
    rows = render.calibration_rows(unmeasured)
    assert rows["persona score"] == "not measurable" and rows["gain"].startswith("0.18 ")
    assert "control" not in rows


@pytest.mark.parametrize(("layers", "text"), [((8, 9, 10, 11), "8-11"), ((3,), "3"), ((1, 2, 5, 7, 8), "1-2, 5, 7-8")])
def test_layers_are_shown_as_ranges(layers: tuple[int, ...], text: str) -> None:
    assert render.layer_ranges(layers) == text


REPORTS = [
    Progress("baseline", 0, 64),
    Progress("baseline", 32, 64, "first\nanswer"),
    Progress("baseline", 64, 64, "last answer"),
    Progress("confirm", 0, 8),
    Progress("confirm", 8, 8),
    Progress("confirm", 0, 8),
    Progress("confirm", 8, 8),
]


def test_progress_is_one_line_per_phase_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReport() as progress:
        for report in REPORTS:
            progress(report)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "the model's own answers: 64 of 64 in 0 s",
        "confirming on new questions: 8 of 8 in 0 s",
        "confirming on new questions: 8 of 8 in 0 s",
    ]


def test_progress_on_a_terminal_shows_count_rate_eta_and_the_last_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = on_terminal(monkeypatch, stream="stderr", columns=120)
    monkeypatch.setattr("persona_steering.cli.progress.AT_ONCE", 0)
    with ProgressReport() as progress:
        for report in REPORTS[:2]:
            progress(report)
        assert progress._bars is not None
        progress._bars.refresh()
        assert "first answer" in stream.getvalue()
    shown = stream.getvalue()
    assert "the model's own answers" in shown and "32/64" in shown and "/s" in shown and "ETA 0:" in shown


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReport(quiet=True) as progress:
        for report in REPORTS:
            progress(report)
    assert capsys.readouterr() == ("", "")


def test_an_interrupted_work_says_that_the_same_command_resumes() -> None:
    with pytest.raises(CancelledError, match="same command"), resumable_progress(quiet=True):
        raise KeyboardInterrupt


def test_json_is_one_value_with_every_script_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    render.emit_json({"text": "世界"})
    assert "世界" in capsys.readouterr().out


def test_a_stream_that_is_no_terminal_gets_no_spinner(capsys: pytest.CaptureFixture[str]) -> None:
    with render.working("Loading"):
        pass
    assert capsys.readouterr().err == ""
