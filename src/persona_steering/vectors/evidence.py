"""What was measured of a vector beyond its calibration: is it stable, does it tell, does it steer, and nothing else?

Every part may be None, which means "not measured"; `not_measured` then says why.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from persona_steering.vectors.values import Closed, Interval, Layer


class Stability(Closed):
    """How much of the direction is the sample of questions. Cosines are means over the layers."""

    split_half: float = Field(description="mean cosine between the vectors of two halves of the questions")
    reliability: float | None = Field(description="Spearman-Brown: of the whole; None for halves that disagree")
    splits: int
    bootstrap_mean: float = Field(description="mean cosine to the vectors of resampled questions")
    bootstrap_low: float = Field(description="their 5th percentile")
    resamples: int
    agreement: float = Field(description="mean cosine between every two questions' differences")
    questions: int


class Discrimination(Closed):
    """How well the projection tells answers with the trait from those without, on questions it was not made from."""

    auroc: Interval
    d_prime: Interval | None
    auroc_without_length: Interval = Field(description="after removing the length of the answers")
    positives: int
    negatives: int
    questions: int


class Steered(Closed):
    """What strength 1.0 does to the answers to questions that the dose was not chosen on."""

    score: Interval | None = Field(description="None: this model does not take the persona from a prompt")
    gain: Interval = Field(description="over the base model, nats per token")
    coherence: Interval
    anti_steered: float = Field(description="share of the questions whose answers moved the wrong way")
    questions: int


class Null(Closed):
    """The same value from things that should do nothing, and how far the vector's own lies from them."""

    count: int
    mean: float
    low: float = Field(description="the smallest")
    high: float = Field(description="the largest")
    value: float = Field(description="the vector's own")
    z: float | None = Field(description="None: fewer than two, or all equal")


class Lens(Closed):
    """The tokens that the final norm and the unembedding read out of each end of the direction."""

    layer: Layer
    positive: tuple[str, ...]
    negative: tuple[str, ...]


class Evidence(Closed):
    """All that a card measures."""

    schema_version: Literal[1] = 1
    digest: str = Field(description="of the directions that were measured")
    layers: tuple[Layer, ...]
    safe: bool = Field(description="whether steering was measured with the safety component removed, under the floor")
    stability: Stability | None = None
    discrimination: Discrimination | None = None
    steered: Steered | None = None
    random_directions: Null | None = Field(default=None, description="gain of random directions of equal norm")
    shuffled_labels: Null | None = Field(default=None, description="d' of vectors made from shuffled labels")
    selectivity: dict[str, Interval] | None = Field(default=None, description="gain of other personas and traits")
    lens: Lens | None = None
    not_measured: dict[str, str] = Field(default={}, description="part -> why")
    settings: dict[str, JsonValue] = Field(default={})
    created: str = ""
    package_version: str = ""
