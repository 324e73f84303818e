from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from persona_steering.errors import (
    ModelMismatchError,
    NotFoundError,
    RecipeError,
    UsageError,
    VectorError,
)
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.algebra import (
    at_strength,
    blend_vectors,
    compute_safe_floor,
    cosine,
    normalize,
    orthogonalize_persona,
    project_onto,
    remove_component,
)
from persona_steering.vectors.metadata import Calibration

values = st.floats(-1e6, 1e6, allow_subnormal=False)
arrays = hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.just(5)), elements=values)


def usable(array):
    return (np.abs(array).max(axis=-1) > 1e-3).all()


@given(arrays.filter(usable))
def test_normalized_rows_have_norm_one_and_the_same_direction(v):
    unit = normalize(v)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), 1)
    np.testing.assert_allclose(unit * np.linalg.norm(v, axis=-1, keepdims=True), v, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]))
def test_component_and_remainder_sum_to_the_vector_and_are_orthogonal(seed, dtype):
    rng = np.random.default_rng(seed)
    v, axis = rng.normal(size=(3, 16)).astype(dtype), rng.normal(size=(3, 16)).astype(dtype)
    along, rest = project_onto(v, axis), remove_component(v, axis)
    assert along.dtype == rest.dtype == dtype
    np.testing.assert_allclose(along + rest, v, atol=1e-5)
    assert np.abs(cosine(rest, axis)).max() < 1e-6
    for row in range(3):  # the oracle: the formula, row by row
        expected = (v[row] @ axis[row]) / (axis[row] @ axis[row]) * axis[row]
        np.testing.assert_allclose(along[row], expected, rtol=1e-3, atol=1e-5)


def test_one_axis_serves_every_row():
    v = np.arange(6.0).reshape(2, 3)
    axis = np.array([0.0, 2.0, 0.0])
    assert remove_component(v, axis).tolist() == [[0, 0, 2], [3, 0, 5]]
    assert cosine(axis, axis) == pytest.approx(1)


def test_zero_vectors_and_shapes_that_do_not_fit_are_refused():
    with pytest.raises(VectorError):
        normalize(np.zeros(3))
    with pytest.raises(VectorError):
        normalize(np.array([[1.0, 0], [0, 0]]))
    with pytest.raises(VectorError):
        remove_component(np.ones(3), np.zeros(3))
    with pytest.raises(VectorError, match="do not fit"):
        project_onto(np.ones(3), np.ones(4))
    with pytest.raises(VectorError, match="do not fit"):
        cosine(np.ones(3), np.ones((2, 3)))
    with pytest.raises(VectorError, match="neither"):
        normalize(np.ones((2, 2, 2)))


def test_the_safe_floor_is_the_percentile_per_layer():
    projections = np.arange(101.0)
    assert compute_safe_floor(projections, 1) == 1.0
    both = compute_safe_floor(np.stack([projections, -projections], axis=1), 25)
    assert both.tolist() == [25, -75]


def test_a_safe_floor_needs_a_percentile_and_numbers():
    with pytest.raises(UsageError):
        compute_safe_floor([1.0], 101)
    for bad in ([], [np.nan], np.ones((1, 1, 1))):
        with pytest.raises(VectorError):
            compute_safe_floor(bad, 5)


@given(seed=st.integers(0, 2**32 - 1), mix=st.sampled_from([0.0, 0.5, 0.99, 0.999]))
def test_a_safe_vector_has_no_component_on_the_axis_at_any_layer(make_vector, seed, mix):
    axis = make_vector("safety", kind="axis", seed=seed)
    raw = make_vector(seed=seed + 1)
    # `mix` makes persona and axis nearly parallel, where a single projection would leave rounding behind
    persona = raw * (1 - mix) + SteeringVector(axis.directions, raw.metadata) * (10 * mix)
    safe = orthogonalize_persona(persona, axis)
    assert max(abs(c) for c in safe.cosine(axis).values()) < 1e-6
    for layer in persona.layers:
        expected = remove_component(persona.directions[layer], axis.directions[layer])
        np.testing.assert_allclose(safe.directions[layer], expected, atol=1e-6)


def test_a_safe_vector_carries_the_calibration_measured_on_it(make_vector):
    def measured(score_layers):
        return Calibration(layers=score_layers, coefficients={2: 1.0}, relative_dose=0.1, persona_score=None)

    persona = make_vector(safe_calibration=measured((2,)), calibration=None)
    safe = orthogonalize_persona(persona, make_vector("safety", kind="axis", seed=9))
    assert safe.metadata.calibration == measured((2,))
    assert safe.name == persona.name


def test_orthogonalizing_refuses_a_layer_it_cannot_do(make_vector, make_model):
    persona = make_vector(layers=[1, 2])
    with pytest.raises(VectorError, match=r"does not cover layers \[2\]"):
        orthogonalize_persona(persona, make_vector(kind="axis", layers=[0, 1]))
    with pytest.raises(VectorError, match="nothing is left"):
        orthogonalize_persona(persona, persona * -3)
    with pytest.raises(VectorError, match="zero at layer 1"):
        orthogonalize_persona(persona, persona * 0)
    with pytest.raises(ModelMismatchError, match="hf:other"):
        orthogonalize_persona(persona, make_vector(kind="axis", model=make_model("hf:other", fingerprint="f")))


def test_a_blend_is_the_weighted_sum_and_says_so(make_vector):
    vectors = {name: make_vector(name, seed=i) for i, name in enumerate(["sage", "pirate", "robot"])}
    blend = blend_vectors(vectors, {"sage": 0.5, "pirate": -0.25, "robot": 0})
    for layer in blend.layers:
        expected = 0.5 * vectors["sage"].directions[layer] - 0.25 * vectors["pirate"].directions[layer]
        np.testing.assert_allclose(blend.directions[layer], expected, rtol=1e-5, atol=1e-6)
    assert blend.metadata.source == "blend:sage:0.5,pirate:-0.25"
    assert blend.metadata.kind == "persona"
    assert blend.metadata.model == vectors["sage"].metadata.model
    assert blend.metadata.calibration is None


def test_a_blend_that_cannot_be_made_is_refused(make_vector):
    vectors = {"sage": make_vector("sage"), "half": make_vector("half", layers=[0])}
    with pytest.raises(NotFoundError, match="Did you mean 'sage'"):
        blend_vectors(vectors, {"sgae": 1})
    for weights in ({}, {"sage": 0}, {"sage": float("nan")}, {"sage": float("inf")}):
        with pytest.raises(RecipeError):
            blend_vectors(vectors, weights)
    with pytest.raises(VectorError, match="same layers"):
        blend_vectors(vectors, {"sage": 1, "half": 1})


def test_at_a_strength_a_vector_is_what_is_added_to_the_hidden_states(make_vector):
    calibration = Calibration(layers=(1, 3), coefficients={1: 0.5, 3: -2.0}, relative_dose=0.2, persona_score=None)
    sage = make_vector("sage", calibration=calibration, safe_calibration=calibration)
    baked = at_strength(sage, 0.5)
    assert baked.layers == (1, 3)
    np.testing.assert_allclose(baked.directions[1], 0.25 * sage.directions[1], rtol=1e-6)
    np.testing.assert_allclose(baked.directions[3], -sage.directions[3], rtol=1e-6)
    assert (baked.metadata.calibration, baked.metadata.safe_calibration) == (None, None)
    assert baked.metadata.settings["at_strength"] == {"strength": 0.5, "safe": False, "of": sage.digest}


def test_a_strength_of_a_vector_that_is_not_calibrated_means_nothing(make_vector):
    with pytest.raises(VectorError, match="not calibrated"):
        at_strength(make_vector(), 1.0)
    calibration = Calibration(layers=(1,), coefficients={1: 0.5}, relative_dose=0.2, persona_score=None)
    for strength in (0.0, float("nan"), float("inf")):
        with pytest.raises(RecipeError):
            at_strength(make_vector(calibration=calibration), strength)
