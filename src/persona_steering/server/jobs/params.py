"""The parameters of the jobs, as requests carry them and as they are kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from persona_steering.authoring.characters import describe
from persona_steering.engine.create import EFFORTS, Effort
from persona_steering.engine.measuring import Scale, Unit
from persona_steering.evaluation.sweep import MAX_POINTS
from persona_steering.interventions.recipe import MAX_STRENGTH
from persona_steering.vectors import check_name
from persona_steering.vectors.values import Closed, Layer

Name = Annotated[str, AfterValidator(check_name)]
Strength = Annotated[float, Field(ge=-MAX_STRENGTH, le=MAX_STRENGTH)]
MAX_WRITTEN = 20  # system prompts of one persona, or pairs of one trait
MAX_DESCRIPTION = 2000  # characters
Count = Annotated[int, Field(ge=1, le=10_000)]
Prompt = Annotated[str, Field(max_length=2000)]
Questions = Annotated[tuple[Annotated[str, Field(max_length=4000)], ...], Field(min_length=4, max_length=200)]


class EffortParams(Closed):
    """How much is measured."""

    effort: Literal["quick", "standard", "thorough"] = "standard"

    @property
    def num_questions(self) -> int | None:
        """How many questions are asked; None: as many as the effort says."""
        return None

    def to_effort(self) -> Effort:
        """The engine's own."""
        chosen, count = EFFORTS[self.effort], self.num_questions
        return chosen if count is None else chosen.model_copy(update={"questions": count})


class CreationParams(EffortParams):
    """What goes for every vector that is made."""

    questions: Count | Questions | None = Field(
        default=None, description="how many are asked, or the questions themselves; null: as many as the effort says"
    )

    @property
    def num_questions(self) -> int | None:
        return self.questions if isinstance(self.questions, int) else None

    @property
    def own_questions(self) -> tuple[str, ...]:
        """The questions themselves, where they were given."""
        return self.questions if isinstance(self.questions, tuple) else ()


class PersonaParams(CreationParams):
    """A persona: one of an archetype, its system prompts, or a description from which a model writes them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "pirate", "archetype": "pirate", "effort": "quick"},
                {"name": "wizard", "description": "a grumpy old wizard who speaks in riddles"},
            ]
        }
    )

    name: Name
    archetype: str | None = Field(default=None, max_length=64)
    system_prompts: tuple[Prompt, ...] | None = Field(default=None, min_length=1, max_length=MAX_WRITTEN)
    description: str | None = Field(default=None, max_length=MAX_DESCRIPTION)
    prompts: int = Field(default=5, ge=1, le=MAX_WRITTEN, description="how many are written for a description")

    @model_validator(mode="after")
    def _one_source(self) -> PersonaParams:
        sources = {"archetype": self.archetype, "system_prompts": self.system_prompts}
        given = [key for key, value in sources.items() if value is not None]
        if len(given) > 1 or not (given or self.description is not None):
            raise ValueError("one of archetype, system_prompts and description is needed")
        if self.description is not None and not given:
            describe(self.description)
        return self


class InstructionPair(Closed):
    """Two system prompts that differ in a trait only."""

    positive: Prompt = Field(description="shows the trait")
    negative: Prompt = Field(description="shows its opposite")


class TraitParams(CreationParams):
    """A trait: an adjective, and its opposite where there is a good word for it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"word": "confident", "opposite": "insecure", "effort": "quick"}]}
    )

    word: str = Field(max_length=64)
    opposite: str | None = Field(
        default=None, max_length=64, description="null: that of the library's trait of this name, else its absence"
    )
    name: Name | None = Field(default=None, description="null: the word itself")
    pairs: tuple[InstructionPair, ...] | None = Field(
        default=None, min_length=1, max_length=MAX_WRITTEN, description="null: the library's, else made of the words"
    )


class AxesParams(EffortParams):
    """The directions of the model itself."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"which": "safety", "effort": "quick"}]})

    which: Literal["both", "assistant", "safety"] = "both"
    questions: Count | None = Field(default=None, description="null: as many as the effort says")

    @property
    def num_questions(self) -> int | None:
        return self.questions


class MeasureParams(Closed):
    """A stored vector, and how much is asked."""

    name: Name
    questions: int = Field(default=20, ge=2, description="that it was not calibrated on")
    max_new_tokens: int = Field(default=32, ge=4, le=1024, description="of an answer")
    seed: int = Field(default=0, ge=0, lt=2**63)

    def scale(self) -> Scale:
        """The engine's own."""
        return Scale(self.questions, self.max_new_tokens, self.seed)


class UnitParams(MeasureParams):
    """What strength 1.0 is; the calibration's dose unless this says otherwise."""

    layers: tuple[Layer, ...] | None = Field(default=None, min_length=1, description="null: the calibrated ones")
    dose: float | None = Field(default=None, description="relative, shared over `layers`; null: the calibrated one")
    coefficient: float | None = Field(default=None, description="of the raw direction at each layer, in its place")
    safe: bool | None = Field(default=None, description="with the safe vector and the floor; null: as configured")

    def unit(self) -> Unit:
        """The engine's own. Raises UsageError for what does not go together."""
        return Unit(self.layers, self.dose, self.coefficient, self.safe)


class SweepParams(UnitParams):
    """Strengths, ascending."""

    strengths: tuple[Strength, ...] = Field(
        default=(-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5), min_length=2, max_length=MAX_POINTS
    )
    controls: int = Field(default=2, ge=1, le=100, description="random directions of the same norm")

    @model_validator(mode="after")
    def _ascending(self) -> SweepParams:
        if list(self.strengths) != sorted(set(self.strengths)):
            raise ValueError("the strengths do not ascend")
        return self


class LayersParams(MeasureParams):
    """Layers, each steered alone."""

    questions: int = Field(default=8, ge=2)
    layers: tuple[Layer, ...] | None = Field(default=None, min_length=1, description="null: all of them")
    dose: float | None = Field(default=None, gt=0, description="null: the calibrated one")
    held_out: int = Field(default=20, ge=2, description="questions that the vector was not made from")


class CardParams(UnitParams):
    """All evidence of a vector."""

    held_out: int = Field(default=20, ge=2, description="questions that the vector was not made from")
    controls: int = Field(default=20, ge=2, le=200, description="random directions of the same norm")
    shuffles: int = Field(default=20, ge=2, le=1000, description="vectors from shuffled labels")


class SimilarityParams(Closed):
    """Stored vectors to compare; without names, all of the model's."""

    names: tuple[Name, ...] = ()
    layers: tuple[Layer, ...] | None = Field(default=None, min_length=1)
