"""Who rates an answer by a rubric, behind one interface.

A judgement has exactly one outcome, and the three are never merged: a score from 0 to 100, a refusal (the judge
says that the answer declines), or a failure with its reason (no number, no connection, no budget left).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

Outcome = Literal["score", "refusal", "failed"]
Method = Literal["expectation", "samples", "likelihood"]
OUTCOMES: tuple[Outcome, ...] = ("score", "refusal", "failed")

_PLACES = re.compile(r"\{(question|answer)\}")


class Judgement(BaseModel):
    """What one judge said of one answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Outcome
    judge: str = Field(description="who judged")
    method: Method
    score: float | None = Field(default=None, ge=0, le=100)
    mass: float | None = Field(default=None, description="the probability (or share of samples) on numbers 0 to 100")
    refusal_mass: float | None = Field(default=None, description="the same for the word REFUSAL")
    reason: str = Field(default="", description="why there is no score")
    said: str = Field(default="", description="how the likeliest, or the first sampled, of what it says begins")
    top: tuple[tuple[str, float], ...] = Field(default=(), description="what was counted: text and log-probability")

    @model_validator(mode="after")
    def _only_a_score_has_a_number(self) -> Judgement:
        if (self.score is None) == (self.outcome == "score"):
            raise ValueError(f"outcome {self.outcome!r} with the score {self.score}")
        return self


@dataclass(frozen=True, slots=True)
class JudgeItem:
    """An answer to a question, and the rubric to rate it by: a text with {question} and {answer}."""

    rubric: str
    question: str
    answer: str

    @property
    def prompt(self) -> str:
        """What the judge reads. Braces in the question or the answer stay as they are."""
        texts = {"question": self.question, "answer": self.answer}
        return _PLACES.sub(lambda match: texts[match[1]], self.rubric)


OnDone = Callable[[int, Judgement], None]


class Judge(ABC):
    """Rates answers. Use it as a context manager, or call `close`."""

    @property
    @abstractmethod
    def id(self) -> str:
        """Who judges; it stands beside every score."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, JsonValue]:
        """What else a judgement depends on: judgements of other settings are not taken from a cache."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was found out about the judge while judging, and a reader of its scores must know."""
        return ()

    @abstractmethod
    def judge(
        self,
        items: Sequence[JudgeItem],
        *,
        on_done: OnDone | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Judgement]:
        """Rates every item, in order. `on_done(index, judgement)` is called as each one is there.

        One item's trouble is its own: its outcome is "failed". Raises ServerError where no item can be judged,
        and CancelledError.
        """

    def close(self) -> None:  # noqa: B027  # not every judge has something to close
        """Ends connections; a model that was handed in stays loaded."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
