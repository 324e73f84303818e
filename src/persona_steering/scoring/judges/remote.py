"""An LLM judge behind any OpenAI-compatible server.

By default one token is asked for, with the log-probabilities of the 20 likeliest, and the score is their
expectation. That needs a server that tells them, and a vocabulary in which a number is one token; both are found
out with one question before the first answer is judged. Where either is missing, several answers are sampled and
their mean is the score; `remarks` says so, and so does the method of every judgement.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from persona_steering.backends.base import Message, Request, Sampling, Text
from persona_steering.backends.openai import OpenAIBackend
from persona_steering.backends.pool import Pool
from persona_steering.errors import (
    CancelledError,
    CapabilityError,
    ServerError,
    ServerRefusalError,
)
from persona_steering.scoring.judges.base import Judge, JudgeItem, Judgement, Method, OnDone
from persona_steering.scoring.judges.expectation import (
    MIN_MASS,
    REFUSAL,
    TOP_LOGPROBS,
    expectation,
    judgement,
    parse_answer,
    tally,
)

PROBE = "Write the number 85 and nothing else."
FAILURES_IN_A_ROW = 8  # answers that failed one after the other, after which the server itself counts as broken
SAMPLED_TOKENS = 64  # enough for "Score: 85/100"
_HOPELESS = frozenset({401, 402, 403, 404})  # statuses that the next item would get too


class RemoteSettings(BaseModel):
    """How a remote judge is asked. The defaults are those of the published pipeline where it has them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_logprobs: int = Field(default=TOP_LOGPROBS, ge=1, le=20)
    min_mass: float = Field(default=MIN_MASS, gt=0, le=1)
    samples: int = Field(default=5, ge=1, description="answers to average where there are no log-probabilities")
    concurrency: int = Field(default=8, ge=1, description="calls at once")
    max_calls: int | None = Field(default=None, ge=0, description="calls after which no more are made")
    max_tokens: int | None = Field(default=None, ge=0, description="tokens, as the server counts them, likewise")


class RemoteJudge(Judge):
    """Judges with the model of `backend`, which the judge closes."""

    def __init__(self, backend: OpenAIBackend, settings: RemoteSettings | None = None) -> None:
        self._backend = backend
        self._settings = settings or RemoteSettings()
        self._id = backend.info.id
        self._method: Method | None = None
        self._remarks: list[str] = []
        self._calls = 0
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        return self._id

    @property
    def settings(self) -> dict[str, JsonValue]:
        return self._settings.model_dump(include={"top_logprobs", "min_mass", "samples"})

    @property
    def remarks(self) -> tuple[str, ...]:
        return tuple(self._remarks)

    @property
    def calls(self) -> int:
        """Requests made so far; those that were retried count once."""
        return self._calls

    def judge(
        self,
        items: Sequence[JudgeItem],
        *,
        on_done: OnDone | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Judgement]:
        if not items:
            return []
        if self._method is None and self._reserve(1):
            self._method = self._find_method()
        with Pool(self._judge, items, self._settings.concurrency) as pool:
            done = self._collect(pool, on_done, cancelled)
        if len(done) < len(items):
            raise CancelledError("stopped.", hint="What was judged is kept; the same command judges the rest.")
        return [done[i] for i in range(len(items))]

    def close(self) -> None:
        self._backend.close()

    def _collect(
        self,
        pool: Pool[JudgeItem, Judgement | ServerError],
        on_done: OnDone | None,
        cancelled: Callable[[], bool] | None,
    ) -> dict[int, Judgement]:
        """Judgements by index. Raises ServerError once the server is seen to be of no use."""
        done: dict[int, Judgement] = {}
        in_a_row = 0
        for index, found in pool.results(cancelled):
            if isinstance(found, ServerError):
                in_a_row += 1
                if _is_hopeless(found) or in_a_row >= FAILURES_IN_A_ROW:
                    raise _given_up(found, in_a_row)
                found = self._failed(found.message)
            elif isinstance(found, Exception):
                raise found
            else:
                in_a_row = 0
            done[index] = found
            if on_done is not None:
                on_done(index, found)
        return done

    def _judge(self, item: JudgeItem, stopped: Callable[[], bool]) -> Judgement | ServerError:
        sampled = self._method == "samples"
        if self._method is None or not self._reserve(self._settings.samples if sampled else 1):
            return self._failed("the limit of calls or tokens to the judge is reached")
        messages = (Message("user", item.prompt),)
        try:
            return self._sample(messages) if sampled else self._expect(messages)
        except CapabilityError as error:
            return self._failed(error.message)
        except ServerError as error:
            if _is_hopeless(error):
                raise  # so that no other call is begun
            return error

    def _expect(self, messages: tuple[Message, ...]) -> Judgement:
        (choices,) = self._backend.next_tokens([Text(messages, "")], top=self._settings.top_logprobs)
        least = self._settings.min_mass
        return judgement(
            expectation(choices, min_mass=least),
            judge=self.id,
            method="expectation",
            min_mass=least,
            top=choices,
            said=choices[0].text if choices else "",
        )

    def _sample(self, messages: tuple[Message, ...]) -> Judgement:
        asked = [
            Request(messages, sampling=Sampling(temperature=1, max_new_tokens=SAMPLED_TOKENS, seed=seed))
            for seed in range(self._settings.samples)
        ]
        texts = [done.text for done in self._backend.generate(asked)]
        said = Counter(parse_answer(text) for text in texts)
        shares = {number: count / len(texts) for number, count in said.items() if isinstance(number, int)}
        least = self._settings.min_mass
        return judgement(
            tally(shares, said[REFUSAL] / len(texts), min_mass=least),
            judge=self.id,
            method="samples",
            min_mass=least,
            top=[(str(number), math.log(share)) for number, share in shares.items()],
            said=texts[0],
        )

    def _find_method(self) -> Method:
        """Asks for a number of two digits, and sees whether it comes as one token with its probability."""
        asked = Text((Message("user", PROBE),), "")
        try:
            (choices,) = self._backend.next_tokens([asked], top=self._settings.top_logprobs)
        except CapabilityError as error:
            return self._fall_back(error.message.rstrip("."))
        mass = {text: sum(math.exp(c.logprob) for c in choices if c.text.strip() == text) for text in ("85", "8")}
        if mass["85"] > mass["8"]:
            return "expectation"
        if mass["8"]:
            return self._fall_back("its model writes a number digit by digit, so one token is no number")
        return self._fall_back("it does not write 85 when asked to, so nobody knows whether a token is a number")

    def _fall_back(self, reason: str) -> Method:
        self._remarks.append(f"{self.id}: {reason}; scores are means of {self._settings.samples} sampled answers")
        return "samples"

    def _reserve(self, calls: int) -> bool:
        """Whether so many more calls may be made; if so they count as made."""
        limit, tokens = self._settings.max_calls, self._settings.max_tokens
        with self._lock:
            if limit is not None and self._calls + calls > limit:
                return False
            if tokens is not None and self._backend.tokens_used >= tokens:
                return False
            self._calls += calls
            return True

    def _failed(self, reason: str) -> Judgement:
        return Judgement(outcome="failed", judge=self.id, method=self._method or "expectation", reason=reason)


def _is_hopeless(error: ServerError) -> bool:
    return isinstance(error, ServerRefusalError) and error.status in _HOPELESS


def _given_up(error: ServerError, in_a_row: int) -> ServerError:
    times = f" {in_a_row} times in a row" if in_a_row >= FAILURES_IN_A_ROW else ""
    return ServerError(
        f"the judge failed{times}: {error.message}",
        hint=f"{error.hint} What was judged is kept; the same command judges the rest.".strip(),
    )
