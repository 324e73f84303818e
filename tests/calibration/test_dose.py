"""The search for a dose: its arithmetic by hand, and the whole calibration on a real model."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_steering.calibration.dose import (
    Cell,
    best_band,
    descending_doses,
    non_increasing,
    random_like,
)
from persona_steering.calibration.layers import (
    addition,
    candidate_bands,
    coefficients_for_dose,
    relative_dose,
)
from persona_steering.errors import RecipeError
from persona_steering.vectors import ModelIdentity, SteeringVector, VectorMetadata

MODEL = ModelIdentity(id="tiny", fingerprint="f" * 16, num_layers=10, hidden_size=4)


def vector(norms: dict[int, float] | None = None) -> SteeringVector:
    rng = np.random.default_rng(0)
    return SteeringVector(
        {layer: rng.normal(size=4).astype(np.float32) for layer in range(10)},
        VectorMetadata(
            name="v",
            kind="persona",
            model=MODEL,
            sign="+",
            source="test",
            reference_norms={layer: 10.0 + layer for layer in range(10)} if norms is None else norms,
        ),
    )


def test_a_dose_is_shared_equally_and_means_the_same_for_one_layer_or_eight() -> None:
    found = vector()
    for layers in ((4,), (1, 2, 3, 4, 5, 6, 7, 8)):
        coefficients = coefficients_for_dose(found, layers, 0.3)
        shares = [coefficients[k] * np.linalg.norm(found.directions[k]) / (10 + k) for k in layers]
        assert shares == pytest.approx([0.3 / len(layers)] * len(layers))
        assert relative_dose(found, coefficients) == pytest.approx(0.3)


def test_a_negative_dose_steers_away() -> None:
    add = addition(vector(), (2, 3), -0.2)
    assert all(value < 0 for value in add.values.values())


def test_a_vector_without_reference_norms_has_no_dose() -> None:
    with pytest.raises(RecipeError, match="no reference norms"):
        coefficients_for_dose(vector({}), (1,), 0.1)


def test_bands_lie_inside_the_model_and_have_one_width() -> None:
    bands = candidate_bands(range(30), 30)
    assert [len(band) for band in bands] == [8, 8, 8]
    assert bands[0][0] < bands[1][0] < bands[2][0]
    assert all(0 <= layer < 30 for band in bands for layer in band)
    assert candidate_bands([3], 4)  # a small model, or a vector of one layer, still has a band


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_smoothing_never_rises_keeps_the_mean_and_leaves_falling_values(values: list[float]) -> None:
    smooth = non_increasing(values)
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(smooth))
    assert np.mean(smooth) == pytest.approx(np.mean(values))
    falling = sorted(values, reverse=True)
    assert non_increasing(falling) == falling


def test_smoothing_pools_a_violation_into_its_mean() -> None:
    assert non_increasing([90, 50, 70, 40]) == [90, 60, 60, 40]


def test_the_band_that_gains_most_at_its_coherent_limit_is_chosen() -> None:
    low, high = (1, 2), (5, 6)
    cells = [
        Cell(low, 0.1, 0.2, 100),
        Cell(low, 0.3, 0.9, 50),
        Cell(high, 0.1, 0.4, 100),
        Cell(high, 0.3, 0.5, 50),
    ]
    band, limit = best_band(cells, 75)
    # half way between the doses: low gains 0.55 there, high 0.45
    assert band == low
    assert limit == pytest.approx(0.2)


def test_the_coherent_limit_is_tried_first_and_then_the_measured_doses_below_it() -> None:
    cells = [Cell((1,), dose, dose, coherence) for dose, coherence in ((0.3, 40), (0.1, 95), (0.2, 80))]
    # a quarter of the way from 80 to 40 lies 70
    assert descending_doses(cells, 70) == [0.225, 0.2, 0.1]
    assert descending_doses(cells, 80) == [0.2, 0.1]
    assert descending_doses(cells, 10) == [0.3, 0.2, 0.1], "never beyond what was measured"
    assert descending_doses(cells, 99) == [0.1]


def test_controls_are_random_directions_of_equal_norm() -> None:
    found = vector()
    first, second = random_like(found, seed=0), random_like(found, seed=1)
    for layer in found.layers:
        assert first.norms[layer] == pytest.approx(found.norms[layer], rel=1e-5)
    assert not np.allclose(first.directions[3], second.directions[3])
    assert np.array_equal(first.directions[3], random_like(found, seed=0).directions[3])
