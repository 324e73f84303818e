"""Files of given answers, row by row: the CSV and JSONL files of the persona-vectors pipeline.

    .csv     columns `prompt` (as the chat template has written it) and `answer`, and any others
    .jsonl   {"messages": [{"role", "content"}, ...]} a line; the last message is the answer, the others the prompt

Cells are texts, whatever they look like: an answer that reads NA, null or nothing at all stays what it is. A row
that cannot be understood is named and kept as it is. Only one row is in memory at a time.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from persona_steering.backends.base import Message, Role, Text
from persona_steering.errors import NotFoundError, UsageError

Values = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Sample:
    """One row: a text, or the `problem` that keeps it from being one. `line` is the line that it begins on, from 1.

    `raw` is the row as it stands in the file: cells, or bytes.
    """

    line: int
    raw: Sequence[str] | bytes
    text: Text | None = None
    problem: str = ""

    @property
    def question(self) -> str:
        """The last thing that was said before the answer, for people."""
        if self.text is None:
            return ""
        return self.text.messages[-1].content if self.text.messages else self.text.rendered


class SampleFile(ABC):
    """A file of answers. Iterate over it as often as need be; each time it is read anew."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def __iter__(self) -> Iterator[Sample]:
        """The rows in order. Raises UsageError where the file as a whole is not what its ending says."""

    @abstractmethod
    def has_column(self, name: str) -> bool:
        """Whether the file, or any row of it, has a value of this name."""

    @abstractmethod
    def head(self, columns: Sequence[str]) -> bytes:
        """What a copy of the file with further columns begins with."""

    @abstractmethod
    def row(self, sample: Sample, columns: Sequence[str], values: Values) -> bytes:
        """The row of that copy. Values that are missing stay empty; a row with a problem stays as it was."""

    def digest(self) -> str:
        """SHA-256 of the file."""
        with _opened(self.path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def open_samples(path: Path) -> SampleFile:
    """A file of answers by its ending. Raises NotFoundError, or UsageError for another ending or missing columns."""
    if path.suffix.lower() not in _FILES:
        raise UsageError(f"{path.name!r} is neither .csv nor .jsonl.", hint="Give a file with one of these endings.")
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}.", hint="Check the path.")
    return _FILES[path.suffix.lower()](path)


class CsvFile(SampleFile):
    """Rows of cells. Its header must name `prompt` and `answer`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        header = next(self._rows(), (1, []))[1]
        missing = [name for name in ("prompt", "answer") if name not in header]
        if missing:
            raise UsageError(
                f"{path.name!r} has no column {' and no column '.join(map(repr, missing))}.",
                hint=f"Its first row is: {', '.join(header)[:200] or 'empty'}. Files of `eval` have both.",
            )
        self.header = header

    def __iter__(self) -> Iterator[Sample]:
        rows = self._rows()
        next(rows)
        prompt, answer = self.header.index("prompt"), self.header.index("answer")
        for line, cells in rows:
            if len(cells) != len(self.header):
                yield Sample(line, cells, problem=f"it has {len(cells)} cells where the header has {len(self.header)}")
            elif not cells[prompt]:
                yield Sample(line, cells, problem="its prompt is empty")
            else:
                yield Sample(line, cells, Text((), cells[answer], rendered=cells[prompt]))

    def has_column(self, name: str) -> bool:
        return name in self.header

    def head(self, columns: Sequence[str]) -> bytes:
        return csv_line([*self.header, *(name for name in columns if name not in self.header)])

    def row(self, sample: Sample, columns: Sequence[str], values: Values) -> bytes:
        assert not isinstance(sample.raw, bytes)
        if len(sample.raw) != len(self.header):
            return csv_line(sample.raw)
        cells = list(sample.raw)
        for name in columns:
            cell = "" if (value := values.get(name)) is None else repr(value)
            if name in self.header:
                cells[self.header.index(name)] = cell
            else:
                cells.append(cell)
        return csv_line(cells)

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(sys.maxsize)  # the module's own limit is shorter than a long answer
        try:
            with _opened(self.path) as file:
                rows = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
                line = 1
                for cells in rows:
                    if cells:
                        yield line, cells
                    line = rows.line_num + 1
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.path.name!r} is not UTF-8.", hint="Save it in that encoding.") from error
        except csv.Error as error:
            raise UsageError(f"{self.path.name!r} is not a CSV file: {error}.", hint="Check its quotes.") from error


class JsonlFile(SampleFile):
    """A JSON object a line."""

    def __iter__(self) -> Iterator[Sample]:
        with _opened(self.path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _conversation(number, line.rstrip(b"\r\n"))

    def has_column(self, name: str) -> bool:
        with _opened(self.path) as file:
            key = json.dumps(name).encode()
            return any(key in line and name in (_object(line) or {}) for line in file)

    def head(self, columns: Sequence[str]) -> bytes:
        return b""

    def row(self, sample: Sample, columns: Sequence[str], values: Values) -> bytes:
        assert isinstance(sample.raw, bytes)
        record = _object(sample.raw)
        if sample.text is None or record is None:
            return sample.raw + b"\n"
        record |= {name: values.get(name) for name in columns}
        return _json_line(record)


_FILES: dict[str, type[CsvFile] | type[JsonlFile]] = {".csv": CsvFile, ".jsonl": JsonlFile}


def copy_with(
    file: SampleFile, columns: Sequence[str], rows: Iterable[tuple[Sample, Sequence[float]]]
) -> Iterator[bytes]:
    """The file with further columns, piece by piece; a row without values has none."""
    yield file.head(columns)
    for sample, values in rows:
        yield file.row(sample, columns, dict(zip(columns, values, strict=False)))


def side_file(columns: Sequence[str], rows: Iterable[tuple[Sample, Sequence[float]]]) -> Iterator[bytes]:
    """A CSV of the columns alone, with the line of each row, piece by piece."""
    yield csv_line(["line", *columns])
    for sample, values in rows:
        cells = map(repr, values) if values else [""] * len(columns)
        yield csv_line([str(sample.line), *cells])


def _conversation(number: int, line: bytes) -> Sample:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        return Sample(number, line, problem=f"it is not JSON ({error.msg} at column {error.colno})")
    except (ValueError, RecursionError) as error:
        return Sample(number, line, problem=f"it is not JSON ({str(error)[:80]})")
    turns = record.get("messages") if isinstance(record, dict) else None
    if not isinstance(turns, list) or len(turns) < 2:
        return Sample(number, line, problem="it has no 'messages' with a prompt and an answer")
    messages = []
    for place, turn in enumerate(turns, 1):
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)
        if role not in get_args(Role) or not isinstance(content, str):
            return Sample(number, line, problem=f"its message {place} has no known role, or no text")
        if any("\ud800" <= character <= "\udfff" for character in content):
            return Sample(number, line, problem=f"its message {place} holds half a character")
        messages.append(Message(cast(Role, role), content))
    if messages[-1].role != "assistant":
        return Sample(number, line, problem=f"its last message is the {messages[-1].role}'s, not the assistant's")
    return Sample(number, line, Text(tuple(messages[:-1]), messages[-1].content))


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _json_line(record: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a character, which JSON can hold as an escape and UTF-8 cannot
        return json.dumps(record).encode() + b"\n"


def csv_line(cells: Sequence[str]) -> bytes:
    """One row of a CSV file."""
    line = io.StringIO()
    # the module leaves a lone carriage return unquoted, and would read it as the end of the row
    breaks = any("\r" in cell for cell in cells)
    csv.writer(line, lineterminator="\n", quoting=csv.QUOTE_ALL if breaks else csv.QUOTE_MINIMAL).writerow(cells)
    return line.getvalue().encode()


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}.", hint="Check the path.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
