"""What commands show: data on stdout, notes and warnings on stderr. No number is drawn that was not measured."""

from __future__ import annotations

import contextlib
import json
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from persona_steering.backends.base import Completion
    from persona_steering.errors import PersonaSteeringError
    from persona_steering.vectors import Calibration, Interval

SIDE_BY_SIDE = 100  # columns from which answers stand beside each other,
LANE = 36  # if each of them gets as many

STATUS_STYLES = {
    "ready": "green",
    "weak": "yellow",
    "stale": "yellow",
    "not calibrated": "yellow",
    "other model": "dim",
    "broken": "bold red",
}


def out() -> Console:
    """Where data goes."""
    return Console(highlight=False)


def err() -> Console:
    """Where everything else goes."""
    return Console(stderr=True, highlight=False)


def emit_json(data: object) -> None:
    """One JSON value on stdout."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")


def note(text: str, *, quiet: bool = False) -> None:
    """Something good to know; not said with -q."""
    if not quiet:
        err().print(Text(text, style="dim"), soft_wrap=True)


def warn(text: str) -> None:
    """Something that must be known; said with -q too."""
    err().print(Text.assemble(("warning: ", "yellow"), text), soft_wrap=True)


@contextlib.contextmanager
def working(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Says what is being waited for, on a terminal."""
    console = err()
    if quiet or not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    with console.status(Text(f"{text} …")):
        yield


def printable(text: str) -> str:
    """The text without the control characters that could drive a terminal."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


class Wrapped:
    """Text for a terminal, written as it arrives and broken between words.

    A word is held back until it is known whether the line has room for it.
    """

    def __init__(self, stream: TextIO, width: int) -> None:
        self._stream, self._width = stream, width
        self._column = 0
        self._space = self._word = ""

    def write(self, text: str) -> None:
        """Adds a piece, which may end within a word."""
        for char in printable(text):
            if char == "\n":
                self.flush()
                self._stream.write("\n")
                self._column, self._space = 0, ""
            elif char in " \t":
                self._end_word()
                self._space += char
            else:
                self._word += char
                if cell_len(char) > 1 or cell_len(self._word) >= self._width:  # scripts without spaces
                    self._end_word()
        self._stream.flush()

    def flush(self) -> None:
        """Writes what was held back."""
        self._end_word()
        self._stream.flush()

    def _end_word(self) -> None:
        if not self._word:
            return
        length = cell_len(self._word)
        if self._column and self._column + len(self._space) + length > self._width:
            self._stream.write("\n")
            self._column, self._space = 0, ""
        self._stream.write(self._space + self._word)
        self._column += len(self._space) + length
        self._space = self._word = ""


def stream_answer(pieces: Iterator[str | Completion], *, write: bool = True) -> Completion:
    """The Completion of a stream, whose text is written to stdout: on a terminal as it arrives."""
    terminal = Wrapped(sys.stdout, out().width) if write and sys.stdout.isatty() else None
    done: Completion | None = None
    try:
        for piece in pieces:
            if not isinstance(piece, str):
                done = piece
            elif terminal is not None:
                terminal.write(piece)
    finally:
        if terminal is not None:
            terminal.flush()
    assert done is not None  # the contract of Backend.stream
    if write:
        sys.stdout.write("\n" if terminal else f"{done.text}\n")
        sys.stdout.flush()
    return done


def card(title: str, rows: Mapping[str, str], *, status: str = "") -> None:
    """Names and values on stdout: in a box, or as plain lines where nobody looks."""
    if not sys.stdout.isatty():
        _plain([(title, ""), *rows.items()])
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        grid.add_row(name, Text(value, style=STATUS_STYLES.get(status, "") if name == "status" else ""))
    out().print(Panel(grid, title=Text(title, style="bold"), title_align="left", expand=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout, whose last column is a status; plain and never cut off where nobody looks."""
    if not sys.stdout.isatty():
        _plain([columns, *rows])
        return
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row[:-1]), Text(row[-1], style=STATUS_STYLES.get(row[-1], "")))
    out().print(made)


def _plain(rows: Sequence[Sequence[str]]) -> None:
    """Aligned lines. A row whose other cells are empty is a title, which makes no column wider."""
    shaping = [row for row in rows if any(row[1:])]
    widths = [max(map(len, column)) for column in zip(*shaping, strict=True)]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() + "\n")


def side_by_side(question: str, lanes: Sequence[tuple[str, str]]) -> None:
    """A question and its answers as (title, text) on stdout, beside each other where there is room."""
    if not sys.stdout.isatty():
        _plain([(question, ""), *((f"[{title}]", " ".join(text.split())) for title, text in lanes), ("", "")])
        return
    out().print(Text(question, style="bold"))
    _panels(lanes)


def show_lanes(lanes: Sequence[tuple[str, str]]) -> None:
    """Answers as (title, text) on stdout, beside each other where there is room; whole paragraphs in a pipe."""
    if sys.stdout.isatty():
        _panels(lanes)
        return
    sys.stdout.write("\n\n".join(f"[{title}]\n{text}" for title, text in lanes) + "\n")


def _panels(lanes: Sequence[tuple[str, str]]) -> None:
    console = out()
    panels = [Panel(Text(printable(text)), title=Text(title), title_align="left") for title, text in lanes]
    if console.width < max(SIDE_BY_SIDE, LANE * len(lanes)):
        console.print(*panels, sep="\n")
        return
    grid = Table.grid(padding=(0, 1), expand=True)
    for _ in panels:
        grid.add_column(ratio=1)
    grid.add_row(*panels)
    console.print(grid)


def lines(rows: Sequence[tuple[str, str]], *, title: str = "") -> None:
    """Names and their meanings below a title, on stderr."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(style="dim", overflow="fold")
    for name, meaning in rows:
        grid.add_row(Text(f"  {name}"), Text(printable(meaning)))
    console = err()
    if title:
        console.print(Text(title, style="bold"))
    console.print(grid)


def show_error(error: PersonaSteeringError) -> None:
    """What went wrong, and what to do, on stderr."""
    console = err()
    console.print(Text.assemble(("error: ", "bold red"), error.message), soft_wrap=True)
    if error.hint:
        console.print(Text.assemble(("hint: ", "bold"), error.hint), soft_wrap=True)


def calibration_rows(calibration: Calibration) -> dict[str, str]:
    """What a calibration says, for a card: never a number that was not measured."""
    rows = {
        "layers": layer_ranges(calibration.layers),
        "dose": f"{calibration.relative_dose:.2g} of the hidden state",
    }
    if calibration.persona_score is not None:
        rows["persona score"] = f"{interval(calibration.persona_score)}, {calibration.num_answers} answers"
    elif calibration.gain is not None:
        rows["persona score"] = "not measurable"
        rows["gain"] = f"{interval(calibration.gain)} nats per token"
    directions = f"{calibration.num_controls} random direction{'s' if calibration.num_controls != 1 else ''}"
    if calibration.persona_score is not None and calibration.control_score is not None:
        rows["control"] = f"{interval(calibration.control_score)}, {directions}"
    elif calibration.control_gain is not None:
        rows["control"] = f"{interval(calibration.control_gain)} nats per token, {directions}"
    if calibration.coherence is not None:
        rows["coherence"] = f"{interval(calibration.coherence, digits=0)} of 100"
    rows["measured"] = "with safety on" if calibration.safe else "with safety off"
    return rows


def interval(value: Interval, *, digits: int = 2) -> str:
    """A mean with its 95 % interval."""
    return f"{value.mean:.{digits}f} (95 %: {value.low:.{digits}f} to {value.high:.{digits}f})"


def layer_ranges(layers: Sequence[int]) -> str:
    """Layers in short: 8-11, 14."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
