"""`DatasetGenerator`: questions, safe and unsafe prompts, system prompts and traits that a model writes.

Every text is checked by `authoring.rules`; what does not pass is counted with the reason and never replaced by
something from elsewhere. A collection that ends with too few says so in its result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from zlib import crc32

from persona_steering.authoring import asks, characters
from persona_steering.authoring.collect import (
    Collector,
    Generated,
    Row,
    Wish,
    all_texts,
    shares,
)
from persona_steering.authoring.rules import PAIR_RULES, PROMPT_RULES, QUESTION_RULES, SIDE_RULES, Gate, Rule
from persona_steering.authoring.writer import Ask, Fields, Writer
from persona_steering.backends.base import Backend, ProgressCallback, no_progress
from persona_steering.personas import (
    Question,
    SafetyKind,
    SafetyPrompt,
    Trait,
    load_questions,
    load_safety_prompts,
    trait_from_word,
)
from persona_steering.personas.datasets import save_jsonl
from persona_steering.personas.texts import words

Item = TypeVar("Item")

PAIRS = 5
TRAIT_QUESTIONS = 40


class DatasetGenerator:
    """Lets `backend` write data sets. The same seed gives the same texts on a local model.

    `progress` hears of every reply; `cancelled` is asked while a reply is written. Methods that write many items take
    `keep_in`: a JSONL file that holds what is valid after every round, with which a later call goes on.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        seed: int = 0,
        progress: ProgressCallback = no_progress,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._backend, self._seed = backend, seed
        self._progress, self._cancelled = progress, cancelled

    def generate_extraction_questions(self, n: int = 100, *, keep_in: Path | None = None) -> Generated[Question]:
        """`n` open questions over six categories, balanced in every prefix.

        Raises: CancelledError, ServerError and what else the backend raises; what was valid is in `keep_in`.
        """
        shipped = [(item.category, item.question) for item in load_questions()]
        before = load_questions(path=keep_in) if keep_in is not None and keep_in.exists() else ()
        found = self._collect(
            "questions",
            shares(tuple(asks.QUESTION_CATEGORIES), n),
            QUESTION_RULES,
            lambda category, number: asks.question_ask(category, number, _two(shipped, category, number)),
            apart_from=[text for _, text in shipped],
            before=[(item.category, item.question) for item in before],
            keep=_keeper(keep_in, _questions),
        )
        return _made(found, _questions)

    def generate_safe_prompts(self, n: int = 200, *, keep_in: Path | None = None) -> Generated[SafetyPrompt]:
        """`n` everyday requests over the categories of the shipped ones. Raises as `generate_extraction_questions`."""
        return self._prompts("safe", n, keep_in)

    def generate_unsafe_prompts(self, n: int = 200, *, keep_in: Path | None = None) -> Generated[SafetyPrompt]:
        """`n` requests that a responsible model declines. Whether one does is measured by `check_refusals`.

        Raises as `generate_extraction_questions`.
        """
        return self._prompts("unsafe", n, keep_in)

    def generate_persona_prompts(self, description: str, n: int = 5) -> Generated[str]:
        """`n` system prompts of 2 to 4 sentences for the character that is described.

        Raises: UsageError for a description that is empty or too long; as the other methods.
        """
        characters.describe(description)
        repeated = Rule("repeats the description", lambda text: characters.repeats(description, text))
        found = self._collect(
            "prompts",
            shares([str(i) for i in range(len(characters.PROMPT_ANGLES))], n),
            (*SIDE_RULES, repeated),
            lambda side, number: characters.prompt_ask(description, int(side)),
        )
        return _made(found, lambda rows: [characters.prompt_text(description, i, row[1]) for i, row in enumerate(rows)])

    def generate_trait(self, word: str, opposite: str | None = None) -> Trait:
        """A trait: 5 pairs of instructions, 20 questions for extraction, 20 others for evaluation, and a rubric.

        Without an opposite the negative side is "not at all <word>". Raises: UsageError for what is not a word;
        QualityError, with the reasons, where too few texts passed; as the other methods.
        """
        named = trait_from_word(word, opposite)
        positive = " ".join(word.split())
        negative = named.opposite or f"not at all {positive}"
        pairs = self._collect(
            "pairs",
            shares([str(i) for i in range(PAIRS)], PAIRS),
            (
                *PAIR_RULES,
                Rule("names the other side", lambda text: characters.crosses(positive, named.opposite, text)),
            ),
            lambda angle, number: characters.pair_ask(positive, negative, int(angle)),
            texts=characters.side_by_side,
        ).require("pairs of instructions")
        told = {*words(positive), *words(named.opposite)}
        questions = self._collect(
            "questions",
            [Wish("questions", TRAIT_QUESTIONS)],
            (*QUESTION_RULES, Rule("names the trait", lambda text: bool(told & set(words(text))))),
            lambda category, number: asks.trait_question_ask(positive, negative, number),
        ).require("questions")
        asked = [text for _, text in questions]
        fields: dict[str, object] = {
            "pairs": tuple(characters.pair(positive, negative, text) for _, text in pairs),
            "questions": tuple(asked[0::2]),
            "evaluation_questions": tuple(asked[1::2]),
            "eval_prompt": characters.rubric(positive, negative),
            "source": f"generated:{self._backend.info.id}",
        }
        return Trait.model_validate({**named.model_dump(), **fields})

    def _prompts(self, kind: SafetyKind, n: int, keep_in: Path | None) -> Generated[SafetyPrompt]:
        shipped = [(item.category, item.prompt) for item in load_safety_prompts(kind)]
        before = load_safety_prompts(kind, path=keep_in) if keep_in is not None and keep_in.exists() else ()

        def make(rows: Sequence[Row]) -> list[SafetyPrompt]:
            return [
                SafetyPrompt(id=f"{kind}-{i:03d}", category=category, prompt=text)
                for i, (category, text) in enumerate(rows, start=1)
            ]

        found = self._collect(
            f"{kind} prompts",
            shares(list(dict.fromkeys(category for category, _ in shipped)), n),
            PROMPT_RULES,
            lambda category, number: asks.prompt_ask(kind, category, number, _two(shipped, category, number)),
            apart_from=[text for _, text in shipped],
            before=[(item.category, item.prompt) for item in before],
            keep=_keeper(keep_in, make),
        )
        return _made(found, make)

    def _collect(
        self,
        phase: str,
        wishes: Sequence[Wish],
        rules: Sequence[Rule],
        make_ask: Callable[[str, int], Ask],
        *,
        texts: Callable[[Ask, Fields], Sequence[str]] = all_texts,
        apart_from: Sequence[str] = (),
        before: Sequence[Row] = (),
        keep: Callable[[Sequence[Row]], None] = lambda rows: None,
    ) -> Generated[Row]:
        # what an earlier call kept is part of the seed, else this one would write it again
        seed = (self._seed, crc32(phase.encode()), len(before))
        collector = Collector(
            Writer(self._backend, seed=seed, cancelled=self._cancelled),
            Gate(rules, apart_from=apart_from),
            wishes,
            make_ask,
            phase=f"writing {phase}",
            progress=self._progress,
            texts=texts,
            keep=keep,
            local=self._backend.info.identity is not None,
        )
        for category, text in before:
            collector.begin_with(category, text)
        return collector.run()


def _two(shipped: Sequence[Row], category: str, number: int) -> tuple[str, str]:
    """Two shipped texts of a category as examples, others for every ask."""
    texts = [text for own, text in shipped if own == category]
    return texts[2 * number % len(texts)], texts[(2 * number + 1) % len(texts)]


def _questions(rows: Sequence[Row]) -> list[Question]:
    made: list[Question] = []
    counts: Counter[str] = Counter()
    for category, text in rows:
        counts[category] += 1
        made.append(Question(id=f"{category}-{counts[category]:02d}", category=category, question=text))
    return made


def _made(found: Generated[Row], make: Callable[[Sequence[Row]], Sequence[Item]]) -> Generated[Item]:
    return replace(found, items=tuple(make(found.items)))  # type: ignore[arg-type,return-value]


def _keeper(
    path: Path | None, make: Callable[[Sequence[Row]], Sequence[Question | SafetyPrompt]]
) -> Callable[[Sequence[Row]], None]:
    """Writes all rows to `path`, where there is one."""
    return lambda rows: None if path is None else save_jsonl(make(rows), path)
