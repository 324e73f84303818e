"""The frames of the live WebSocket: what a client says, and what it hears. Each is one JSON text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, RootModel, model_validator

from persona_steering.backends.base import FinishReason
from persona_steering.server.errors import ErrorDetail
from persona_steering.server.limits import LIMITS
from persona_steering.server.schemas.conversations import (
    Lane,
    MessageText,
    PastMessages,
    SamplingRequest,
    WrittenToken,
)
from persona_steering.server.schemas.openai import Usage
from persona_steering.server.schemas.steering import AppliedSteering, SteeringField, TracedAxis
from persona_steering.server.stores.conversation_models import MessageNode, Segment, Timings
from persona_steering.vectors.values import Closed

LaneNumber = Annotated[int, Field(ge=0, lt=LIMITS.lanes)]
Lanes = Annotated[list[Lane], Field(min_length=1, max_length=LIMITS.lanes)]
Identifier = Annotated[str, Field(min_length=1, max_length=64)]


class Frame(Closed):
    """What every frame has. What answers a client's frame has its `id`."""

    v: Literal[1] = 1
    id: Identifier | None = Field(default=None, description="the client's own number of its frame")


class Hello(Frame):
    """Asks who is there. Needs not be said."""

    type: Literal["hello"]


class LiveTurn(Closed):
    """Where in a conversation the answers are kept: below a new message, or below a question that is there."""

    conversation_id: Identifier
    content: MessageText | None = Field(default=None, description="a new message")
    answer_to: Identifier | None = Field(default=None, description="in its place, a message to answer once more")
    parent_id: Identifier | None = Field(
        default=None, description="of the new message; left out: the end of the branch that is shown; null: it is first"
    )
    system: MessageText | None = Field(default=None, description="a system prompt; for the first message only")

    @model_validator(mode="after")
    def _says_what_is_answered(self) -> LiveTurn:
        if (self.content is None) == (self.answer_to is None):
            raise ValueError("give either content or answer_to")
        if self.answer_to is not None and (self.system is not None or "parent_id" in self.model_fields_set):
            raise ValueError("a question that is there has its place and its system prompt")
        return self


class Generate(Frame):
    """Has one to four answers written, with one seed. A connection has one generation at a time."""

    type: Literal["generate"]
    messages: PastMessages | None = Field(default=None, description="what is answered, when nothing of it is kept")
    conversation: LiveTurn | None = Field(default=None, description="in its place, a conversation that keeps it")
    lanes: Lanes = Field(default=[Lane()], description="one answer for each")
    sampling: SamplingRequest = SamplingRequest()
    logprobs: bool = Field(default=False, description="tells how likely each token was")

    @model_validator(mode="after")
    def _answers_one_thing(self) -> Generate:
        if (self.messages is None) == (self.conversation is None):
            raise ValueError("give either messages or conversation")
        if self.conversation is not None and any(lane.system is not None for lane in self.lanes):
            raise ValueError("the lanes of a conversation have its system prompt")
        return self


class Steer(Frame):
    """Gives answers that are being written another steering, from their next token on."""

    type: Literal["steer"]
    lane: LaneNumber | None = Field(default=None, description="null: all of them")
    steering: SteeringField | None = Field(description='or the short form "sage:0.6"; null: the base model')


class Stop(Frame):
    """Ends answers at their next token."""

    type: Literal["stop"]
    lane: LaneNumber | None = Field(default=None, description="null: all of them")


class Resume(Frame):
    """Takes a generation up again whose connection broke: first what was missed, then what comes."""

    type: Literal["resume"]
    generation: Identifier
    after: int = Field(default=0, ge=0, description="the greatest `seq` that was heard")


class Ping(Frame):
    """Says that somebody is there still."""

    type: Literal["ping"]


class LiveRequest(RootModel[Annotated[Hello | Generate | Steer | Stop | Resume | Ping, Discriminator("type")]]):
    """A frame of a client."""


class Welcome(Frame):
    """Answers `hello`."""

    type: Literal["hello"] = "hello"
    model: str | None = Field(description="null: none is loaded")
    max_lanes: int = LIMITS.lanes
    resume_seconds: float = Field(default=LIMITS.resume_seconds, description="see resume")
    idle_seconds: float = Field(default=LIMITS.idle_seconds, description="of silence, after which it is closed")


class Pong(Frame):
    """Answers `ping`."""

    type: Literal["pong"] = "pong"


class LiveError(Frame):
    """What could not be done. Of a lane: why its answer broke off."""

    type: Literal["error"] = "error"
    generation: str | None = None
    seq: int | None = Field(default=None, description="where it is part of a generation")
    lane: int | None = None
    error: ErrorDetail
    answer: MessageNode | None = Field(default=None, description="what is kept of it")


class Told(Frame):
    """A frame of a generation. They are numbered, so that none is missed."""

    generation: str
    seq: int = Field(ge=1)


class LiveLane(Closed):
    """What a lane is answered with."""

    lane: int
    label: str
    steering: AppliedSteering | None = Field(description="null: the model is not steered")
    traces: list[TracedAxis] = Field(default=[], description="where the readings of its tokens are taken")
    answer: MessageNode | None = Field(description="as it is kept; null: nothing is")


class LiveStarted(Told):
    """The generation has begun."""

    type: Literal["start"] = "start"
    lanes: list[LiveLane]
    seed: int
    system: MessageNode | None = None
    user: MessageNode | None = None


class Queued(Told):
    """There is no place in the batch yet."""

    type: Literal["queued"] = "queued"
    waiting: int = Field(description="answers that wait for a place, these among them")


class LiveToken(WrittenToken, Told):
    """What one step has added to one answer."""

    type: Literal["token"] = "token"


class SteerAck(Told):
    """A `steer` took effect."""

    type: Literal["steer_ack"] = "steer_ack"
    lane: int
    from_token: int = Field(ge=0, description="the first token that it has a say in")
    steering: AppliedSteering | None = Field(description="null: the model is left as it is")


class LiveDone(Told):
    """An answer has ended."""

    type: Literal["done"] = "done"
    lane: int
    content: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    steering: AppliedSteering | None = Field(description="the last one, with the number of caps engaged")
    segments: list[Segment] = Field(description="what steered it from which token on: enough to make it again")
    answer: MessageNode | None = Field(description="as it is kept; null: nothing is")


ToldFrame = LiveStarted | Queued | LiveToken | SteerAck | LiveDone | LiveError


class LiveReply(
    RootModel[
        Annotated[
            Welcome | Pong | LiveStarted | Queued | LiveToken | SteerAck | LiveDone | LiveError, Discriminator("type")
        ]
    ]
):
    """A frame of the server."""
