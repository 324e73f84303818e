"""Vectors as clients see them: what they are of, whether they can be used, and what was measured on them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from persona_steering.scoring.examples import Example
from persona_steering.server.jobs.params import MAX_DESCRIPTION, MAX_WRITTEN, Count, InstructionPair
from persona_steering.server.paging import PageQuery
from persona_steering.server.schemas.steering import Name
from persona_steering.vectors.evidence import Evidence
from persona_steering.vectors.metadata import MAX_TAGS, Tag, VectorKind
from persona_steering.vectors.values import Closed, Interval, Layer

Status = Literal["ready", "weak", "stale", "uncalibrated", "other_model", "broken"]
ExportFormat = Literal[
    "safetensors",
    "zip",
    "gguf",
    "persona_vectors",
    "assistant-axis",
    "assistant-axis-capping",
    "legacy-pt",
    "legacy-json",
]


class VectorQuery(PageQuery):
    """Which vectors."""

    order: Literal["asc", "desc"] = Field(default="asc", description="by id")
    all_models: bool = Field(default=False, description="also those of other models")


class VectorModel(Closed):
    """The model that a vector was made for."""

    id: str
    fingerprint: str = Field(description="equal ones mean the same weights, whatever the ids say")


class Measured(Closed):
    """What strength 1.0 does, on questions that the dose was not chosen on."""

    layers: list[Layer] = Field(description="where it steers, 0-based")
    relative_dose: float = Field(description="sum over layers of ||c v|| / median ||h||")
    weak: bool = Field(description="whether it failed its gate")
    weak_reason: str
    persona_score: Interval | None = Field(
        description="0: the base model, 1: as its system prompt makes it; null: the model does not take the prompt"
    )
    gain: Interval | None = Field(description="over the base model, nats per token")
    control_score: Interval | None = Field(description="the score of random directions of the same norm")
    coherence: Interval | None = Field(description="0-100; 100 is the model's own level")
    num_questions: int


class VectorCalibration(Measured):
    """What was measured on the raw vector, and on its safe form."""

    safe: Measured | None = Field(description="without its component along the safety axis, under the floor")


class VectorCard(Closed):
    """A vector in short."""

    id: str = Field(description="its name; of another model's vector NAME@MODEL. It stands in paths")
    object: Literal["vector"] = "vector"
    kind: VectorKind
    name: str
    description: str
    status: Status = Field(
        description="ready; weak: it steers this model little; stale: made with something that has changed since; "
        "uncalibrated: its strength was not measured; other_model; broken: its file cannot be read"
    )
    status_reason: str = Field(description="why it is not ready; empty when it is")
    model: VectorModel | None = Field(description="null: the file cannot be read")
    layers: list[Layer]
    calibration: VectorCalibration | None = Field(description="null: not measured")
    max_strength: float | None = Field(
        description="the strongest that was measured to stay coherent; null: not measured"
    )
    default_strength: float = Field(description="that of MODEL:NAME without a number")
    tags: list[str]
    source: str = Field(description='such as "archetype:pirate", "prompts:FILE" or "import:persona_vectors"')
    created: str | None = Field(description="when it was made, ISO 8601; null: its file does not say")
    size_bytes: int
    loaded: bool = Field(description="whether it is in memory")
    version: int = Field(description="changes with its content; the ETag")


class VectorDetail(VectorCard):
    """A vector with what it was made from, and its evidence."""

    system_prompts: list[str] = Field(description="that evoke it; of a trait those of its positive side")
    opposite: str = Field(description="of a trait; empty: its absence")
    sign: str = Field(description="what the positive direction means")
    kept: int | None = Field(description="answers that the direction was made from; null: not known")
    dropped: int | None = Field(description="answers that were left out of it; null: not known")
    forked_from: str | None
    evidence: Evidence | None = Field(description="what a card has measured; null: none was, or on other directions")


class VectorChanges(Closed):
    """What is to be changed; what is left out stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"description": "Speaks in parables.", "tags": ["calm"]}]}
    )

    description: str | None = Field(default=None, max_length=MAX_DESCRIPTION)
    tags: list[Tag] | None = Field(default=None, max_length=MAX_TAGS)


class Fork(Closed):
    """A copy's name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "my-sage"}]})

    name: Name


class LayerData(Closed):
    """A direction at one layer."""

    layer: Layer
    norm: float = Field(description="||v||")
    reference_norm: float | None = Field(description="median ||h|| of the model's own answers; null: not measured")
    direction: list[float] | None = Field(description="null: not asked for")


class VectorData(Closed):
    """The directions of a vector."""

    name: str
    kind: VectorKind
    digest: str = Field(description="sha256 of the values")
    hidden_size: int
    layers: list[LayerData]


class VectorExamples(Closed):
    """The same questions answered plainly and steered."""

    source: Literal["creation", "sweep"] | None = Field(description="what they were measured in; null: there are none")
    strength: float | None
    safe: bool | None = Field(description="whether the safe form steered, under the floor; null: not recorded")
    data: list[Example]


class Archetype(Closed):
    """A persona that ships with the package."""

    name: str
    description: str
    num_prompts: int
    made: bool = Field(description="whether a vector of the loaded model was made from it")


class ArchetypeDetail(Archetype):
    """With its prompts."""

    system_prompts: list[str]


class BuiltinTrait(Closed):
    """A trait that ships with the package."""

    name: str
    opposite: str
    description: str
    made: bool = Field(description="whether a vector of the loaded model was made from it")


class PersonaPreviewRequest(Closed):
    """Who it is; a model then writes its system prompts."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "wizard", "description": "a grumpy old wizard who speaks in riddles"}]}
    )

    name: Name
    description: Annotated[str, Field(min_length=1, max_length=MAX_DESCRIPTION)]
    prompts: int = Field(default=5, ge=1, le=MAX_WRITTEN, description="how many are written")
    questions: Count | None = Field(default=None, description="how many are shown; null: as many as are configured")
    seed: int = Field(default=0, ge=0, lt=2**31, description="another one gives other texts")


class PersonaPreview(Closed):
    """What the persona would be made from. Edited, it goes into the request that makes it."""

    name: str
    description: str
    system_prompts: list[str]
    questions: list[str]


class TraitPreviewRequest(Closed):
    """An adjective, and its opposite where there is a good word for it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"word": "confident", "opposite": "insecure"}]})

    word: Annotated[str, Field(max_length=64)]
    opposite: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="null: that of the library's trait of this name, else its absence"
    )
    write: bool = Field(default=False, description="has a model write pairs and questions, which may take minutes")
    questions: Count | None = Field(default=None, description="how many are shown; null: as many as are configured")
    seed: int = Field(default=0, ge=0, lt=2**31, description="another one gives other texts")


class TraitPreview(Closed):
    """What the trait would be made from. Edited, it goes into the request that makes it."""

    name: str
    opposite: str
    description: str
    pairs: list[InstructionPair]
    questions: list[str]
    source: Literal["library", "template", "written"]


class ImportedVector(Closed):
    """A vector that came from a file."""

    vector: VectorDetail
    axes: list[str] = Field(description="the model's axes that came with it, where it had none")
    has_prompts: bool = Field(description="whether its system prompts came with it into the workspace")
    warnings: list[str]
