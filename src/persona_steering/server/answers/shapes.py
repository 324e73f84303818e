"""What was written, in the shapes that OpenAI's clients read: texts, log-probabilities, traces, usage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan

from persona_steering.backends.base import Completion, Piece
from persona_steering.backends.tokens import TokenLogprob as Likelihood
from persona_steering.backends.tokens import TokenReading, Trace
from persona_steering.server.answers.steering import Steered
from persona_steering.server.schemas.openai import (
    AnswerMessage,
    ChatCompletion,
    Choice,
    FinishReason,
    Logprobs,
    SteeringChange,
    TextChoice,
    TextCompletion,
    TextLogprobs,
    TokenLogprob,
    TopLogprob,
    TraceEntry,
    Usage,
)
from persona_steering.server.schemas.steering import AppliedSteering

FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "cancelled": "length",
    "filtered": "content_filter",
}


@dataclass
class Head:
    """What is known of an answer before its first token, and what was changed of it since.

    `seeds` are those of one prompt's answers; with several prompts each has as many, in the same order.
    """

    id: str
    created: int
    model: str
    steered: Steered
    seeds: Sequence[int]
    prompts: Sequence[str] = ("",)
    wants_logprobs: bool = False
    changes: list[SteeringChange] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many answers there are."""
        return len(self.prompts) * len(self.seeds)

    def seed_of(self, place: int) -> int:
        """The seed of one answer."""
        return self.seeds[place % len(self.seeds)]

    def prompt_of(self, place: int) -> str:
        """The prompt that one answer goes on from."""
        return self.prompts[place // len(self.seeds)]

    def echo(self, done: Iterable[Completion]) -> AppliedSteering | None:
        """What was done to the model, with how often caps engaged in finished answers."""
        return self.steered.echo(caps_engaged=sum(one.caps_engaged for one in done))

    def usage(self, done: Sequence[Completion]) -> Usage:
        """Tokens of all answers, in order. A prompt with several answers was read once."""
        parts = [usage_of(done[start : start + len(self.seeds)]) for start in range(0, len(done), len(self.seeds))]
        read, written = (sum(getattr(one, key) for one in parts) for key in ("prompt_tokens", "completion_tokens"))
        return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


def usage_of(done: Sequence[Completion]) -> Usage:
    """Tokens of several answers to one prompt, which was read once."""
    written = sum(one.tokens or 0 for one in done)
    read = max((one.prompt_tokens for one in done), default=0)
    return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


def chat_completion(head: Head, done: Sequence[Completion]) -> ChatCompletion:
    """All answers to a conversation, in order."""
    choices = [
        Choice(
            index=place,
            message=AnswerMessage(content=one.text),
            finish_reason=FINISH[one.finish_reason],
            logprobs=chat_logprobs(one.logprobs) if head.wants_logprobs else None,
            trace=trace_of(one, head.steered.readings),
        )
        for place, one in enumerate(done)
    ]
    return ChatCompletion(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=choices,
        usage=head.usage(done),
        seed=head.seeds[0],
        steering=head.echo(done),
        traces=head.steered.traces,
        changes=head.changes,
    )


def text_completion(head: Head, done: Sequence[Completion], *, echo: bool) -> TextCompletion:
    """All continuations, in order; with `echo` each behind its prompt."""
    starts = [head.prompt_of(place) if echo else "" for place in range(len(done))]
    choices = [
        TextChoice(
            index=place,
            text=start + one.text,
            finish_reason=FINISH[one.finish_reason],
            logprobs=text_logprobs(one.logprobs, len(start)) if head.wants_logprobs else None,
            trace=trace_of(one, head.steered.readings),
        )
        for place, (start, one) in enumerate(zip(starts, done, strict=True))
    ]
    return TextCompletion(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=choices,
        usage=head.usage(done),
        seed=head.seeds[0],
        steering=head.echo(done),
        traces=head.steered.traces,
        changes=head.changes,
    )


def chat_logprobs(found: Sequence[Likelihood]) -> Logprobs:
    """Log-probabilities as chat answers have them."""
    return Logprobs(
        content=[
            TokenLogprob(
                token=one.text,
                logprob=one.logprob,
                bytes=_bytes(one.text),
                top_logprobs=[TopLogprob(token=x.text, logprob=x.logprob, bytes=_bytes(x.text)) for x in one.top],
            )
            for one in found
        ]
    )


def text_logprobs(found: Sequence[Likelihood], start: int) -> TextLogprobs:
    """Log-probabilities as continuations have them; `start` is where in the text the first token begins."""
    offsets = []
    for one in found:
        offsets.append(start)
        start += len(one.text)
    alternatives = [{x.text: x.logprob for x in one.top} for one in found]
    return TextLogprobs(
        tokens=[one.text for one in found],
        token_logprobs=[one.logprob for one in found],
        top_logprobs=alternatives if any(alternatives) else None,
        text_offset=offsets,
    )


def trace_of(done: Completion, traces: Sequence[Trace]) -> list[TraceEntry] | None:
    """The trace of a whole answer; None where none was asked for."""
    if not traces:
        return None
    return [
        TraceEntry(i=i, id=token, t=text, p=_projections({t.label: done.readings[t.label][i] for t in traces}))
        for i, (token, text) in enumerate(zip(done.token_ids, done.token_texts, strict=True))
    ]


class Tracing:
    """The trace of an answer on its way: a token is told once its reading is known."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[int, str]] = {}
        self._tokens = 0

    def feed(self, piece: Piece) -> list[TraceEntry]:
        """What has become known; with the last piece, also the tokens that will never be read."""
        for token, text in zip(piece.tokens, piece.token_texts, strict=True):
            self._waiting[self._tokens] = (token, text)
            self._tokens += 1
        known = [self._told(reading) for reading in piece.readings]
        if piece.completion is None:
            return known
        rest = [TraceEntry(i=i, id=token, t=text, p={}) for i, (token, text) in sorted(self._waiting.items())]
        self._waiting.clear()
        return [*known, *rest]

    def _told(self, reading: TokenReading) -> TraceEntry:
        token, text = self._waiting.pop(reading.index)
        return TraceEntry(i=reading.index, id=token, t=text, p=_projections(reading.values))


def _projections(values: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Those that were taken: a token that was never fed back has none."""
    return {
        label: (_short(pre), _short(post)) for label, (pre, post) in values.items() if not (isnan(pre) or isnan(post))
    }


def _short(value: float) -> float:
    """A number in as many digits as it was measured with, which is single precision."""
    return float(f"{value:.7g}")


def _bytes(text: str) -> list[int]:
    return list(text.encode())
