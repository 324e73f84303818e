"""The axes of a model: its assistant baseline, the assistant axis and the safety axis.

    assistant baseline   mean response activation without a system prompt
    assistant axis       baseline - mean of the persona means; points toward the default Assistant
    safety axis          mean(answers to safe prompts) - mean(answers to unsafe prompts); positive is safe

An axis carries, per layer, percentiles of the projections of reference answers on its unit direction: the
thresholds that a floor is set to. For the safety axis these are the answers to safe prompts, for the assistant
axis the model's own answers. Source: "The Assistant Axis" (arXiv 2601.10387).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from persona_steering.backends.base import Backend, ProgressCallback, no_progress
from persona_steering.errors import UsageError
from persona_steering.extraction.contrast import (
    ExtractionSettings,
    Group,
    Prompted,
    answer,
    data_hash,
)
from persona_steering.extraction.run import Run
from persona_steering.vectors import ModelIdentity, SteeringVector, VectorMetadata, compute_safe_floor
from persona_steering.vectors.metadata import ASSISTANT_AXIS, ASSISTANT_BASELINE, SAFETY_AXIS, package_version

PERCENTILES = (1, 5, 10, 25, 50, 75)
MIN_PERSONAS = 2


def baseline_vector(group: Group, settings: ExtractionSettings, model: ModelIdentity) -> SteeringVector:
    """The assistant baseline as a vector: a mean, not a difference."""
    mean, norms = group.moments().mean.astype(np.float32), group.median_norms()
    return SteeringVector(
        {layer: mean[k] for k, layer in enumerate(settings.layers)},
        VectorMetadata(
            name=ASSISTANT_BASELINE,
            kind="baseline",
            description="Mean response activation without a system prompt.",
            model=model,
            sign="a mean activation, not a direction",
            source="assistant baseline",
            counts={"kept": len(group.answers), "dropped": group.dropped},
            seed=settings.seed,
            data_hashes={"questions": data_hash(settings.questions)},
            reference_norms={layer: float(norms[k]) for k, layer in enumerate(settings.layers)},
            created=_now(),
            package_version=package_version(),
        ),
    )


def assistant_axis(personas: Sequence[SteeringVector], baseline: Group, layers: Sequence[int]) -> SteeringVector:
    """baseline - mean(persona means), which is minus the mean of the raw persona vectors.

    Raises UsageError with fewer than two personas.
    """
    if len(personas) < MIN_PERSONAS:
        raise UsageError(
            f"the assistant axis needs {MIN_PERSONAS} personas, and there are {len(personas)}.",
            hint="Create more personas first.",
        )
    stacked = {k: np.stack([vector.directions[k] for vector in personas]).astype(np.float64) for k in layers}
    axis = SteeringVector(
        {layer: (-rows.mean(0)).astype(np.float32) for layer, rows in stacked.items()},
        VectorMetadata(
            name=ASSISTANT_AXIS,
            kind="axis",
            description="Points toward the default Assistant.",
            model=personas[0].metadata.model,
            sign="+ is more Assistant",
            source="baseline - mean of persona means",
            counts={"personas": len(personas), "baseline": len(baseline.answers)},
            data_hashes={vector.name: vector.digest for vector in personas},
            reference_norms=dict(personas[0].metadata.reference_norms),
            created=_now(),
            package_version=package_version(),
        ),
    )
    return with_thresholds(axis, baseline, layers)


def safety_axis(
    backend: Backend,
    safe: Sequence[str],
    unsafe: Sequence[str],
    settings: ExtractionSettings,
    *,
    run: Run,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> SteeringVector:
    """The safety axis from the model's own answers to safe and unsafe prompts, with floors from the safe ones."""
    groups = [
        answer(
            backend,
            [Prompted(prompt, None) for prompt in prompts],
            settings,
            run=run,
            phase=phase,
            progress=progress,
            cancelled=cancelled,
        )
        for phase, prompts in (("safe", safe), ("unsafe", unsafe))
    ]
    means = [group.moments().mean for group in groups]
    norms = groups[0].median_norms()
    axis = SteeringVector(
        {layer: (means[0][k] - means[1][k]).astype(np.float32) for k, layer in enumerate(settings.layers)},
        VectorMetadata(
            name=SAFETY_AXIS,
            kind="axis",
            description="From answers to unsafe prompts toward answers to safe prompts.",
            model=backend.identity,
            sign="+ is safe",
            source="safe and unsafe prompts",
            counts={"safe": len(groups[0].answers), "unsafe": len(groups[1].answers)},
            seed=settings.seed,
            data_hashes={"safe": data_hash(safe), "unsafe": data_hash(unsafe)},
            reference_norms={layer: float(norms[k]) for k, layer in enumerate(settings.layers)},
            created=_now(),
            package_version=package_version(),
        ),
    )
    return with_thresholds(axis, groups[0], settings.layers)


def projections(axis: SteeringVector, group: Group, layers: Sequence[int]) -> np.ndarray:
    """Projections on the unit axis of every answer's mean activation, float64 `[answers, layers]`."""
    means = np.stack([one.mean for one in group.answers if one.mean is not None]).astype(np.float64)
    units = np.stack([axis.unit(layer) for layer in layers]).astype(np.float64)
    return np.asarray(np.einsum("alh,lh->al", means, units))


def with_thresholds(axis: SteeringVector, reference: Group, layers: Sequence[int]) -> SteeringVector:
    """The axis with percentiles of the reference answers' projections as thresholds."""
    projected = projections(axis, reference, layers)
    thresholds = {
        str(percent): dict(zip(layers, map(float, np.atleast_1d(compute_safe_floor(projected, percent))), strict=True))
        for percent in PERCENTILES
    }
    return SteeringVector(axis.directions, axis.metadata.model_copy(update={"thresholds": thresholds}))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
