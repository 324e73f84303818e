"""Which strengths of a vector were measured to stay coherent, used just as it is to be used now."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from persona_steering.evaluation.sweep import Sweep
from persona_steering.vectors import Calibration

Range = tuple[float, float]


def swept_range(recipe: str, runs: Path) -> Range | None:
    """Of the newest sweep whose strength 1.0 is the recipe with this hash; None where there is none, or none held."""
    for file in sorted(runs.glob("sweep-*/sweep.json"), key=_modified, reverse=True):
        try:
            if json.loads((file.parent / "plan.json").read_bytes()).get("recipe") == recipe:
                return Sweep.model_validate_json(file.read_bytes()).coherent
        except (OSError, ValueError, AttributeError, ValidationError):
            continue  # the result of something else
    return None


def calibrated_range(calibration: Calibration | None, scale: float) -> Range | None:
    """From nothing to the dose of strength 1.0, whose coherence was measured. `scale` multiplies every strength."""
    if calibration is None or calibration.coherence is None:
        return None
    return 0.0, 1.0 / scale


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
