"""The questions that are asked for extraction, and the safe and unsafe prompts behind the safety axis.

The shipped files interleave their categories, so that the first n lines of any of them are balanced. The safe
and the unsafe prompt of the same line open with the same words, so that the axis between them is not one of
wording.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints

from persona_steering.errors import UsageError, unknown
from persona_steering.personas._files import library, parse_lines, read_text

SafetyKind = Literal["safe", "unsafe"]
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]
_Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class Question(BaseModel):
    """An open question that any character can answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    id: _Label
    category: _Label = "other"
    question: _Text


class SafetyPrompt(BaseModel):
    """A request that is either ordinary or one that a responsible model refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    id: _Label
    category: _Label = "other"
    prompt: _Text


_Entry = TypeVar("_Entry", bound=Question | SafetyPrompt)
_Any = TypeVar("_Any")


def load_questions(n: int | None = None, path: str | Path | None = None) -> tuple[Question, ...]:
    """The first `n` extraction questions (all without `n`), shipped or from a JSONL file of one's own.

    Raises: NotFoundError if there is no such file; UsageError with file and line for a bad one, or with
    the number there are when more are asked for.
    """
    if path is None:
        return _first(_shipped_questions(), n, "questions")
    return _first(_parse(Question, read_text(Path(path)), Path(path).name), n, "questions")


def load_safety_prompts(
    kind: SafetyKind, n: int | None = None, *, path: str | Path | None = None
) -> tuple[SafetyPrompt, ...]:
    """The first `n` safe or unsafe prompts (all without `n`), shipped or from a JSONL file of one's own.

    Raises: as `load_questions`; NotFoundError also for a kind that does not exist.
    """
    if kind not in ("safe", "unsafe"):
        raise unknown("kind of safety prompts", kind, ("safe", "unsafe"))
    if path is None:
        return _first(_shipped_safety_prompts(kind), n, f"{kind} prompts")
    return _first(_parse(SafetyPrompt, read_text(Path(path)), Path(path).name), n, f"{kind} prompts")


@cache
def _shipped_questions() -> tuple[Question, ...]:
    file = library("questions").joinpath("extraction.jsonl")
    return _parse(Question, file.read_text(encoding="utf-8"), file.name)


@cache
def _shipped_safety_prompts(kind: SafetyKind) -> tuple[SafetyPrompt, ...]:
    file = library("safety").joinpath(f"{kind}.jsonl")
    return _parse(SafetyPrompt, file.read_text(encoding="utf-8"), file.name)


def _parse(schema: type[_Entry], text: str, where: str) -> tuple[_Entry, ...]:
    entries = parse_lines(schema, text, where)
    if not entries:
        raise UsageError(f"{where} is empty.", hint="Write one JSON object a line.")
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise UsageError(f"{where} has the id {entry.id!r} twice.", hint="Give every line an id of its own.")
        seen.add(entry.id)
    return tuple(entries)


def _first(entries: Sequence[_Any], n: int | None, what: str) -> tuple[_Any, ...]:
    if n is None:
        return tuple(entries)
    if n < 1:
        raise UsageError(f"{n} {what} were asked for.", hint=f"Ask for 1 to {len(entries)}.")
    if n > len(entries):
        raise UsageError(
            f"{n} {what} were asked for, and there are {len(entries)}.",
            hint=f"Ask for at most {len(entries)}.",
        )
    return tuple(entries[:n])
