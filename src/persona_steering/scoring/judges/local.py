"""A loaded model as its own server-less judge: the probabilities of the numbers it might say, read off directly.

Vocabularies differ: "85" is one token for some and two for others. So the first token is looked at, and for the
numbers 1 to 10, which may be the beginning of a longer one, also the token after them: "1" counts as 1 only as
far as no digit follows. The result is the distribution that the published expectation takes from a vocabulary in
which every number is one token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import JsonValue

from persona_steering.backends.base import Backend, Message, Text
from persona_steering.backends.tokens import TokenChoice
from persona_steering.errors import CancelledError, PromptError
from persona_steering.scoring.judges.base import Judge, JudgeItem, Judgement, OnDone
from persona_steering.scoring.judges.expectation import MIN_MASS, REFUSAL, judgement, parse_number, tally

TOP = 256  # tokens looked at; the digits of a model that answers with a number are among them
ITEMS = 8  # judged at a time, so that `cancelled` and `on_done` are heard
CONTINUED = tuple(range(1, 11))  # the numbers that begin another number up to 100
_KEPT = 20  # numbers kept beside a judgement


class LocalJudge(Judge):
    """Judges with `backend`, unsteered. Raises CapabilityError in `judge` where it does not tell probabilities."""

    def __init__(self, backend: Backend, *, min_mass: float = MIN_MASS) -> None:
        self._backend, self._min_mass = backend, min_mass
        self._id = f"local:{backend.info.id}"

    @property
    def id(self) -> str:
        return self._id

    @property
    def settings(self) -> dict[str, JsonValue]:
        return {"model": self._backend.identity.fingerprint, "min_mass": self._min_mass}

    def judge(
        self,
        items: Sequence[JudgeItem],
        *,
        on_done: OnDone | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Judgement]:
        done: list[Judgement] = []
        for start in range(0, len(items), ITEMS):
            if cancelled is not None and cancelled():
                raise CancelledError("stopped.", hint="The same command judges the rest.")
            for found in self._judge(items[start : start + ITEMS]):
                done.append(found)
                if on_done is not None:
                    on_done(len(done) - 1, found)
        return done

    def _judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        try:
            return self._together(items)
        except PromptError:
            if len(items) > 1:
                return [found for item in items for found in self._judge([item])]
            reason = "question and answer do not fit into the judge's context"
            return [Judgement(outcome="failed", judge=self.id, method="expectation", reason=reason)]

    def _together(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        prompts = [(Message("user", item.prompt),) for item in items]
        begun = ("", *map(str, CONTINUED))
        choices = self._backend.next_tokens([Text(prompt, text) for prompt in prompts for text in begun], top=TOP)
        refusals = self._backend.score([Text(prompt, REFUSAL) for prompt in prompts])
        found = []
        for i, refusal in enumerate(refusals):
            first, *after = choices[i * len(begun) : (i + 1) * len(begun)]
            masses = number_masses(first, dict(zip(CONTINUED, after, strict=True)))
            said = math.exp(float(refusal.logprobs.sum(dtype=np.float64)))
            likeliest = sorted(masses.items(), key=lambda pair: -pair[1])[:_KEPT]
            found.append(
                judgement(
                    tally(masses, said, min_mass=self._min_mass),
                    judge=self.id,
                    method="expectation",
                    min_mass=self._min_mass,
                    top=[(str(number), math.log(mass)) for number, mass in likeliest if mass > 0],
                    said=first[0].text,
                )
            )
        return found


def number_masses(first: Sequence[TokenChoice], after: Mapping[int, Sequence[TokenChoice]]) -> dict[int, float]:
    """The probability of every number 0 to 100 as the whole of what is said.

    `first` are the choices for the first token, `after[n]` those once n has been said. What would lead beyond 100
    is no number here. A number of two digits is not asked what follows it, as the published one token is not.
    """
    alone: dict[int, float] = {}  # said after a blank: a token of its own, which no digit continues
    begun: dict[int, float] = {}
    for choice in first:
        number = parse_number(choice.text)
        if number is not None:
            part = begun if choice.text.isdigit() else alone
            part[number] = part.get(number, 0.0) + math.exp(choice.logprob)
    for prefix in CONTINUED:
        reached = begun.get(prefix, 0.0)
        for choice in after[prefix]:
            if reached and choice.text.isascii() and choice.text.isdigit():
                longer, moved = int(f"{prefix}{choice.text}"), reached * math.exp(choice.logprob)
                begun[prefix] -= moved
                if longer <= 100:
                    begun[longer] = begun.get(longer, 0.0) + moved
    return {n: max(0.0, begun.get(n, 0.0)) + alone.get(n, 0.0) for n in sorted(begun.keys() | alone.keys())}
