"""What requests and answers of the OpenAI surface look like. Inside `steering` nothing unknown is accepted."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag, model_validator

from persona_steering.errors import UsageError
from persona_steering.interventions.recipe import MAX_STRENGTH
from persona_steering.vectors import check_name
from persona_steering.vectors.values import Layer

MAX_MESSAGES = 256
MAX_TOKENS = 4096
MAX_VECTORS = 8
MAX_CHOICES = 8
MAX_STOPS = 16


def _name(value: str) -> str:
    try:
        return check_name(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _once(layers: list[int]) -> list[int]:
    if len(set(layers)) < len(layers):
        raise ValueError("a layer is named twice")
    return sorted(layers)


Name = Annotated[str, AfterValidator(_name)]
Strength = Annotated[float, Field(ge=-MAX_STRENGTH, le=MAX_STRENGTH, allow_inf_nan=False)]
Weights = Annotated[dict[Name, Strength], Field(max_length=MAX_VECTORS)]


class SteeredVector(BaseModel):
    """One persona or trait."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    coefficient: Strength = Field(description="1.0 is the strongest dose measured to stay coherent")
    layers: Annotated[list[Layer], Field(min_length=1, max_length=512), AfterValidator(_once)] | None = Field(
        default=None, description="0-based; null: those it was calibrated at"
    )


class SteeringRequest(BaseModel):
    """What steers an answer. Each name once, in whichever of the three places."""

    model_config = ConfigDict(extra="forbid")

    personas: Weights = {}
    traits: Weights = {}
    vectors: list[SteeredVector] = Field(default=[], max_length=MAX_VECTORS)
    safety: bool | None = Field(default=None, description="null: as the server is configured")


TEXT, OBJECT = "short form", "object form"  # as they stand in the place of a validation error
SteeringField = Annotated[
    Annotated[str, Field(max_length=1000), Tag(TEXT)] | Annotated[SteeringRequest, Tag(OBJECT)],
    Discriminator(lambda value: TEXT if isinstance(value, str) else OBJECT),
]


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
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    steering: SteeringField | None = Field(default=None, description='or the short form "sage:0.6,formal:-0.3"')
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    seed: int | None = Field(default=None, ge=0, lt=2**62)
    stop: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=MAX_STOPS)]
        | None
    ) = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES, description="the seeds are seed, seed + 1, ...")
    response_format: ResponseFormat | None = None
    logprobs: bool | None = Field(default=None, description="not supported: refused")
    top_logprobs: int | None = Field(default=None, description="not supported: refused")
    tools: list[JsonValue] | None = Field(default=None, description="not supported: refused")


class AppliedVector(BaseModel):
    """What one vector does to the answer."""

    name: str
    kind: str
    coefficient: float
    layers: list[int]
    relative_dose: float | None = Field(description="sum over layers of ||c v|| / ||h||; null: not known")


class AppliedCap(BaseModel):
    """A bound on a projection."""

    axis: str
    op: str
    layers: list[int]


class AppliedSteering(BaseModel):
    """What was done to the model. In a stream the first chunk has it, and the last chunk the caps engaged."""

    hash: str
    applied: list[AppliedVector]
    caps: list[AppliedCap]
    safety: bool
    recipe: list[JsonValue] = Field(description="the canonical form, of which `hash` is the hash")
    warnings: list[str]
    caps_engaged: int | None = Field(default=None, description="(layer, token) pairs at which a bound acted")


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
