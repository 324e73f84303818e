"""Ctrl-C while an answer is written: the first stops the answer and keeps it, the second quits."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C was pressed."""
    stopped = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        with _no_caret():
            yield stopped.is_set
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _no_caret() -> Iterator[None]:
    """Keeps a terminal from writing ^C into the answer."""
    if not sys.stdin.isatty():
        yield
        return
    try:
        import termios

        terminal = sys.stdin.fileno()
    except (ImportError, OSError):  # no such modes here, or a terminal in name only
        yield
        return
    before = termios.tcgetattr(terminal)
    termios.tcsetattr(terminal, termios.TCSANOW, [*before[:3], before[3] & ~termios.ECHOCTL, *before[4:]])
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
