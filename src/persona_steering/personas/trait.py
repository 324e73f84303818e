"""Traits: one behavioural dimension each, defined by pairs of opposite instructions."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from persona_steering.errors import UsageError, unknown
from persona_steering.files import write_atomically
from persona_steering.personas._files import (
    library_names,
    load_shipped,
    parse_json,
    parse_model,
    parse_named,
    parse_toml,
    read_text,
)
from persona_steering.vectors import check_name, suggest_name

Split = Literal["extract", "eval"]

Instruction = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=2000)]
AskedQuestion = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]

# Each must read well for "confident" and for "not at all confident", and use no article before the word.
_TEMPLATES = (
    "You are {word}. Let every sentence show that you are {word}.",
    "Answer in the voice of a person who is {word}, with the words that somebody {word} would use.",
    "You sound {word} from the first word to the last, and everyone who hears you finds you {word}.",
    "All your life people have said of you that you are {word}. Speak exactly as they know you.",
    "Whatever the question, your tone is {word}, your opinions are {word} and your advice is {word}.",
)

_SUFFIXES = (".toml", ".json")
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
    questions: tuple[AskedQuestion, ...] = Field(
        default=(), description="questions of its own for extraction; empty means the shipped ones"
    )
    evaluation_questions: tuple[AskedQuestion, ...] = Field(
        default=(), description="questions to measure on, none of them an extraction question"
    )
    eval_prompt: str = Field(default="", description="rubric for a judge, with {question} and {answer}")
    source: str = ""

    @field_validator("name")
    @classmethod
    def _name_can_become_a_file_name(cls, value: str) -> str:
        return check_name(value)

    @field_validator("eval_prompt")
    @classmethod
    def _rubric_has_both_places(cls, value: str) -> str:
        missing = [place for place in ("{question}", "{answer}") if place not in value]
        if value and missing:
            raise ValueError(f"the rubric does not say where the text goes: it lacks {' and '.join(missing)}")
        return value

    @model_validator(mode="after")
    def _evaluation_is_held_out(self) -> Trait:
        asked = {_folded(question) for question in self.questions}
        for question in self.evaluation_questions:
            if _folded(question) in asked:
                raise ValueError(f"the evaluation question {question!r} is also an extraction question")
        return self

    def to_published(self, split: Split = "extract") -> dict[str, object]:
        """One split in the persona-vectors layout, `{"instruction", "questions", "eval_prompt"}`, ready for JSON.

        Raises: NotFoundError for a split that does not exist; UsageError if the trait lacks what a file must hold.
        """
        if split not in ("extract", "eval"):
            raise unknown("split", split, ("extract", "eval"))
        questions = self.questions if split == "extract" else self.evaluation_questions
        for what, value in ((f"questions for the split {split!r}", questions), ("rubric", self.eval_prompt)):
            if not value:
                raise UsageError(
                    f"the trait {self.name!r} has no {what}, and the file must hold them.",
                    hint="Write them into a trait file (toml), or take a trait of the library.",
                )
        return {
            "instruction": [pair.model_dump() for pair in self.pairs],
            "questions": list(questions),
            "eval_prompt": self.eval_prompt,
        }


class _PublishedTrait(BaseModel):
    """The trait artifact of the persona-vectors pipeline; one file holds the questions of one split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instruction: Annotated[tuple[InstructionPair, ...], Field(min_length=1, max_length=20)]
    questions: tuple[AskedQuestion, ...] = ()
    eval_prompt: str = ""


@cache
def list_traits() -> tuple[str, ...]:
    """The names of the traits that ship with the package, sorted."""
    return library_names("traits")


@cache
def load_library_trait(name: str) -> Trait:
    """A trait that ships with the package: 5 pairs, 20 + 20 questions and a rubric.

    Raises: NotFoundError with the nearest names.
    """
    return load_shipped(Trait, "traits", name, kind="trait")


def find_trait(subject: str, opposite: str | None = None) -> Trait:
    """The trait that a user means: a trait file, else a trait of the library, else the adjective itself.

    The library's trait is meant by its name, alone or with its own opposite; any other opposite makes another
    trait. `source` says which of the three it is.

    Raises: as `load_trait` and `trait_from_word`; UsageError for a trait file with an opposite.
    """
    if Path(subject).suffix.lower() in _SUFFIXES:
        if opposite is not None:
            raise UsageError(f"{subject!r} holds both sides of the trait.", hint="Leave out the opposite.")
        return load_trait(subject)
    trait = trait_from_word(subject, opposite)
    if trait.name in list_traits():
        shipped = load_library_trait(trait.name)
        if opposite is None or trait.opposite.casefold() == shipped.opposite:
            return shipped
    return trait


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


def load_trait(path: str | Path, *, evaluation: str | Path | None = None) -> Trait:
    """A trait from a user's file; its name is the file's stem unless the file gives one.

    - `.toml`: the keys of `Trait`, as in the shipped traits
    - `.json`: the persona-vectors layout, `{"instruction": [{"pos", "neg"}, ...], "questions": [...], "eval_prompt"}`;
      `evaluation` names the file of the other split, whose questions become the evaluation questions

    Raises: NotFoundError if there is no such file; UsageError with the key for anything else, and when the two
    files of a trait differ in more than their questions.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in _SUFFIXES:
        raise UsageError(
            f"a trait cannot be read from {file.name!r}: its ending {suffix!r} is unknown.",
            hint=f"Use one of {', '.join(_SUFFIXES)}.",
        )
    if suffix == ".json":
        data = _published_keys(file, None if evaluation is None else Path(evaluation))
    elif evaluation is None:
        data = parse_toml(read_text(file), file.name)
    else:
        raise UsageError(
            f"{file.name!r} holds both splits, so it takes no evaluation file.",
            hint="Write the questions under evaluation_questions.",
        )
    return parse_named(Trait, data, suggest_name(file.stem), f"trait:{file.name}", where=file.name)


def save_trait(trait: Trait, path: str | Path, *, split: Split = "extract") -> None:
    """Writes one split of a trait as a persona-vectors JSON file, which `load_trait` reads back.

    The layout has no place for the opposite and the description; its name is the file's stem.

    Raises: UsageError, NotFoundError as `Trait.to_published`; StorageError when the disk refuses.
    """
    text = json.dumps(trait.to_published(split), indent=2, ensure_ascii=False)
    write_atomically(Path(path), f"{text}\n".encode())


def _published_keys(file: Path, evaluation: Path | None) -> dict[str, object]:
    """The keys of `Trait` out of the one or two files of a published trait."""
    data = _published_file(file)
    held_out = None if evaluation is None else _published_file(evaluation)
    if held_out is not None and evaluation is not None:
        for key in ("instruction", "eval_prompt"):
            if getattr(data, key) != getattr(held_out, key):
                raise UsageError(
                    f"{str(file)!r} and {str(evaluation)!r} differ in {key!r}, so they are not of one trait.",
                    hint="Name the two files of the same trait.",
                )
    return {
        "pairs": data.instruction,
        "questions": data.questions,
        "evaluation_questions": held_out.questions if held_out else (),
        "eval_prompt": data.eval_prompt,
    }


def _published_file(file: Path) -> _PublishedTrait:
    return parse_model(_PublishedTrait, parse_json(read_text(file), file.name), file.name)


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
