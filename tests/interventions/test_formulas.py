"""The formulas: numpy against the textbook, torch against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from persona_steering.errors import RecipeError, VectorError
from persona_steering.interventions import (
    Ablate,
    Add,
    Ceiling,
    Clamp,
    Floor,
    Intervention,
    Set,
    Shift,
    clamp,
    clamp_excess,
    shift,
)
from persona_steering.interventions.base import UNBOUNDED
from persona_steering.vectors import SteeringVector, VectorMetadata

HIDDEN = 16


def vector(seed: int = 0, *, layers: tuple[int, ...] = (0, 3), name: str = "sage") -> SteeringVector:
    rng = np.random.default_rng(seed)
    directions = {i: (5 * rng.normal(size=HIDDEN)).astype(np.float32) for i in layers}
    fields = {"name": name, "kind": "persona", "model": None, "sign": "+ is more", "source": "test"}
    return SteeringVector(directions, VectorMetadata.model_validate(fields))


def apply(item: Intervention, hidden: np.ndarray, layer: int = 3) -> np.ndarray:
    """What an engine does with a step."""
    step = item.step(layer)
    if isinstance(step, Shift):
        return np.asarray(shift(hidden, step.delta))
    return np.asarray(clamp(hidden, step.direction, step.low, step.high))


def textbook(op: str, h: np.ndarray, v: np.ndarray, value: float) -> np.ndarray:
    """DESIGN's formulas, token by token, in float64."""
    u = v / math.sqrt(float(v @ v))
    p = float(h @ u)
    return {
        "add": h + value * v,
        "ablate": h - p * u,
        "floor": h + max(value - p, 0.0) * u,
        "ceiling": h - max(p - value, 0.0) * u,
        "set": h + (value - p) * u,
    }[op]


KINDS: dict[str, type[Intervention]] = {"add": Add, "ablate": Ablate, "floor": Floor, "ceiling": Ceiling, "set": Set}


@pytest.mark.parametrize("value", [-3.0, 0.0, 0.25, 7.5])
@pytest.mark.parametrize("op", KINDS)
def test_every_operation_is_its_textbook_formula(op: str, value: float) -> None:
    value = 0.0 if op == "ablate" else value
    v = vector()
    hidden = np.random.default_rng(1).normal(scale=10, size=(4, 6, HIDDEN)).astype(np.float32)
    found = apply(KINDS[op](vector=v, values={3: value}), hidden)
    assert found.dtype == np.float32
    for row, token in np.ndindex(4, 6):
        expected = textbook(op, hidden[row, token].astype(np.float64), v.directions[3].astype(np.float64), value)
        np.testing.assert_allclose(found[row, token], expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("op", ["floor", "ceiling"])
def test_a_bound_that_holds_already_changes_no_bit(op: str) -> None:
    hidden = np.random.default_rng(1).normal(size=(50, HIDDEN)).astype(np.float32)
    value = -1e4 if op == "floor" else 1e4
    assert np.array_equal(apply(KINDS[op](vector=vector(), values={3: value}), hidden), hidden)


@given(
    st.integers(0, 2**16),
    st.floats(-20, 20, width=32),
    st.floats(2**-10, 2**10, width=32),
)
def test_bounds_hold_afterwards_and_applying_them_twice_changes_nothing_more(
    seed: int, value: float, scale: float
) -> None:
    hidden = (scale * np.random.default_rng(seed).normal(size=(5, HIDDEN))).astype(np.float32)
    v = vector(seed)
    u = v.unit(3).astype(np.float64)
    slack = 1e-5 * (abs(value) + float(np.linalg.norm(hidden, axis=-1).max()))
    for kind in (Floor, Ceiling, Set):
        once = apply(kind(vector=v, values={3: value}), hidden)
        projection = once.astype(np.float64) @ u
        assert kind is Ceiling or (projection >= value - slack).all()
        assert kind is Floor or (projection <= value + slack).all()
        np.testing.assert_allclose(apply(kind(vector=v, values={3: value}), once), once, rtol=0, atol=slack)
        # what is orthogonal to the direction stays
        rest = (once - hidden).astype(np.float64)
        np.testing.assert_allclose(rest - np.outer(rest @ u, u), 0, atol=slack)


def test_a_floor_is_the_ceiling_of_the_negated_axis() -> None:
    hidden = np.random.default_rng(2).normal(scale=4, size=(40, HIDDEN)).astype(np.float32)
    axis = vector(7)
    for threshold in (-2.0, 0.0, 1.5):
        floor = apply(Floor(vector=axis, values={3: threshold}), hidden)
        ceiling = apply(Ceiling(vector=-axis, values={3: -threshold}), hidden)
        assert np.array_equal(floor, ceiling)
        assert not np.array_equal(floor, hidden)


@pytest.mark.parametrize("kind", ["shift", "clamp"])
def test_torch_and_numpy_run_the_same_lines_per_row_and_token(kind: str) -> None:
    rng = np.random.default_rng(3)
    hidden = rng.normal(size=(5, 7, HIDDEN)).astype(np.float32)
    direction = rng.normal(size=(5, 1, HIDDEN)).astype(np.float32)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    low = np.array([[-0.2], [0.1], [-UNBOUNDED], [0.0], [-UNBOUNDED]], np.float32)
    high = np.array([[0.2], [UNBOUNDED], [-0.3], [0.0], [UNBOUNDED]], np.float32)
    if kind == "shift":
        expected = shift(hidden, direction)
        found = shift(torch.from_numpy(hidden), torch.from_numpy(direction))
    else:
        expected = clamp(hidden, direction, low, high)
        found = clamp(*map(torch.from_numpy, (hidden, direction, low, high)))
        excess = clamp_excess((hidden * direction).sum(-1), low, high)
        assert (excess[0] != 0).any() and (excess[4] == 0).all()
        assert np.array_equal(expected[4], hidden[4])
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-6)


def test_a_row_that_does_nothing_keeps_its_bits_next_to_one_that_does() -> None:
    hidden = torch.randn(2, 3, HIDDEN, generator=torch.Generator().manual_seed(0))
    direction = torch.zeros(2, 1, HIDDEN)
    direction[0, 0, 0] = 1
    low, high = torch.tensor([[5.0], [-UNBOUNDED]]), torch.tensor([[UNBOUNDED], [UNBOUNDED]])
    found = clamp(hidden, direction, low, high)
    assert torch.equal(found[1], hidden[1])
    assert torch.equal(found[0, :, 0], torch.full((3,), 5.0))


def test_steps_use_the_raw_direction_to_add_and_the_unit_direction_to_bound() -> None:
    v = vector()
    added, bounded = Add(vector=v, values={3: 2.0}).step(3), Floor(vector=v, values={3: 2.0}).step(3)
    assert isinstance(added, Shift) and isinstance(bounded, Clamp)
    assert np.array_equal(added.delta, 2 * v.directions[3])
    assert abs(np.linalg.norm(bounded.direction) - 1) < 1e-6
    assert (bounded.low, bounded.high) == (2.0, UNBOUNDED)


@pytest.mark.parametrize("kind", KINDS.values())
def test_no_layer_an_uncovered_layer_and_a_number_that_is_none_are_refused(kind: type[Intervention]) -> None:
    with pytest.raises(RecipeError, match="no layer"):
        kind(vector=vector(), values={})
    with pytest.raises(RecipeError, match="no direction at layer 1") as caught:
        kind(vector=vector(), values={1: 0.0})
    assert "0, 3" in caught.value.hint
    for value in (math.nan, math.inf):
        with pytest.raises(RecipeError, match="at layer 3 is"):
            kind(vector=vector(), values={3: value})


def test_ablating_towards_a_value_is_refused_instead_of_forgotten() -> None:
    with pytest.raises(RecipeError, match="not 0") as caught:
        Ablate(vector=vector(), values={3: 1.5})
    assert "Use set" in caught.value.hint


def test_bounding_along_a_zero_direction_is_refused() -> None:
    zero = vector() * 0.0
    with pytest.raises(VectorError, match="zero at layer 3"):
        Floor(vector=zero, values={3: 1.0}).step(3)


def test_a_later_change_of_the_callers_numbers_does_not_reach_an_intervention() -> None:
    values = {3: 1.0}
    item = Add(vector=vector(), values=values)
    values[3] = 99.0
    assert item.values == {3: 1.0}
