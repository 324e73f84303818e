"""The data sets of a workspace: its own file where there is one, else the set that ships with the package.

datasets/questions.jsonl          extraction questions
datasets/safe.jsonl, unsafe.jsonl safe and unsafe prompts
datasets/personas/NAME.toml       system prompts of a persona
datasets/traits/NAME.toml         instructions of a trait
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from persona_steering.errors import UsageError, unknown
from persona_steering.files import storage_error, write_atomically
from persona_steering.personas._files import library, parse_lines, read_text
from persona_steering.personas.persona import Persona, load_prompts
from persona_steering.personas.questions import (
    Question,
    SafetyKind,
    SafetyPrompt,
    load_questions,
    load_safety_prompts,
)
from persona_steering.personas.trait import Trait, load_trait
from persona_steering.vectors import check_name

SetKind = Literal["questions", "safe", "unsafe"]
SET_KINDS: tuple[SetKind, ...] = ("questions", "safe", "unsafe")
EXTRACTION_SHARE = 0.6  # of the questions; the rest is for calibration, which must not see them


class Datasets:
    """The sets below one folder, which need not exist; without a folder the shipped ones alone."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where the workspace's own sets are. Raises UsageError without a folder."""
        if self._folder is None:
            raise UsageError("these are the shipped data sets, which have no folder.", hint="Open a workspace.")
        return self._folder

    def path(self, kind: SetKind) -> Path:
        """Where the workspace's own set is, or would be."""
        return self.folder / f"{kind}.jsonl"

    def own(self, kind: SetKind) -> Path | None:
        """The workspace's own set; None where the shipped one holds."""
        return self.path(kind) if self._folder is not None and self.path(kind).exists() else None

    def persona_path(self, name: str) -> Path:
        """Where the system prompts of a persona are, or would be. Raises UsageError for what is not a name."""
        return self.folder / "personas" / f"{check_name(name)}.toml"

    def questions(self, n: int | None = None) -> tuple[Question, ...]:
        """The first `n` questions, or all. Raises as `load_questions`."""
        return load_questions(n, self.own("questions"))

    def safety_prompts(self, kind: SafetyKind, n: int | None = None) -> tuple[SafetyPrompt, ...]:
        """The first `n` safe or unsafe prompts, or all. Raises as `load_safety_prompts`."""
        return load_safety_prompts(kind, n, path=self.own(kind))

    def extraction_questions(self, n: int) -> tuple[str, ...]:
        """The first `n` of the questions for extraction. Raises UsageError where there are fewer."""
        there = self._split()[0]
        if n > len(there):
            raise UsageError(
                f"{n} questions were asked for, and {len(there)} are there for extraction.",
                hint="Set extraction.num_questions lower and extraction.num_samples_per_prompt higher.",
            )
        return there[:n]

    def calibration_questions(self) -> tuple[str, ...]:
        """The questions that no vector is extracted from."""
        return self._split()[1]

    def check_apart(self, questions: Iterable[str]) -> None:
        """Raises UsageError for a question that doses are calibrated on: no vector may be made from its answers."""
        for question in sorted(set(questions) & set(self.calibration_questions())):
            raise UsageError(
                f"the question {question[:80]!r} is one of those that strengths are measured on.",
                hint="Ask another one.",
            )

    def persona(self, name: str) -> Persona | None:
        """The persona whose prompts the workspace holds, if it does. Raises UsageError for a bad file."""
        path = self.persona_path(name)
        return load_prompts(path) if path.exists() else None

    def trait_path(self, name: str) -> Path:
        """Where the instructions of a trait are, or would be. Raises UsageError for what is not a name."""
        return self.folder / "traits" / f"{check_name(name)}.toml"

    def save_trait(self, trait: Trait) -> Path:
        """Writes a trait's instructions and questions, for editing. Raises StorageError."""
        path = self.trait_path(trait.name)
        write_atomically(path, trait_toml(trait).encode())
        return path

    def traits(self) -> dict[str, Trait]:
        """The workspace's own traits by name. Raises UsageError for a bad file."""
        folder = self.folder / "traits"
        return {trait.name: trait for trait in map(load_trait, sorted(folder.glob("*.toml")))}

    def delete_trait(self, name: str) -> None:
        """Removes a trait's instructions. Raises NotFoundError with the nearest names, StorageError."""
        path = self.trait_path(name)
        if not path.exists():
            raise unknown("trait", name, self.traits())
        try:
            path.unlink()
        except OSError as error:
            raise storage_error(error, path) from error

    def save_persona(self, persona: Persona) -> Path:
        """Writes a persona's prompts, for editing. Raises StorageError."""
        path = self.persona_path(persona.name)
        write_atomically(path, persona_toml(persona).encode())
        return path

    def _split(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        texts = tuple(item.question for item in self.questions())
        first = int(EXTRACTION_SHARE * len(texts))
        return texts[:first], texts[first:]


def shipped_path(kind: SetKind) -> AbstractContextManager[Path]:
    """The file of a shipped set, as a path for as long as the block runs."""
    folder, name = ("questions", "extraction.jsonl") if kind == "questions" else ("safety", f"{kind}.jsonl")
    return resources.as_file(library(folder).joinpath(name))


def read_lines(kind: SetKind, path: Path) -> list[tuple[int, Question | SafetyPrompt | UsageError]]:
    """Every line of a set by its number from 1: the item, or what is wrong with it. Blank lines are skipped.

    Raises: NotFoundError, UsageError for a file that is no text.
    """
    schema: type[Question] | type[SafetyPrompt] = Question if kind == "questions" else SafetyPrompt
    found: list[tuple[int, Question | SafetyPrompt | UsageError]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        try:
            found += [(number, item) for item in parse_lines(schema, line, path.name)]
        except UsageError as error:
            message = error.message.replace(f"{path.name} line 1", "it", 1)
            found.append((number, UsageError(message, hint=error.hint)))
    return found


def save_jsonl(items: Iterable[BaseModel | str], path: str | Path) -> None:
    """Writes one JSON object a line; a text becomes {"prompt": text}, as `load_prompts` reads it.

    Raises: StorageError.
    """
    rows = ({"prompt": item} if isinstance(item, str) else item.model_dump(mode="json") for item in items)
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    write_atomically(Path(path), text.encode())


def persona_toml(persona: Persona) -> str:
    """A persona as the TOML that `load_prompts` reads; keys without a value are left out."""
    lines = [
        "# The system prompts of a persona. Edit them as you like, then create it again.",
        f"name = {_toml(persona.name)}",
    ]
    for key in ("title", "description", "emphasis"):
        if value := getattr(persona, key):
            lines.append(f"{key} = {_toml(value)}")
    if persona.traits:
        lines.append(f"traits = [{', '.join(map(_toml, persona.traits))}]")
    lines += ["system_prompts = [", *(f"  {_toml(prompt)}," for prompt in persona.system_prompts), "]"]
    return "\n".join(lines) + "\n"


def trait_toml(trait: Trait) -> str:
    """A trait as the TOML that `load_trait` reads; keys without a value are left out."""
    lines = [
        "# The instructions of a trait: pos evokes it, neg its opposite. Edit them as you like, then create it again.",
        f"name = {_toml(trait.name)}",
    ]
    for key in ("opposite", "description", "eval_prompt"):
        if value := getattr(trait, key):
            lines.append(f"{key} = {_toml(value)}")
    for key in ("questions", "evaluation_questions"):
        if asked := getattr(trait, key):
            lines += [f"{key} = [", *(f"  {_toml(question)}," for question in asked), "]"]
    for pair in trait.pairs:
        lines += ["", "[[pairs]]", f"pos = {_toml(pair.pos)}", f"neg = {_toml(pair.neg)}"]
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    # a JSON string is a TOML basic string, but for DEL, which TOML wants escaped
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
