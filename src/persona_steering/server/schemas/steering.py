"""What steers an answer, as requests say it and as answers echo it. Inside `steering` nothing unknown is accepted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag, model_validator

from persona_steering.calibration.caps import parse_percentile
from persona_steering.errors import RecipeError, UsageError
from persona_steering.interventions.recipe import MAX_STRENGTH
from persona_steering.server.limits import LIMITS
from persona_steering.server.schemas.bodies import ClosedBody
from persona_steering.vectors import check_name
from persona_steering.vectors.values import Layer


def _name(value: str) -> str:
    try:
        return check_name(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _percentile(value: str) -> str:
    try:
        parse_percentile(value)
    except RecipeError as error:
        raise ValueError(str(error)) from None
    return value


def _once(layers: list[int]) -> list[int]:
    if len(set(layers)) < len(layers):
        raise ValueError("a layer is named twice")
    return sorted(layers)


Name = Annotated[str, AfterValidator(_name)]
Strength = Annotated[float, Field(ge=-MAX_STRENGTH, le=MAX_STRENGTH, allow_inf_nan=False)]
Weights = Annotated[dict[Name, Strength], Field(max_length=LIMITS.vectors)]
LayerList = Annotated[list[Layer], Field(min_length=1, max_length=512), AfterValidator(_once)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
PERCENTILE, NUMBER = "percentile", "number"  # as they stand in the place of a validation error
Threshold = Annotated[
    Annotated[str, Field(max_length=16), AfterValidator(_percentile), Tag(PERCENTILE)] | Annotated[Number, Tag(NUMBER)],
    Discriminator(lambda value: PERCENTILE if isinstance(value, str) else NUMBER),
]


class SteeredVector(BaseModel):
    """One persona or trait."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    coefficient: Strength = Field(description="1.0 is the strongest dose measured to stay coherent")
    layers: LayerList | None = Field(default=None, description="0-based; null: those it was calibrated at")


class CapRequest(BaseModel):
    """A bound on the projection along an axis: a floor or a ceiling."""

    model_config = ConfigDict(extra="forbid")

    axis: Name = Field(description='"assistant", "safety", or any persona or trait')
    floor: Threshold | None = Field(
        default=None, description='a projection on the unit axis, or a percentile of its reference answers: "p25"'
    )
    ceiling: Threshold | None = Field(default=None, description="in place of a floor, written alike")
    layers: LayerList | None = Field(default=None, description="0-based; null: those configured for capping")

    @model_validator(mode="after")
    def _bounds_one_side(self) -> CapRequest:
        if (self.floor is None) == (self.ceiling is None):
            raise ValueError("give either a floor or a ceiling")
        return self


class TraceRequest(BaseModel):
    """Which projections are told of every token."""

    model_config = ConfigDict(extra="forbid")

    axes: list[Name] = Field(min_length=1, max_length=LIMITS.trace_axes, description="axes, personas or traits")

    @model_validator(mode="after")
    def _names_each_once(self) -> TraceRequest:
        if len(set(self.axes)) < len(self.axes):
            raise ValueError("an axis is named twice")
        return self


class SteeringRequest(BaseModel):
    """What steers an answer. Each name once, in whichever of the three places."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"personas": {"sage": 0.6}, "traits": {"formal": -0.3}},
                {"preset": "warm", "scale": 0.8, "caps": [{"axis": "assistant", "floor": "p25"}]},
            ]
        },
    )

    preset: Name | None = Field(default=None, description="what it says holds, but for the names that follow")
    personas: Weights = {}
    traits: Weights = {}
    vectors: list[SteeredVector] = Field(default=[], max_length=LIMITS.vectors)
    scale: Strength = Field(default=1.0, description="multiplies all strengths, those of the preset too")
    safety: bool | None = Field(default=None, description="null: as the preset says, or the server is configured")
    caps: list[CapRequest] = Field(default=[], max_length=LIMITS.caps, description="beside the floor of safety")
    trace: TraceRequest | None = None


TEXT, OBJECT = "short form", "object form"  # as they stand in the place of a validation error
SteeringField = Annotated[
    Annotated[str, Field(max_length=1000), Tag(TEXT)] | Annotated[SteeringRequest, Tag(OBJECT)],
    Discriminator(lambda value: TEXT if isinstance(value, str) else OBJECT),
]
"""An object, or the short form "sage:0.6,formal:-0.3"."""


class AppliedVector(BaseModel):
    """What one vector does to the answer."""

    name: str
    kind: Literal["persona", "trait"]
    coefficient: float
    layers: list[int]
    relative_dose: float | None = Field(description="sum over layers of ||c v|| / ||h||; null: not known")


class AppliedCap(BaseModel):
    """A bound on a projection."""

    axis: str
    op: Literal["floor", "ceiling"]
    layers: list[int]
    thresholds: dict[str, float] = Field(description="layer -> projection on the unit axis")


class TracedAxis(BaseModel):
    """Where the projections on an axis are read."""

    axis: str
    layer: int


class AppliedSteering(BaseModel):
    """What was done to the model. In a stream the first chunk has it, and the last chunk the caps engaged."""

    hash: str
    short: str = Field(description='names and strengths: "sage:0.6,formal:-0.3"')
    preset: str | None = Field(default=None, description="the preset that was asked for")
    applied: list[AppliedVector]
    caps: list[AppliedCap]
    safety: bool
    recipe: list[JsonValue] = Field(description="the canonical form, of which `hash` is the hash")
    warnings: list[str]
    caps_engaged: int | None = Field(default=None, description="(layer, token) pairs at which a bound acted")


class ValidateRequest(ClosedBody):
    """Steering to be looked at."""

    steering: SteeringField


class Overlap(BaseModel):
    """How alike two vectors are: their strengths add up as far as they point the same way."""

    a: str
    b: str
    cosine: float = Field(description="mean over the layers that both steer; of all that both cover, if there are none")


class StrengthRange(BaseModel):
    """Which strengths of a vector were measured to stay coherent."""

    name: str
    range: tuple[float, float] | None = Field(description="weakest and strongest; null: not measured")
    measured: bool


class ValidatedSteering(BaseModel):
    """What the steering would do, without an answer."""

    steering: AppliedSteering | None = Field(description="null: it does nothing")
    short: str = Field(description='names and strengths: "sage:0.6"; empty: the base model')
    warnings: list[str]
    traces: list[TracedAxis] = Field(description="what would be read of every token, and at which layer")
    overlaps: list[Overlap]
    strengths: list[StrengthRange]
