"""Thresholds for a floor: measured percentiles, and what lies between them."""

from __future__ import annotations

import numpy as np
import pytest

from persona_steering.calibration.caps import capping_band, floor_at_percentile
from persona_steering.errors import RecipeError
from persona_steering.vectors import ModelIdentity, SteeringVector, VectorMetadata

MODEL = ModelIdentity(id="tiny", fingerprint="f" * 16, num_layers=30, hidden_size=2)


def axis(thresholds: dict[str, dict[int, float]]) -> SteeringVector:
    metadata = VectorMetadata(
        name="safety", kind="axis", model=MODEL, sign="+ is safe", source="test", thresholds=thresholds
    )
    return SteeringVector({layer: np.array([3.0, 4.0], np.float32) for layer in range(30)}, metadata)


MEASURED = {"1": dict.fromkeys(range(30), -2.0), "5": dict.fromkeys(range(30), 0.0)}


def test_a_measured_percentile_is_taken_as_it_is() -> None:
    assert floor_at_percentile(axis(MEASURED), 5, [22]).values == {22: 0.0}


def test_percentiles_between_are_interpolated_and_beyond_are_the_outermost() -> None:
    assert floor_at_percentile(axis(MEASURED), 3, [22]).values == pytest.approx({22: -1.0})
    assert floor_at_percentile(axis(MEASURED), 0, [22]).values == {22: -2.0}
    assert floor_at_percentile(axis(MEASURED), 60, [22]).values == {22: 0.0}


def test_an_axis_without_thresholds_is_refused_with_what_to_do() -> None:
    with pytest.raises(RecipeError, match="extract-axes"):
        floor_at_percentile(axis({}), 1, [22])


def test_the_default_band_lies_at_72_to_84_percent_of_the_depth() -> None:
    assert capping_band(axis(MEASURED), 30) == (22, 23, 24)
    assert capping_band(axis(MEASURED).restrict([3, 4]), 30) == (4,)
