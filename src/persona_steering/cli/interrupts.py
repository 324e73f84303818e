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
        with _unechoed():
            yield stopped.is_set
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _unechoed() -> Iterator[None]:
    """Keeps keys (^C too) from being written into the answer, and Ctrl-C from dropping some of it."""
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
    local = before[3] & ~termios.ECHO | termios.NOFLSH
    termios.tcsetattr(terminal, termios.TCSANOW, [*before[:3], local, *before[4:]])
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
