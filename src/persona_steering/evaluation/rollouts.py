"""What is asked to see a trait: questions x instructions x rollouts, as the persona-vectors pipeline asks them.

With an instruction the system prompt is "You are a NAME assistant. INSTRUCTION"; without one there is none. Source:
"Persona Vectors" (arXiv 2507.21509) and the form of its published files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from persona_steering.backends.base import Message, Request, Sampling, conversation
from persona_steering.errors import UsageError
from persona_steering.extraction.run import answer_seed
from persona_steering.interventions import Recipe
from persona_steering.personas import InstructionPair, Trait
from persona_steering.vectors.values import Closed

Side = Literal["pos", "neg"]
Split = Literal["extract", "eval"]
NEGATIVE_NAME = "helpful"  # what the assistant is called under a negative instruction, unless it is said


class RolloutSettings(Closed):
    """How a trait's questions are asked. The defaults are the published ones."""

    split: Split
    side: Side | None = Field(default=None, description="under which side's instructions; None: without any")
    assistant_name: str | None = Field(default=None, description="None: the trait for pos, helpful for neg")
    n_per_question: int = Field(default=10, ge=1, description="rollouts of each question and instruction")
    questions: int | None = Field(default=None, ge=1, description="the first so many only")
    max_new_tokens: int = Field(default=1000, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=10, description="None: 1, and 0 for a single rollout")
    seed: int = Field(default=0, ge=0)

    @property
    def chosen_temperature(self) -> float:
        if self.temperature is not None:
            return self.temperature
        return 0.0 if self.n_per_question == 1 else 1.0


@dataclass(frozen=True, slots=True)
class Rollout:
    """One answer to be asked for. `pair` is the place of its instruction, or of the one that it is compared with."""

    question: str
    question_id: str
    system: str | None
    pair: int
    seed: int

    @property
    def messages(self) -> tuple[Message, ...]:
        return conversation(self.question, self.system)


def plan_rollouts(trait: Trait, settings: RolloutSettings) -> tuple[Rollout, ...]:
    """All rollouts in the published order: question, then instruction, then repetition.

    A rollout's seed depends on its place alone, so steered and plain answers to one question share it.
    Raises UsageError where the trait has no questions for the split, or a name is given without an instruction.
    """
    if settings.side is None and settings.assistant_name is not None:
        raise UsageError("an assistant name was given without an instruction.", hint="Add --instruction pos or neg.")
    rollouts = []
    for i, question in enumerate(questions_of(trait, settings)):
        for k, pair in enumerate(trait.pairs):
            if settings.side is None and k != i % len(trait.pairs):
                continue  # asked once, without an instruction; the pairs take turns to compare with
            system = None if settings.side is None else system_prompt(trait, pair, settings.side, settings)
            for repeat in range(settings.n_per_question):
                seed = answer_seed(settings.seed, trait.name, settings.split, i, k, repeat)
                rollouts.append(Rollout(question, question_id(trait, settings, i, k), system, k, seed))
    return tuple(rollouts)


def questions_of(trait: Trait, settings: RolloutSettings) -> Sequence[str]:
    """The questions of the split, the first of them where fewer are wanted. Raises UsageError."""
    found = trait.questions if settings.split == "extract" else trait.evaluation_questions
    if not found:
        raise UsageError(
            f"the trait {trait.name!r} has no questions for the split {settings.split!r}.",
            hint="Take a trait of the library, or write them into a trait file.",
        )
    if settings.questions is not None and settings.questions > len(found):
        raise UsageError(
            f"{settings.questions} questions were asked for, and {trait.name!r} has {len(found)}.",
            hint=f"Ask for at most {len(found)}.",
        )
    return found[: settings.questions]


def system_prompt(trait: Trait, pair: InstructionPair, side: Side, settings: RolloutSettings) -> str:
    """The published form of an instruction, with its article."""
    if settings.assistant_name is not None and side == settings.side:
        name = settings.assistant_name.strip()
    else:
        name = NEGATIVE_NAME if side == "neg" else trait.name.replace("_", " ").replace("-", " ")
    if not name:
        raise UsageError("the assistant name is empty.", hint="Give one word, for instance the trait itself.")
    article = "an" if name[0].lower() in "aeiou" else "a"
    return f"You are {article} {name} assistant. {pair.pos if side == 'pos' else pair.neg}"


def question_id(trait: Trait, settings: RolloutSettings, question: int, instruction: int) -> str:
    """As published: trait_QUESTION, under instructions trait_QUESTION_SIDE_INSTRUCTION."""
    place = f"{trait.name}_{question}"
    return place if settings.side is None else f"{place}_{settings.side}_{instruction}"


def request_for(rollout: Rollout, recipe: Recipe, settings: RolloutSettings) -> Request:
    """A rollout as a request, steered by `recipe`."""
    sampling = Sampling(
        temperature=settings.chosen_temperature, max_new_tokens=settings.max_new_tokens, seed=rollout.seed
    )
    return Request(rollout.messages, recipe=recipe, sampling=sampling)
