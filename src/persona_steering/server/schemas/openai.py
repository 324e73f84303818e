"""What requests and answers of the OpenAI surface look like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from persona_steering.backends.tokens import MAX_LOGPROBS
from persona_steering.server.limits import LIMITS
from persona_steering.server.schemas.bodies import ClosedBody, WholeTexts
from persona_steering.server.schemas.steering import AppliedSteering, SteeringField, TracedAxis

FinishReason = Literal["stop", "length", "content_filter"]


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _open(example: dict[str, JsonValue]) -> ConfigDict:
    """A body that may hold more than is known."""
    return ConfigDict(extra="allow", json_schema_extra={"examples": [example]})


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], BeforeValidator(_listed, json_schema_input_type=Text | list[Text])]


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


class AnswerRequest(WholeTexts):
    """What both kinds of answers are asked with. Unknown fields are ignored, and named in x-ignored-fields."""

    model: str = Field(
        min_length=1, max_length=512, description="MODEL, MODEL:PERSONA, MODEL:PERSONA@STRENGTH or MODEL:preset/NAME"
    )
    steering: SteeringField | None = Field(default=None, description='or the short form "sage:0.6,formal:-0.3"')
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=LIMITS.max_tokens)
    seed: int | None = Field(default=None, ge=0, lt=2**62)
    stop: Annotated[Texts, Field(max_length=LIMITS.stops)] | None = None
    n: int | None = Field(default=None, ge=1, le=LIMITS.choices, description="the seeds are seed, seed + 1, ...")

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(AnswerRequest):
    """POST /v1/chat/completions."""

    model_config = _open(
        {
            "model": "persona-steer",
            "messages": [{"role": "user", "content": "How was your day?"}],
            "steering": {"personas": {"sage": 0.6}, "trace": {"axes": ["sage"]}},
            "seed": 16,
        }
    )

    messages: list[ChatMessage] = Field(min_length=1, max_length=LIMITS.messages)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=LIMITS.max_tokens)
    response_format: ResponseFormat | None = None
    logprobs: bool | None = Field(default=None, description="how likely each token was, before temperature and top_p")
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS, description="wants logprobs")
    tools: list[JsonValue] | None = Field(default=None, description="not supported: refused")


class CompletionRequest(AnswerRequest):
    """POST /v1/completions: the model goes on from a text, without a chat template."""

    model_config = _open({"model": "persona-steer:sage@0.4", "prompt": "Once upon a time", "max_tokens": 32})

    prompt: Annotated[Texts, Field(min_length=1, max_length=LIMITS.rows)]
    echo: bool = Field(default=False, description="whether the text begins with the prompt")
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS, description="alternatives to each token")
    best_of: int | None = Field(default=None, description="not supported beyond n: refused")
    suffix: str | None = Field(default=None, description="not supported: refused")


class TopLogprob(BaseModel):
    """A token that could have been written."""

    token: str
    logprob: float
    bytes: list[int] = Field(description="UTF-8; a character that several tokens make up is the last one's")


class TokenLogprob(TopLogprob):
    """A token that was written."""

    top_logprobs: list[TopLogprob]


class Logprobs(BaseModel):
    """Every written token, also those of a stop text that the answer leaves out."""

    content: list[TokenLogprob]


class TextLogprobs(BaseModel):
    """The same, in the form of /v1/completions."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class TraceEntry(BaseModel):
    """Where one token lies along the traced axes."""

    i: int = Field(description="place in the answer")
    id: int = Field(description="of the token")
    t: str = Field(description="its text")
    p: dict[str, tuple[float, float]] = Field(
        description="axis -> projection before and after the recipe; empty for a last token that was never read again"
    )


class SteeringChange(BaseModel):
    """Another steering, given to an answer while it was written."""

    from_tokens: list[int | None] = Field(description="by choice, the first token it had a say in; null: ended before")
    steering: AppliedSteering | None = Field(description="null: the model was left as it is")


class AnswerMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: Logprobs | None = None
    trace: list[TraceEntry] | None = Field(default=None, description="null: not asked for")


class TextChoice(BaseModel):
    """One continuation."""

    index: int
    text: str
    finish_reason: FinishReason | None
    logprobs: TextLogprobs | None = None
    trace: list[TraceEntry] | None = Field(default=None, description="null: not asked for")


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Told(BaseModel):
    """What every answer says of itself, and of how it was made."""

    id: str
    created: int = Field(description="seconds since 1970")
    model: str = Field(description="as it was asked for")
    seed: int = Field(description="the same seed gives the same answer")
    steering: AppliedSteering | None = Field(description="null: the model was not steered")
    traces: list[TracedAxis] = Field(description="what was read of every token, and at which layer")
    changes: list[SteeringChange] = Field(description="other steering that was given meanwhile")


class ChatCompletion(Told):
    """A whole answer."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[Choice]
    usage: Usage


class TextCompletion(Told):
    """A whole continuation."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[TextChoice]
    usage: Usage


class Delta(BaseModel):
    """What a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """What a chunk adds to one answer."""

    index: int
    delta: Delta
    finish_reason: FinishReason | None
    logprobs: Logprobs | None
    trace: list[TraceEntry] | None = Field(default=None, description="left out where nothing is known anew")


class Chunk(BaseModel):
    """What the chunks of both kinds share.

    The first of each choice says how it is made, the last how often caps engaged; after all comes the usage, if asked.
    """

    id: str
    created: int
    model: str
    seed: int | None = None
    steering: AppliedSteering | None = None
    traces: list[TracedAxis] | None = None
    changes: list[SteeringChange] | None = None
    usage: Usage | None = None


class ChatChunk(Chunk):
    """A part of a streamed answer."""

    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    choices: list[ChunkChoice]


class TextChunk(Chunk):
    """A part of a streamed continuation."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[TextChoice]


class ControlRequest(ClosedBody):
    """POST /v1/chat/completions/control: what is to happen to an answer that is being written."""

    id: str = Field(min_length=1, max_length=64, description="of the answer, as its first chunk has it")
    action: Literal["steer", "stop"]
    steering: SteeringField | None = Field(
        default=None, description="on top of what the model id says, as in a request; null: the model id alone"
    )


class ControlAnswer(BaseModel):
    """What became of it."""

    id: str
    object: Literal["chat.completion.control"] = "chat.completion.control"
    action: Literal["steer", "stop"]
    change: SteeringChange | None = Field(description="null for stop")


class ModelSteering(BaseModel):
    """What a model id steers with."""

    kind: Literal["persona", "trait", "preset"]
    default_coefficient: float | None = Field(description="its strength unless one is given; null for a preset")
    layers: list[int]
    coherence_at_1: float | None = Field(description="measured, 0-100; null: not measured")


class ModelEntry(BaseModel):
    """A model, a persona of it, or a preset for it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["persona-steer"] = "persona-steer"
    root: str
    parent: str | None = None
    steering: ModelSteering | None = None


class ModelList(BaseModel):
    """GET /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]
