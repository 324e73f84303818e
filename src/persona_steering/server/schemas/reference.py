"""What the paths of the two earlier systems read and write, field for field."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from persona_steering.server.schemas.steering import Name, Strength, Weights
from persona_steering.vectors.values import Closed

SCALES = (0.01, 2.0)
PAIRS = 5  # of instructions, in a trait that a model writes


Text = Annotated[str, Field(min_length=1)]


class Reference(Closed):
    """Its fields are called as the earlier systems called them, "model_..." too."""

    model_config = ConfigDict(protected_namespaces=())


class ErrorReply(Reference):
    """What went wrong, on all of these paths."""

    detail: str = Field(description="what is wrong, and what to do")


class WebStatus(Reference):
    """GET /api/status."""

    model_loaded: bool
    model_loading: bool
    model_name: str
    safety_axis_available: bool
    safety_floor: float | None = Field(description="at the middle of the layers where the floor acts; null: no axis")
    creating_persona: str | None = Field(description="the persona that a job makes or that waits for its turn")
    creating_trait: str | None
    steering_scale: float


class LoadReply(Reference):
    """POST /api/load-model."""

    status: Literal["loaded", "already_loaded", "already_loading"]


class WebPersona(Reference):
    """A persona of GET /api/personas."""

    name: str
    source: str
    description: str
    traits: list[str] = Field(description="its tags")
    loaded: bool = Field(description="whether it is held in memory")


class WebTrait(Reference):
    """A trait of GET /api/traits."""

    name: str
    opposite: str
    loaded: bool


class NewPersona(Reference):
    """POST /api/personas."""

    name: str
    description: Text
    num_prompts: int = Field(default=5, ge=1, le=20)
    num_questions: int = Field(default=40, ge=1, le=10_000)
    batch_size: int = Field(default=8, ge=1, description="read, and left to the engine: results do not depend on it")
    use_judge: Literal[False] = Field(default=False, description="no judge measures them: true is refused")


class NewTrait(Reference):
    """POST /api/traits."""

    word: str
    opposite: str | None = None
    num_questions: int = Field(default=30, ge=1, le=10_000)
    batch_size: int = Field(default=8, ge=1, description="read, and left to the engine: results do not depend on it")


class CreatingReply(Reference):
    """A job was queued."""

    status: Literal["creating"] = "creating"
    name: str


class DeletedReply(Reference):
    """It is gone."""

    status: Literal["deleted"] = "deleted"
    name: str


class WebChat(Reference):
    """POST /api/chat, and a message of /ws/chat. Every call is a conversation of its own."""

    message: Text
    personas: Weights = Field(default={})
    traits: Weights = Field(default={})
    safety_enabled: bool = True
    safety_strength: float = Field(default=1.0, description="1.0; a floor holds wholly or not at all")


class WebAnswer(Reference):
    """The whole answer."""

    response: str


class ScaleRequest(Reference):
    """POST /api/steering-scale."""

    scale: float = Field(allow_inf_nan=False, description="multiplies the weights of these paths; held to 0.01..2.0")


class ScaleReply(Reference):
    """What the scale is now, until the server stops."""

    status: Literal["ok"] = "ok"
    steering_scale: float


class StatusFrame(Reference):
    """WS /ws/chat: the message was taken."""

    type: Literal["status"] = "status"
    status: Literal["generating"] = "generating"


class ChunkFrame(Reference):
    """WS /ws/chat: a piece of the answer, as it is written; the last one is `done`."""

    type: Literal["chunk"] = "chunk"
    content: str
    done: bool


class DoneFrame(Reference):
    """WS /ws/chat: the answer has ended."""

    type: Literal["done"] = "done"


class ErrorFrame(Reference):
    """WS /ws/chat: what went wrong with the message; the next one may be sent."""

    type: Literal["error"] = "error"
    error: str


class ModelRow(Reference):
    """A model of GET /api/models."""

    id: str
    name: str
    type: str


class ModelRows(Reference):
    """GET /api/models: the one in the slot, or the configured one."""

    models: list[ModelRow]


class ReferenceModelFacts(ModelRow):
    """GET /api/models/{id}/info."""

    loaded: bool
    num_layers: int | None = Field(description="null where it is not loaded")
    hidden_size: int | None
    device: str | None
    dtype: str | None


class Said(Reference):
    """Something was done."""

    success: Literal[True] = True
    message: str


class ModelTest(Reference):
    """POST /api/models/test."""

    model_id: str
    prompt: Text


class ModelTestReply(Reference):
    """The answer of the model as it is."""

    success: Literal[True] = True
    model_id: str
    response: str
    generation_time: float = Field(description="seconds")


class PromptPair(Reference):
    """Two opposite instructions."""

    pos: str
    neg: str


class CustomTrait(Reference):
    """A trait whose instructions the workspace holds."""

    id: str
    name: str
    description: str
    prompt_pairs: list[PromptPair]
    evaluation_questions: list[str]
    eval_prompt: str
    created_at: str
    metadata: dict[str, str]


class CustomTraits(Reference):
    """GET /api/traits/custom."""

    success: Literal[True] = True
    traits: list[CustomTrait]
    count: int
    max_allowed: int


class NewCustomTrait(Reference):
    """POST /api/traits/generate-custom."""

    trait_name: str = Field(min_length=1, max_length=200)
    positive_trait: str
    negative_trait: str
    num_pairs: int = Field(default=PAIRS, ge=1, le=PAIRS)
    temperature: float = Field(default=0.7, description="only 0.7: the model writes at temperatures of its own")


class CustomTraitReply(Reference):
    """What the model wrote."""

    success: Literal[True] = True
    trait_id: str
    trait_name: str
    prompt_pairs: list[PromptPair]
    evaluation_questions: list[str]
    eval_prompt: str
    num_custom_traits: int


class VectorOrder(Reference):
    """POST /api/vectors/generate."""

    model_id: str
    trait_id: str


class VectorFacts(Reference):
    """What is known of a vector."""

    model_id: str
    trait_id: str
    generation_time: float | None = Field(description="seconds; null where nobody took them")
    effectiveness_scores: dict[str, float] = Field(
        description="layer_i -> the score measured with that layer steered alone; empty until a layers job measured it"
    )
    metadata: dict[str, JsonValue]


class VectorMade(VectorFacts):
    """The vector that was made."""

    success: Literal[True] = True
    num_layers: int


class VectorRow(VectorFacts):
    """A vector of GET /api/vectors."""

    generated_at: str
    num_layers: int


class VectorRows(Reference):
    """GET /api/vectors."""

    vectors: list[VectorRow]


class Answered(Reference):
    """Answers behind a vector; always empty: those that were kept are at /api/v1/traits/{name}/examples."""

    positive: list[str]
    negative: list[str]


class StoredTrait(VectorFacts):
    """GET /api/vectors/{model_id}/{trait_id}: the object that the earlier system kept on disk."""

    generated_at: str
    vectors: dict[str, list[float]] = Field(description="layer_i -> the direction at the output of block i")
    responses: Answered


class SteeringTest(Reference):
    """POST /api/steering/test."""

    model_id: str
    trait_id: Name
    coefficient: Strength = 1.0
    user_prompt: Text


class SteeringTestReply(Reference):
    """The same question without and with the trait, with the same seed."""

    success: Literal[True] = True
    model_id: str
    trait_id: str
    baseline_response: str
    steered_response: str
    coefficient: float
    layer: int | None = Field(description="the first layer that is steered; null: none is, at coefficient 0")
    layers: list[int]
    direction: Literal["positive", "negative", "none"]


class Health(Reference):
    """GET /api/health."""

    status: Literal["healthy"] = "healthy"
    service: Literal["persona-steering"] = "persona-steering"
    version: str
