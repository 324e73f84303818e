"""What routes ask of the model, and what the native ones tell of an answer as it comes."""

from __future__ import annotations

from collections.abc import Sequence

from persona_steering.backends.base import Message, Piece, Request, Sampling
from persona_steering.backends.tokens import Trace
from persona_steering.config import Config
from persona_steering.errors import UsageError
from persona_steering.server.answers.steering import Steered
from persona_steering.server.limits import LIMITS
from persona_steering.server.schemas.conversations import ReadToken, SamplingRequest, WrittenToken
from persona_steering.server.schemas.openai import AnswerRequest


def sampling_of(asked: SamplingRequest | AnswerRequest, config: Config, *, limit: int | None = None) -> Sampling:
    """The configured sampling with what is asked for in its place; `limit` stands for `max_tokens` where given."""
    tokens = asked.max_tokens if limit is None else limit
    base = Sampling.configured(config.generation, seed=asked.seed, max_new_tokens=tokens)
    stop = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ())
    given = {key: value for key in ("temperature", "top_p") if (value := getattr(asked, key)) is not None}
    return base.model_copy(update={"stop": stop, **given})


def request_of(messages: Sequence[Message], steered: Steered, sampling: Sampling, *, logprobs: bool) -> Request:
    """The request for one answer. Raises UsageError for too many messages."""
    if len(messages) > LIMITS.messages:
        raise UsageError(
            f"{len(messages)} messages would be sent, and {LIMITS.messages} is the most.",
            hint="Begin another conversation, or a shorter branch.",
        )
    return Request(
        tuple(messages),
        recipe=steered.recipe,
        sampling=sampling,
        logprobs=0 if logprobs else None,
        trace=tuple(Trace(one.label, one.vector, one.layer) for one in steered.readings),
    )


class Telling:
    """Numbers the tokens of one answer."""

    def __init__(self, lane: int | None = None) -> None:
        self._lane, self._written = lane, 0

    def tell(self, piece: Piece) -> WrittenToken:
        """What one step has added."""
        place = self._written
        self._written += len(piece.tokens)
        return WrittenToken(
            lane=self._lane,
            i=place,
            token="".join(piece.token_texts) if piece.tokens else None,
            text=piece.text,
            logprob=piece.logprobs[0].logprob if piece.logprobs else None,
            readings=[
                ReadToken(i=one.index, axes={axis: (found.pre, found.post) for axis, found in one.values.items()})
                for one in piece.readings
            ],
        )
