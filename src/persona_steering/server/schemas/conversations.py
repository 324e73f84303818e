"""What requests about conversations look like, and the events of an answer that is written into one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from persona_steering.backends.base import Role
from persona_steering.server.errors import ErrorDetail
from persona_steering.server.limits import LIMITS
from persona_steering.server.schemas.openai import Usage
from persona_steering.server.schemas.steering import AppliedSteering, SteeringField, TracedAxis
from persona_steering.server.stores.conversation_models import MAX_TITLE, Conversation, MessageNode, Timings
from persona_steering.vectors.values import Closed

MAX_SEARCH = 200
MessageText = Annotated[str, Field(min_length=1, max_length=LIMITS.body_bytes)]
StopText = Annotated[str, Field(min_length=1)]
STOPS = Annotated[list[StopText], Field(max_length=LIMITS.stops)]


class SamplingRequest(Closed):
    """How tokens are chosen. What is left out is as configured; without a seed one is drawn, and told."""

    temperature: float | None = Field(default=None, ge=0, le=2, description="0 is greedy")
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=LIMITS.max_tokens)
    seed: int | None = Field(default=None, ge=0, lt=2**62)
    stop: StopText | STOPS | None = Field(default=None, description="the answer ends before any of these texts")


class NewConversation(Closed):
    """A conversation that is to be begun."""

    title: str = Field(default="", max_length=MAX_TITLE, description="empty: the first words of the first question")


class Again(Closed):
    """How a message is to be answered."""

    steering: SteeringField | None = Field(
        default=None, description='or the short form "sage:0.6"; null: the base model'
    )
    sampling: SamplingRequest = SamplingRequest()
    stream: bool = Field(default=False, description="the answer as server-sent events")
    logprobs: bool = Field(default=False, description="tells in the stream how likely each token was")


class Ask(Again):
    """A message, and how it is to be answered."""

    content: MessageText
    parent_id: str | None = Field(
        default=None,
        description="the message it comes after; left out: the end of the branch that is shown; null: it is the first. "
        "Another message with the same parent begins another branch",
    )
    system: MessageText | None = Field(default=None, description="a system prompt; for the first message only")
    answer: bool = Field(default=True, description="false: the message is kept, and not answered")


class Transcript(Closed):
    """A conversation with all its messages, a parent before its children, or with those of one branch."""

    conversation: Conversation
    messages: list[MessageNode]


class Exchange(Closed):
    """What was added to a conversation. Without an answer only `system` and `user` are there."""

    system: MessageNode | None = Field(default=None, description="the system prompt, where one was given")
    user: MessageNode | None = Field(default=None, description="null: the message was there already")
    answer: MessageNode | None = None
    steering: AppliedSteering | None = Field(default=None, description="null: the model was not steered")
    usage: Usage | None = None
    timings: Timings | None = None


class Started(Closed):
    """Event `start`: what is in the conversation now. `answer` is being written."""

    system: MessageNode | None
    user: MessageNode | None
    answer: MessageNode
    steering: AppliedSteering | None = Field(description="null: the model is not steered")
    traces: list[TracedAxis] = Field(description="what is read of every token, and at which layer")
    seed: int


class ReadToken(Closed):
    """A token's projections on the traced axes, before and after the interventions of its layer."""

    i: int = Field(ge=0, description="the place of the token in the answer")
    axes: dict[str, tuple[float, float]] = Field(description="axis -> [before, after]")


class WrittenToken(Closed):
    """Event `token`: what one step has added."""

    lane: int | None = Field(default=None, description="which of several answers; null: there is one")
    i: int = Field(ge=0, description="the place in the answer of the next token, or of this one where there is one")
    token: str | None = Field(description="the token's own text; null: this step wrote none")
    text: str = Field(description="what may be shown; it lags where a token ends within a character or a stop text")
    logprob: float | None = Field(default=None, description="natural log; null: not asked for")
    readings: list[ReadToken] = Field(default=[], description="those that became known, one step after their token")


class Finished(Closed):
    """Event `done`: the answer as it is kept."""

    answer: MessageNode
    steering: AppliedSteering | None = Field(description="with the number of caps engaged")
    usage: Usage
    timings: Timings | None


class Failed(Closed):
    """Event `error`: why there is no more. It is the last."""

    error: ErrorDetail
    answer: MessageNode | None = Field(default=None, description="what is kept of it, in a conversation")


class PastMessage(Closed):
    """A message that is sent along, and not kept."""

    role: Role
    content: str = Field(max_length=LIMITS.body_bytes)


PastMessages = Annotated[list[PastMessage], Field(min_length=1, max_length=LIMITS.messages)]


class Lane(Closed):
    """One of several answers."""

    label: str = Field(default="", max_length=MAX_TITLE)
    steering: SteeringField | None = Field(
        default=None, description='or the short form "sage:0.6"; null: the base model'
    )
    system: MessageText | None = Field(default=None, description="in the place of the messages' own system prompt")


class Comparison(Closed):
    """One conversation that is to be answered in several ways, with one seed."""

    messages: PastMessages
    lanes: list[Lane] = Field(min_length=2, max_length=LIMITS.lanes)
    sampling: SamplingRequest = SamplingRequest()
    stream: bool = False
    logprobs: bool = Field(default=False, description="tells in the stream how likely each token was")


class StartedLane(Closed):
    """What a lane is answered with."""

    lane: int
    label: str
    steering: AppliedSteering | None = Field(description="null: the model is not steered")
    traces: list[TracedAxis] = Field(description="what is read of every token, and at which layer")


class StartedLanes(Closed):
    """Event `start` of a comparison."""

    lanes: list[StartedLane]
    seed: int


class LaneAnswer(Closed):
    """A lane's answer; event `done` of a comparison."""

    lane: int
    label: str
    content: str
    finish_reason: Literal["stop", "length", "cancelled", "filtered"]
    steering: AppliedSteering | None = Field(description="null: the model was not steered")
    usage: Usage
    timings: Timings


class Compared(Closed):
    """All lanes' answers."""

    lanes: list[LaneAnswer]
    seed: int
