"""The real command in a pseudo-terminal whose screen can be read."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pexpect
import pyte

import persona_steering

PATIENCE = 90  # seconds; a busy machine loads slowly


class Window:
    """A terminal of `columns` by `rows` in which persona-steer runs. Use it as a context manager."""

    def __init__(self, *arguments: str, home: Path, columns: int = 80, rows: int = 24, **environment: str) -> None:
        self._screen = pyte.HistoryScreen(columns, rows, history=1000, ratio=1)
        self._screen.write_process_input = self._answer  # type: ignore[method-assign]
        self._stream = pyte.Stream(self._screen)
        self.written = ""  # as it came, with all that drives the terminal
        self._child = pexpect.spawn(
            sys.executable,
            ["-m", "persona_steering.cli.main", *arguments],
            dimensions=(rows, columns),
            encoding="utf-8",
            codec_errors="replace",
            cwd=str(home.parent),
            env={
                **os.environ,
                "PYTHONPATH": str(Path(persona_steering.__file__).parents[1]),
                "PERSONA_STEER_HOME": str(home),
                "TERM": "xterm-256color",
                "OMP_NUM_THREADS": "1",
                **environment,
            },
        )

    @property
    def text(self) -> str:
        """All that was shown, what has scrolled away first."""
        above = ["".join(line[x].data for x in range(self._screen.columns)) for line in self._screen.history.top]
        return "\n".join(line.rstrip() for line in [*above, *self._screen.display]).rstrip()

    @property
    def last_line(self) -> str:
        """The lowest line that is not empty: the status line while one is asked."""
        return self.text.rpartition("\n")[2]

    def type(self, keys: str) -> None:
        """Sends keys as they are; "\\r" is Enter."""
        self._child.send(keys)

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Reads until the text is shown that often."""
        self.wait_until(lambda shown: shown.count(text) >= times, f"no {text!r}")

    def wait_until(self, holds: Callable[[str], bool], otherwise: str) -> None:
        """Reads until something holds of what is shown."""
        end = time.monotonic() + PATIENCE
        while not holds(self.text):
            assert time.monotonic() < end, f"{otherwise} in:\n{self.text}"
            self._read()

    def say(self, line: str, answer: str) -> str:
        """Types a line, and waits until `answer` is shown once more. Returns all that came after the line."""
        before = self.text.count(answer)
        self.type(line + "\r")
        self.wait_for(answer, times=before + 1)
        return self.text.rpartition(f"{line}\n")[2]

    def exit_code(self) -> int | None:
        """Waits for the end."""
        self._child.expect(pexpect.EOF, timeout=PATIENCE)
        self._stream.feed(self._child.before)
        self._child.close()
        code: int | None = self._child.exitstatus
        return code

    def _read(self) -> None:
        try:
            text = self._child.read_nonblocking(65536, timeout=0.2)
            self.written += text
            self._stream.feed(text)
        except pexpect.TIMEOUT:
            pass
        except pexpect.EOF as end:
            raise AssertionError(f"it ended:\n{self.text}") from end

    def _answer(self, data: str) -> None:
        """What a terminal replies by itself, for instance where its cursor is."""
        self._child.send(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.close(force=True)
