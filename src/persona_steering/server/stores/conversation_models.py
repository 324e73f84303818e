"""What a conversation is made of: its head, its messages, and how each answer came about."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from persona_steering.backends.base import FinishReason, Role, Sampling
from persona_steering.server.schemas.steering import AppliedSteering, SteeringField
from persona_steering.vectors.values import Closed

CONVERSATION, MESSAGE = "conv", "msg"  # prefixes of identifiers
MAX_TITLE = 200
MessageStatus = Literal["writing", "complete", "stopped", "failed", "interrupted"]


class Segment(Closed):
    """What steered an answer from one of its tokens on, until the next segment."""

    from_token: int = Field(default=0, ge=0)
    asked: SteeringField | None = Field(default=None, description="as it was asked for, to be asked for again")
    applied: AppliedSteering | None = Field(default=None, description="null: the model was left as it is")


class Timings(Closed):
    """Seconds that an answer took, from when it was asked for. Null: it did not come to that."""

    queued_s: float | None = Field(default=None, ge=0, description="until its prompt was read")
    first_token_s: float | None = Field(default=None, ge=0)
    total_s: float = Field(default=0, ge=0)


class Made(Closed):
    """How an answer came about: enough to make it again."""

    model: str = ""
    segments: tuple[Segment, ...] = ()
    sampling: Sampling = Sampling()
    finish_reason: FinishReason | None = None
    prompt_tokens: int = Field(default=0, ge=0, description="of everything before the answer")
    tokens: int = Field(default=0, ge=0, description="of the answer")
    caps_engaged: int = Field(default=0, ge=0)
    error: str | None = Field(default=None, description="why it was not finished")
    timings: Timings | None = None


class MessageNode(BaseModel):
    """One message of a tree. `parent_id` is null at a root; `made` belongs to answers of a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    conversation_id: str
    parent_id: str | None
    role: Role
    content: str
    status: MessageStatus = Field(description="stopped: on request; interrupted: by the end of the server")
    made: Made | None
    created_at: float = Field(description="seconds since 1970")


class Draft(NamedTuple):
    """A message that is to be added."""

    role: Role
    content: str
    status: MessageStatus = "complete"
    made: Made | None = None


class Conversation(BaseModel):
    """A tree's head. `leaf_id` is the end of the branch that is shown; `version` counts the changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str = Field(description="the first words of the first question, until it is renamed")
    model: str
    leaf_id: str | None
    created_at: float = Field(description="seconds since 1970")
    updated_at: float
    version: int


class Match(Closed):
    """Where a text was found: in a message, or in the title where `message_id` is null."""

    message_id: str | None
    excerpt: str


class FoundConversation(Conversation):
    """A conversation in a list."""

    match: Match | None = Field(default=None, description="null: nothing was searched for")


class ConversationEdit(Closed):
    """What is to be different. What is left out stays."""

    title: str | None = Field(default=None, max_length=MAX_TITLE, description="empty: from the next question")
    leaf_id: str | None = Field(
        default=None, description="the end of the branch to go on from; null: from before the first message"
    )
