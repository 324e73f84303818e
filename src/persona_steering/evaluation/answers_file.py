"""The CSV file of answers with two scores, as the persona-vectors pipeline writes and reads it.

    question, prompt, answer, question_id, {trait}, coherence

`prompt` is the text that the model read, its special tokens written out. A score that is not there is an empty
cell; why it is not stands in the file beside it. Answers are texts, whatever they look like: NA, null and nothing
at all stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona_steering.errors import UsageError
from persona_steering.evaluation.samples import CsvFile, csv_line, open_samples
from persona_steering.files import write_atomically

COHERENCE = "coherence"
_NOTHING = frozenset({"", "nan", "none", "null"})  # of a score; pandas and Python write it so


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One row. `line` is where it begins in the file that it was read from."""

    question: str
    prompt: str
    answer: str
    question_id: str
    trait: float | None = None
    coherence: float | None = None
    line: int = 0


def write_answers(path: Path, trait: str, rows: Sequence[AnswerRow]) -> None:
    """Writes the file, whole or not at all. Raises StorageError."""
    lines = [csv_line(["question", "prompt", "answer", "question_id", trait, COHERENCE])]
    for row in rows:
        scores = ["" if score is None else repr(float(score)) for score in (row.trait, row.coherence)]
        lines.append(csv_line([row.question, row.prompt, row.answer, row.question_id, *scores]))
    write_atomically(path, b"".join(lines))


def read_answers(path: Path, trait: str) -> list[AnswerRow]:
    """The rows of a file; further columns are left alone.

    Raises NotFoundError; UsageError for missing columns, and with the line of a row that is not one.
    """
    file = open_samples(path)
    if not isinstance(file, CsvFile):
        raise UsageError(f"{path.name!r} is not a .csv file.", hint="Give a file that `eval` has written.")
    wanted = ("question", "prompt", "answer", "question_id", trait, COHERENCE)
    if missing := [name for name in wanted if name not in file.header]:
        raise UsageError(
            f"{path.name!r} has no column {' and no column '.join(map(repr, missing))}.",
            hint=f"Its columns are: {', '.join(file.header)[:200]}. The trait's is called as --trait says.",
        )
    places = [file.header.index(name) for name in wanted]
    rows = []
    for sample in file:
        if isinstance(sample.raw, bytes) or len(sample.raw) != len(file.header):
            raise UsageError(f"{path.name!r}, line {sample.line}: {sample.problem}.", hint="Check its quotes.")
        question, prompt, answer, question_id, first, second = (sample.raw[place] for place in places)
        scores = (_score(cell, path, sample.line, name) for cell, name in ((first, trait), (second, COHERENCE)))
        rows.append(AnswerRow(question, prompt, answer, question_id, next(scores), next(scores), sample.line))
    if not rows:
        raise UsageError(f"{path.name!r} has no rows.", hint="Make them with: persona-steer eval")
    return rows


def _score(cell: str, path: Path, line: int, column: str) -> float | None:
    text = cell.strip().lower()
    if text in _NOTHING:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise UsageError(
            f"{path.name!r}, line {line}: {column!r} is {cell[:40]!r}, not a number.",
            hint="A score that is not there is an empty cell.",
        )
    return value
