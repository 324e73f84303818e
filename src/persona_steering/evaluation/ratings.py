"""Two scores for every answer, of the trait and of its coherence: by a judge with rubrics, or by likelihood.

The likelihood scores need no judge; the unsteered model rates, offline and deterministic:

    trait       100 x the probability that the answer was written under the positive instruction and not under the
                negative one, at even odds: sigmoid(log p(answer | pos) - log p(answer | neg))
    coherence   the scale of scoring.coherence, under the best of the plain, positive and negative condition

50 is where neither instruction explains the answer better, so the published thresholds keep their meaning. Long
answers are mostly near 0 or 100: the mean is close to the share of answers that sound like the positive side.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from persona_steering.backends.base import (
    Backend,
    Progress,
    ProgressCallback,
    Text,
    conversation,
    no_progress,
)
from persona_steering.backends.tokens import TokenScores
from persona_steering.errors import CancelledError, UsageError
from persona_steering.personas import Trait
from persona_steering.scoring.coherence import CoherenceScale, measure_scale
from persona_steering.scoring.judges import COHERENCE, Judge, JudgeItem, Judgement
from persona_steering.scoring.likelihood import Answer, Probe

PHASE = "judging"
CHUNK = 32  # answers scored between two looks at `cancelled`
RUBRICS = 2  # judgements of every answer: the trait and the coherence


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer to rate, with the two system prompts that it is compared under."""

    question: str
    answer: str
    positive: str
    negative: str


@dataclass(frozen=True, slots=True)
class Rating:
    """What was said of one answer."""

    trait: Judgement
    coherence: Judgement


class Rater(ABC):
    """Rates answers by a trait and by coherence."""

    @property
    @abstractmethod
    def id(self) -> str:
        """Who rates."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, JsonValue]:
        """What else a rating depends on."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of the scores must know of the rater."""
        return ()

    @abstractmethod
    def rate(
        self,
        answers: Sequence[Spoken],
        *,
        progress: ProgressCallback = no_progress,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Rating]:
        """A rating of each, in order. Raises CancelledError, and ServerError where no answer can be judged."""


class RubricRater(Rater):
    """Asks a judge by the trait's own rubric and by the shipped one of coherence.

    Raises UsageError for a trait without a rubric.
    """

    def __init__(self, judge: Judge, trait: Trait) -> None:
        if not trait.eval_prompt:
            raise UsageError(
                f"the trait {trait.name!r} has no rubric for a judge.",
                hint="Write one as eval_prompt into its trait file, or use --judge likelihood.",
            )
        self._judge, self._rubrics = judge, (trait.eval_prompt, COHERENCE)

    @property
    def id(self) -> str:
        return self._judge.id

    @property
    def settings(self) -> dict[str, JsonValue]:
        return self._judge.settings

    @property
    def remarks(self) -> tuple[str, ...]:
        return self._judge.remarks

    def rate(
        self,
        answers: Sequence[Spoken],
        *,
        progress: ProgressCallback = no_progress,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Rating]:
        items = [JudgeItem(rubric, one.question, one.answer) for one in answers for rubric in self._rubrics]
        progress(Progress(PHASE, 0, len(items)))
        done = 0

        def count(index: int, found: Judgement) -> None:
            nonlocal done
            done += 1
            progress(Progress(PHASE, done, len(items)))

        found = self._judge.judge(items, on_done=count, cancelled=cancelled)
        return [Rating(*found[i : i + RUBRICS]) for i in range(0, len(found), RUBRICS)]


class LikelihoodRater(Rater):
    """Rates by how likely the model of `backend`, unsteered, finds an answer.

    `own` are some of the model's own answers, which define the coherence scale: plain, and under each side.
    Raises UsageError when all of them are empty.
    """

    def __init__(self, backend: Backend, own: Sequence[Spoken]) -> None:
        self._backend = backend
        scored = [one for one in self._score(own) if one is not None]
        if not scored:
            raise UsageError(
                "the model's own answers are empty, so there is nothing to compare with.",
                hint="Allow longer answers with --max-new-tokens.",
            )
        self._scale: CoherenceScale = measure_scale(backend, [answer for answer, _ in scored])

    @property
    def id(self) -> str:
        return f"likelihood:{self._backend.info.id}"

    @property
    def settings(self) -> dict[str, JsonValue]:
        scale = self._scale
        return {
            "model": self._backend.identity.fingerprint,
            "scale": {"own": scale.own, "shuffled": scale.shuffled, "repetition": scale.repetition},
        }

    def rate(
        self,
        answers: Sequence[Spoken],
        *,
        progress: ProgressCallback = no_progress,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Rating]:
        ratings: list[Rating] = []
        progress(Progress(PHASE, 0, len(answers)))
        for start in range(0, len(answers), CHUNK):
            if cancelled is not None and cancelled():
                raise CancelledError("stopped.", hint="The same command rates the answers again.")
            ratings += [self._rating(found) for found in self._score(answers[start : start + CHUNK])]
            progress(Progress(PHASE, len(ratings), len(answers)))
        return ratings

    def _rating(self, found: tuple[Answer, float] | None) -> Rating:
        if found is None:
            nothing = Judgement(outcome="failed", judge=self.id, method="likelihood", reason="the answer is empty")
            return Rating(nothing, self._scored(0.0))
        answer, advantage = found
        return Rating(self._scored(100 * _sigmoid(advantage)), self._scored(self._scale(answer)))

    def _scored(self, score: float) -> Judgement:
        return Judgement(outcome="score", judge=self.id, method="likelihood", score=score)

    def _score(self, answers: Sequence[Spoken]) -> list[tuple[Answer, float] | None]:
        """Each answer under its best condition, and by how many nats the positive one beats the negative one."""
        spoken = [one for one in answers if one.answer.strip()]
        positives: list[str | None] = [one.positive for one in spoken]
        negatives: list[str | None] = [one.negative for one in spoken]
        plain, positive, negative = (
            self._backend.score(
                [Text(conversation(one.question, system), one.answer) for one, system in zip(spoken, side, strict=True)]
            )
            for side in ([None] * len(spoken), positives, negatives)
        )
        found = iter(zip(spoken, plain, positive, negative, strict=True))
        return [_compared(*next(found)) if one.answer.strip() else None for one in answers]


def _compared(one: Spoken, plain: TokenScores, pos: TokenScores, neg: TokenScores) -> tuple[Answer, float]:
    probe = Probe(one.question, one.positive)
    answer = Answer(probe, one.answer, plain.mean, max(pos.mean, neg.mean), len(plain.token_ids))
    return answer, float(pos.logprobs.sum(dtype=np.float64) - neg.logprobs.sum(dtype=np.float64))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
