"""What requests and answers of the OpenAI surface look like."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from persona_steering.server.limits import LIMITS
from persona_steering.server.schemas.steering import AppliedSteering, SteeringField


class TextPart(BaseModel):
    """A part of a message. There are no others than text."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """What a stream carries beside the text."""

    include_usage: bool = False


class JsonSchema(BaseModel):
    """A schema that the answer is held to."""

    name: str = ""
    schema_: dict[str, JsonValue] = Field(alias="schema")


class ResponseFormat(BaseModel):
    """The form of an answer: free text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(BaseModel):
    """POST /v1/chat/completions. Unknown fields are ignored, and named in the header x-ignored-fields."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _has_whole_characters(cls, data: object) -> object:
        """A lone surrogate, which JSON can escape, would break a tokenizer in the middle of everybody's batch."""
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a text holds half of a character, a lone surrogate") from None
        return data

    model: str = Field(min_length=1, max_length=512, description="MODEL, MODEL:PERSONA or MODEL:PERSONA@STRENGTH")
    messages: list[ChatMessage] = Field(min_length=1, max_length=LIMITS.messages)
    steering: SteeringField | None = Field(default=None, description='or the short form "sage:0.6,formal:-0.3"')
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=LIMITS.max_tokens)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=LIMITS.max_tokens)
    seed: int | None = Field(default=None, ge=0, lt=2**62)
    stop: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=LIMITS.stops)]
        | None
    ) = None
    n: int | None = Field(default=None, ge=1, le=LIMITS.choices, description="the seeds are seed, seed + 1, ...")
    response_format: ResponseFormat | None = None
    logprobs: bool | None = Field(default=None, description="not supported: refused")
    top_logprobs: int | None = Field(default=None, description="not supported: refused")
    tools: list[JsonValue] | None = Field(default=None, description="not supported: refused")


class AnswerMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    finish_reason: str
    logprobs: None = None


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    seed: int = Field(description="the same seed gives the same answer")
    steering: AppliedSteering | None = Field(description="null: the model was not steered")


class ModelEntry(BaseModel):
    """A model, or a persona of it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["persona-steer"] = "persona-steer"
    root: str
    parent: str | None = None
    steering: dict[str, Any] | None = None


class ModelList(BaseModel):
    """GET /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]
