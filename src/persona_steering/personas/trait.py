"""Traits: one behavioural dimension each, defined by pairs of opposite instructions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from persona_steering.errors import UsageError
from persona_steering.personas._files import parse_json, parse_model, read_text
from persona_steering.vectors import check_name, suggest_name

Instruction = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=2000)]

# Each must read well for "confident" and for "not at all confident", and use no article before the word.
_TEMPLATES = (
    "You are {word}. Let every sentence show that you are {word}.",
    "Answer in the voice of a person who is {word}, with the words that somebody {word} would use.",
    "You sound {word} from the first word to the last, and everyone who hears you finds you {word}.",
    "All your life people have said of you that you are {word}. Speak exactly as they know you.",
    "Whatever the question, your tone is {word}, your opinions are {word} and your advice is {word}.",
)

_WORD = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+){0,4}")
_MAX_WORD = 48


class InstructionPair(BaseModel):
    """Two system prompts that differ in the trait only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pos: Instruction
    neg: Instruction

    @model_validator(mode="after")
    def _sides_differ(self) -> InstructionPair:
        if self.pos.casefold() == self.neg.casefold():
            raise ValueError("pos and neg are the same")
        return self


class Trait(BaseModel):
    """A dimension such as confident / insecure. Its vector points from the negative side to the positive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    opposite: str = Field(
        default="", description="the word for the other side; empty when it is only the trait's absence"
    )
    pairs: Annotated[tuple[InstructionPair, ...], Field(min_length=1, max_length=20)]
    description: str = ""
    questions: tuple[str, ...] = Field(
        default=(), description="questions of its own for extraction; empty means the shipped ones"
    )
    evaluation_questions: tuple[str, ...] = Field(
        default=(), description="questions to measure on, none of them an extraction question"
    )
    eval_prompt: str = Field(default="", description="rubric for a judge, with {question} and {answer}")
    source: str = ""

    @field_validator("name")
    @classmethod
    def _name_can_become_a_file_name(cls, value: str) -> str:
        return check_name(value)

    @model_validator(mode="after")
    def _evaluation_is_held_out(self) -> Trait:
        asked = {_folded(question) for question in self.questions}
        for question in self.evaluation_questions:
            if _folded(question) in asked:
                raise ValueError(f"the evaluation question {question!r} is also an extraction question")
        return self


class _TraitFile(BaseModel):
    """The trait artifact of the persona-vectors pipeline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instruction: Annotated[tuple[InstructionPair, ...], Field(min_length=1, max_length=20)]
    questions: tuple[str, ...] = ()
    eval_prompt: str = ""


def trait_from_word(word: str, opposite: str | None = None) -> Trait:
    """A trait from an adjective, and its opposite when there is a good word for it.

    Without an opposite the negative side is "not at all <word>".

    Raises: UsageError if a word is empty, not a word, or both are the same.
    """
    positive = _clean(word, "trait")
    other = "" if opposite is None else _clean(opposite, "opposite")
    if other.casefold() == positive.casefold():
        raise UsageError(f"the opposite of {positive!r} is the same word.", hint="Name another word, or none.")
    negative = other or f"not at all {positive}"
    return Trait(
        name=suggest_name(positive),
        opposite=other,
        pairs=tuple(
            InstructionPair(pos=template.format(word=positive), neg=template.format(word=negative))
            for template in _TEMPLATES
        ),
        description=f"{positive} rather than {negative}",
        source=f"word:{positive}/{other}" if other else f"word:{positive}",
    )


def load_trait(path: str | Path) -> Trait:
    """A trait from a persona-vectors JSON file; its name is the file's stem.

    The file holds `{"instruction": [{"pos", "neg"}, ...], "questions": [...], "eval_prompt": ...}`.

    Raises: NotFoundError if there is no such file; UsageError with the key for anything else.
    """
    file = Path(path)
    data = parse_model(_TraitFile, parse_json(read_text(file), file.name), file.name)
    return Trait(
        name=suggest_name(file.stem),
        pairs=data.instruction,
        questions=data.questions,
        eval_prompt=data.eval_prompt,
        source=f"trait:{file.name}",
    )


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _clean(word: str, kind: str) -> str:
    text = " ".join(word.split())
    if not text:
        raise UsageError(f"the {kind} is empty.", hint="Give one adjective, for instance 'confident'.")
    if len(text) > _MAX_WORD or not _WORD.fullmatch(text):
        raise UsageError(
            f"the {kind} {text[:_MAX_WORD]!r} is not a word.",
            hint="Give one adjective, for instance 'confident'; write longer instructions in a trait file.",
        )
    # A capital is kept: it may belong to a name ("Victorian").
    return text
