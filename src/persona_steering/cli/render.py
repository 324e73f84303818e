"""What commands show: data on stdout, notes and warnings on stderr. No number is drawn that was not measured."""

from __future__ import annotations

import contextlib
import json
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.columns import Columns
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from persona_steering.backends.base import Completion
    from persona_steering.vectors import Calibration, Interval

UNLIMITED = 100_000  # columns of a pipe or file: nothing is cut off there
SIDE_BY_SIDE = 90  # columns from which two answers stand beside each other

STATUS_STYLES = {
    "ready": "green",
    "weak": "yellow",
    "not calibrated": "yellow",
    "other model": "dim",
    "broken": "bold red",
}


def out() -> Console:
    """Where data goes."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else UNLIMITED)


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
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(Text(f"{text} …")):
        yield


def printable(text: str) -> str:
    """The text without the control characters that could drive a terminal."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


def stream_answer(pieces: Iterator[str | Completion], *, write: bool = True) -> Completion:
    """The Completion of a stream, whose text is written to stdout: on a terminal as it arrives."""
    terminal = write and sys.stdout.isatty()
    done: Completion | None = None
    for piece in pieces:
        if not isinstance(piece, str):
            done = piece
        elif terminal:
            sys.stdout.write(printable(piece))
            sys.stdout.flush()
    assert done is not None  # the contract of Backend.stream
    if write:
        sys.stdout.write("\n" if terminal else f"{done.text}\n")
        sys.stdout.flush()
    return done


def card(title: str, rows: Mapping[str, str], *, status: str = "") -> None:
    """A box of names and values on stdout."""
    console = out()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        style = STATUS_STYLES.get(status, "") if name == "status" else ""
        grid.add_row(name, Text(value, style=style))
    if console.is_terminal:
        console.print(Panel(grid, title=Text(title, style="bold"), title_align="left", expand=False))
    else:
        console.print(Group(Text(title), grid))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; the last column is a status."""
    console = out()
    made = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row[:-1]), Text(row[-1], style=STATUS_STYLES.get(row[-1], "")))
    console.print(made)


def side_by_side(question: str, lanes: Sequence[tuple[str, str]]) -> None:
    """A question and its answers as (title, text), beside each other where there is room."""
    console = out()
    console.print(Text(question, style="bold"))
    panels = [Panel(Text(printable(text)), title=Text(title), title_align="left") for title, text in lanes]
    if not console.is_terminal:
        for title, text in lanes:
            console.print(Text(f"[{title}] {' '.join(text.split())}"))
    elif console.width >= SIDE_BY_SIDE:
        width = console.width // len(lanes) - 1
        for panel in panels:
            panel.width = width
        console.print(Columns(panels, padding=(0, 1), expand=False))
    else:
        for panel in panels:
            console.print(panel)


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
