"""Personas: characters defined by system prompts, shipped as archetypes or read from a user's file."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from persona_steering.errors import UsageError
from persona_steering.personas._files import (
    library_names,
    load_shipped,
    parse_json,
    parse_lines,
    parse_model,
    parse_named,
    parse_toml,
    read_text,
)
from persona_steering.vectors import check_name, suggest_name

SystemPrompt = Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=2000)]

_SUFFIXES = (".toml", ".json", ".jsonl", ".txt")


class Persona(BaseModel):
    """A character. Its vector is a mean over its system prompts, so each should evoke the same voice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = ""
    description: str = ""
    traits: tuple[str, ...] = ()
    emphasis: str = Field(default="", description="how the persona talks, in one sentence")
    system_prompts: Annotated[tuple[SystemPrompt, ...], Field(min_length=1, max_length=20)]
    source: str = Field(
        default="", description='where it comes from, e.g. "archetype:sage" or "prompts:my_wizard.toml"'
    )

    @field_validator("name")
    @classmethod
    def _name_can_become_a_file_name(cls, value: str) -> str:
        return check_name(value)

    @field_validator("system_prompts")
    @classmethod
    def _prompts_are_distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        seen: dict[str, int] = {}
        for i, prompt in enumerate(value):
            first = seen.setdefault(" ".join(prompt.casefold().split()), i)
            if first != i:
                raise ValueError(f"prompts {first + 1} and {i + 1} are the same")
        return value


class _PromptLine(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str


class _RoleInstruction(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    pos: str


class _RoleFile(BaseModel):
    """A role file of the assistant-axis data; its questions and rubric serve its own judge only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instruction: tuple[_RoleInstruction, ...]
    questions: tuple[str, ...] = ()
    eval_prompt: str = ""


@cache
def list_archetypes() -> tuple[str, ...]:
    """The names of the personas that ship with the package, sorted."""
    return library_names("archetypes")


@cache
def load_archetype(name: str) -> Persona:
    """A persona that ships with the package. Hyphens and spaces may stand for underscores.

    Raises: NotFoundError with the nearest names.
    """
    return load_shipped(Persona, "archetypes", name, kind="archetype")


def load_prompts(path: str | Path) -> Persona:
    """A persona from a user's file; its name is the file's stem unless the file gives one.

    - `.toml`: the keys of `Persona`, as in the shipped archetypes
    - `.json`: the same keys, or a list of prompts, or `{"instruction": [{"pos": ...}, ...]}`
    - `.jsonl`: one `{"prompt": ...}` a line
    - `.txt`: prompts separated by blank lines

    Raises: NotFoundError if there is no such file; UsageError with file, key or line for anything else.
    """
    file = Path(path)
    text = read_text(file)
    where, suffix = file.name, file.suffix.lower()
    data: Any
    if suffix == ".toml":
        data = parse_toml(text, where)
    elif suffix == ".json":
        data = _persona_keys(parse_json(text, where), where)
    elif suffix == ".jsonl":
        data = {"system_prompts": [line.prompt for line in parse_lines(_PromptLine, text, where)]}
    elif suffix == ".txt":
        data = {"system_prompts": [block for block in re.split(r"\n[ \t]*(?:\n[ \t]*)+", text) if block.strip()]}
    else:
        raise UsageError(
            f"prompts cannot be read from {where!r}: its ending {suffix!r} is unknown.",
            hint=f"Use one of {', '.join(_SUFFIXES)}; in a .txt file a blank line separates the prompts.",
        )
    if isinstance(data, dict) and "system_prompts" in data and not data["system_prompts"]:
        raise UsageError(f"{where!r} holds no prompts.", hint="Write at least one prompt of 10 to 2000 characters.")
    return parse_named(Persona, data, suggest_name(file.stem), f"prompts:{file.name}", where=where)


def _persona_keys(data: Any, where: str) -> Any:
    """The keys of `Persona` out of any of the JSON shapes."""
    if isinstance(data, list):
        return {"system_prompts": data}
    if isinstance(data, dict) and "instruction" in data:
        role = parse_model(_RoleFile, data, where)
        return {"system_prompts": [entry.pos for entry in role.instruction]}
    return data
