"""Texts read along directions, and what may come next in them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from persona_steering.backends.base import Role
from persona_steering.backends.tokens import MAX_LOGPROBS
from persona_steering.server.limits import LIMITS
from persona_steering.server.schemas.conversations import MessageText, PastMessages
from persona_steering.server.schemas.steering import AppliedSteering, LayerList, Name, SteeringField
from persona_steering.vectors.values import Closed

Place = Annotated[int, Field(ge=0)]
Pair = tuple[float, float]


class ProjectRequest(Closed):
    """A text, or a conversation, that is to be read token by token. Nothing is written."""

    text: MessageText | None = Field(default=None, description="read as it stands, without a chat template")
    messages: PastMessages | None = Field(default=None, description="in the place of `text`; an answer may be the last")
    axes: list[Name] = Field(min_length=1, max_length=LIMITS.trace_axes, description="axes, personas or traits")
    layers: LayerList | None = Field(default=None, description="0-based; null: where each axis is read by itself")
    tokens: list[Place] | None = Field(
        default=None, min_length=1, max_length=LIMITS.max_tokens, description="only tokens at these places; null: all"
    )
    steering: SteeringField | None = Field(default=None, description="acts on the answer in `messages`")

    @model_validator(mode="after")
    def _one_source(self) -> ProjectRequest:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give either text or messages")
        if self.text is not None and self.steering is not None:
            raise ValueError("steering acts on answers: give messages in the place of text")
        if len(set(self.axes)) < len(self.axes):
            raise ValueError("an axis is named twice")
        return self


class ProjectedToken(Closed):
    """One token. The texts of all tokens join to what the model read."""

    i: int
    text: str
    message: int | None = Field(description="which of `messages` it is of; null: the template's, or not known")
    role: Role | None = Field(description="of that message")
    readings: dict[str, dict[str, Pair]] = Field(
        description="axis -> layer -> the layer's output on the unit direction: [before, after] its interventions"
    )


class ProjectedAxis(Closed):
    """An axis at a layer at which it was read."""

    name: str
    layer: int
    percentiles: dict[str, float] | None = Field(
        description="of its reference answers, each by its mean; null: none are stored for the layer"
    )


class ProjectedText(Closed):
    """What was read."""

    tokens: list[ProjectedToken]
    axes: list[ProjectedAxis]
    steering: AppliedSteering | None = Field(description="null: the model was not steered")


class AlternativesRequest(Closed):
    """A conversation, and the beginning of its answer."""

    messages: PastMessages
    answer_prefix: str = Field(default="", max_length=LIMITS.body_bytes, description="what the answer begins with")
    steering: SteeringField | None = None
    top: int = Field(default=10, ge=1, le=MAX_LOGPROBS)


class Alternative(Closed):
    """A token that may come next."""

    text: str = Field(description="a special token is written out")
    logprob: float = Field(description="natural log")


class Alternatives(Closed):
    """The likeliest next tokens, best first, before temperature and top-p."""

    alternatives: list[Alternative]
    steering: AppliedSteering | None = Field(description="null: the model was not steered")
