"""Answers with a trait and without it to questions that the vector was not made from, and how it reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from persona_steering.backends.base import Backend, ProgressCallback, no_progress
from persona_steering.extraction.contrast import ExtractionSettings, Group, answer, pair_up
from persona_steering.extraction.run import Run
from persona_steering.personas import Persona, Trait
from persona_steering.vectors import SteeringVector

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sides:
    """Captured answers under the persona's prompts, and under none (a trait: under the opposite instructions).

    `layers` are those that were captured.
    """

    positive: Group
    negative: Group
    layers: tuple[int, ...]

    @property
    def questions(self) -> tuple[list[str], list[str]]:
        """Which question each answer answers, by side."""
        positive, negative = ([one.question for one in group.asked] for group in (self.positive, self.negative))
        return positive, negative

    @property
    def lengths(self) -> tuple[Array, Array]:
        """Tokens of each answer, by side."""
        positive, negative = (
            np.array([one.tokens for one in group.answers], np.float64) for group in (self.positive, self.negative)
        )
        return positive, negative

    def means(self, layer: int) -> tuple[Array, Array]:
        """Mean activations `[answers, hidden]` at a layer, by side."""
        place = self.layers.index(layer)
        positive, negative = (
            np.stack([one.mean[place] for one in group.answers if one.mean is not None]).astype(np.float64)
            for group in (self.positive, self.negative)
        )
        return positive, negative


def ask_held_out(
    backend: Backend,
    subject: Persona | Trait,
    settings: ExtractionSettings,
    *,
    run: Run,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Sides:
    """Asks and captures both sides. Nothing is filtered: an answer out of character counts as it was asked for.

    Raises QualityError when all answers of a side are empty, and what the backend raises.
    """
    sides: dict[str, tuple[Sequence[str | None], Sequence[str | None]]]
    if isinstance(subject, Persona):
        none = [None] * min(settings.prompts_per_question, len(subject.system_prompts))
        sides = {"persona": (subject.system_prompts, ()), "baseline": (none, ())}
    else:
        pos, neg = [pair.pos for pair in subject.pairs], [pair.neg for pair in subject.pairs]
        sides = {"positive": (pos, neg), "negative": (neg, pos)}
    positive, negative = (
        answer(
            backend,
            pair_up(settings, own, other),
            settings,
            run=run,
            phase=phase,
            progress=progress,
            cancelled=cancelled,
        )
        for phase, (own, other) in sides.items()
    )
    return Sides(positive, negative, settings.layers)


def projections(vector: SteeringVector, sides: Sides, layer: int) -> tuple[Array, Array]:
    """Projections of the answers' mean activations on the unit direction, by side."""
    unit = vector.unit(layer).astype(np.float64)
    positive, negative = (means @ unit for means in sides.means(layer))
    return positive, negative


def band_projections(vector: SteeringVector, sides: Sides, layers: Sequence[int]) -> tuple[Array, Array]:
    """The mean over `layers` of the projections, each in units of the layer's median ||h|| where it is known."""
    scale = {layer: vector.metadata.reference_norms.get(layer, 1.0) for layer in layers}
    per_layer = [projections(vector, sides, layer) for layer in layers]
    positive, negative = (
        np.mean([rows[side] / scale[layer] for layer, rows in zip(layers, per_layer, strict=True)], axis=0)
        for side in (0, 1)
    )
    return positive, negative
