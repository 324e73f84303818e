"""Checking a data set of one's own: every bad item, with all that is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona_steering.authoring.rules import PERSONA_RULES, PROMPT_RULES, QUESTION_RULES, Rule, broken_rules
from persona_steering.errors import UsageError
from persona_steering.personas import Persona, Question, load_prompts
from persona_steering.personas.datasets import SetKind, read_lines
from persona_steering.personas.texts import near_duplicate

MOST_UNEVEN = 2.0  # the largest category may be this many times the smallest


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with one item, or with the set as a whole (an empty `text`)."""

    place: str
    text: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """A set that was looked through: how many items there are, and what is wrong."""

    items: int
    complaints: tuple[Complaint, ...]


def check_set(kind: SetKind, path: Path) -> Checked:
    """Looks through questions, safe or unsafe prompts in a JSONL file. Raises NotFoundError, UsageError (no text)."""
    rules = QUESTION_RULES if kind == "questions" else PROMPT_RULES
    complaints: list[Complaint] = []
    found: list[tuple[str, str]] = []
    categories: Counter[str] = Counter()
    ids: set[str] = set()
    for number, item in read_lines(kind, path):
        place = f"line {number}"
        if isinstance(item, UsageError):
            complaints.append(Complaint(place, "", (item.message.rstrip("."),)))
            continue
        text = item.question if isinstance(item, Question) else item.prompt
        reasons = _reasons(text, found, rules)
        if item.id in ids:
            reasons.append(f"the id {item.id!r} is there already")
        ids.add(item.id)
        categories[item.category] += 1
        found.append((place, text))
        if reasons:
            complaints.append(Complaint(place, text, tuple(reasons)))
    if categories and max(categories.values()) > MOST_UNEVEN * min(categories.values()):
        (most, many), (least, few) = categories.most_common()[0], categories.most_common()[-1]
        complaints.append(Complaint("the set", "", (f"{many} items of {most!r} and {few} of {least!r}",)))
    if not found and not complaints:
        complaints.append(Complaint("the set", "", ("it is empty",)))
    return Checked(len(found), tuple(complaints))


def check_persona(persona: Persona) -> Checked:
    """Looks through a persona's system prompts."""
    complaints: list[Complaint] = []
    found: list[tuple[str, str]] = []
    for number, text in enumerate(persona.system_prompts, start=1):
        place = f"prompt {number}"
        if reasons := _reasons(text, found, PERSONA_RULES):
            complaints.append(Complaint(place, text, tuple(reasons)))
        found.append((place, text))
    return Checked(len(found), tuple(complaints))


def check_prompts_file(path: Path) -> Checked:
    """Looks through a file of system prompts. Raises as `load_prompts`."""
    return check_persona(load_prompts(path))


def _reasons(text: str, before: Sequence[tuple[str, str]], rules: Sequence[Rule]) -> list[str]:
    reasons = broken_rules(text, rules)
    same = near_duplicate(text, [other for _, other in before])
    if same is not None:
        place = next(place for place, other in before if other == same)
        reasons.append(f"{'the same as' if same == text else 'nearly the same as'} {place}")
    return reasons
