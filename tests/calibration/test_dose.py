"""The search for a dose: its arithmetic by hand, and the whole calibration on a real model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_steering.calibration.dose import (
    CalibrationSettings,
    Cell,
    DoseSearch,
    coherent_tops,
    descending_doses,
    non_increasing,
    random_like,
    ranked_bands,
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


def test_bands_are_ranked_by_what_they_gain_at_their_coherent_limit() -> None:
    low, high = (1, 2), (5, 6)
    cells = [
        Cell(low, 0.1, 0.2, 100),
        Cell(low, 0.3, 0.9, 50),
        Cell(high, 0.1, 0.4, 100),
        Cell(high, 0.3, 0.5, 50),
    ]
    ranked = ranked_bands(cells, 75)
    # half way between the doses: low gains 0.55 there, high 0.45
    assert [band for band, _ in ranked] == [low, high]
    assert [limit for _, limit in ranked] == pytest.approx([0.2, 0.2])


def test_a_band_goes_on_upwards_while_its_highest_dose_is_coherent() -> None:
    low, high = (1, 2), (5, 6)
    cells = [
        Cell(low, 0.3, 0.9, 80),
        Cell(low, 0.1, 0.2, 70),
        Cell(high, 0.1, 0.4, 100),
        Cell(high, 0.3, 0.5, 50),
    ]
    assert coherent_tops(cells, 75) == [(low, 0.3)], "70 and 80 are smoothed to 75"
    assert coherent_tops(cells, 76) == []


class Known(DoseSearch):
    """A search whose measurements are a straight line: coherence falls by 100 from no dose to `collapse`."""

    def __init__(self, settings: CalibrationSettings, collapse: dict[tuple[int, ...], float]) -> None:
        self._settings, self._collapse, self.phases = settings, collapse, list[str]()
        self._searching = []

    def _cells(
        self, vector: SteeringVector, grid: Sequence[tuple[tuple[int, ...], float]], probes: object, phase: str
    ) -> list[Cell]:
        self.phases.append(phase)
        return [Cell(band, dose, dose, max(0.0, 100 - 100 * dose / self._collapse[band])) for band, dose in grid]


def test_the_search_goes_as_high_as_the_vector_stays_coherent() -> None:
    weak, strong = (1, 2), (5, 6)
    settings = CalibrationSettings(
        questions=("a", "b", "c", "d"), bands=(weak, strong), search_coherence=72, coarse_doses=(0.1, 0.2)
    )
    # coherent up to 0.28 of it: 0.084 and 0.42
    search = Known(settings, {weak: 0.3, strong: 1.5})
    coarse, fine = search.search(vector())
    assert search.phases == ["bands", "doses", "higher doses", "higher doses"]
    assert max(cell.dose for cell in coarse) == 0.2
    assert {cell.layers for cell in fine} == {weak, strong}
    assert max(cell.dose for cell in fine if cell.layers == weak) == pytest.approx(0.084 * 1.44, abs=1e-3)
    assert ranked_bands(fine, 72) == [(strong, pytest.approx(0.42, abs=1e-3)), (weak, pytest.approx(0.084, abs=1e-3))]
    bounded = Known(settings.model_copy(update={"higher_rounds": 0}), {weak: 0.3, strong: 1.5})
    _, fine = bounded.search(vector())
    assert ranked_bands(fine, 72)[0] == (strong, pytest.approx(0.2 * 1.44)), "never beyond what was measured"


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
