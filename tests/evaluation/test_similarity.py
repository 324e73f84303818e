"""Similarity: cosines, overlap and the persona space, each against a geometry that was put there."""

from __future__ import annotations

import numpy as np
import pytest

from persona_steering.errors import ModelMismatchError, RecipeError, UsageError
from persona_steering.evaluation.pages import similarity_report
from persona_steering.evaluation.similarity import common_band, compare_vectors
from persona_steering.vectors import Calibration, ModelIdentity, SteeringVector, VectorMetadata

HIDDEN = 40
MODEL = ModelIdentity(id="tiny", fingerprint="f" * 16, num_layers=4, hidden_size=HIDDEN)


def make(name: str, row: np.ndarray, *, layers: tuple[int, ...] = (0, 1), band: tuple[int, ...] = (), **more: object):
    calibration = (
        Calibration(layers=band, coefficients=dict.fromkeys(band, 1.0), relative_dose=0.2, persona_score=None)
        if band
        else None
    )
    fields = {"name": name, "kind": "persona", "model": MODEL, "sign": "+", "source": "test"}
    fields |= {"calibration": calibration, "reference_norms": dict.fromkeys(layers, 1.0), **more}
    return SteeringVector({layer: row for layer in layers}, VectorMetadata.model_validate(fields))


def axis_row(*parts: tuple[int, float]) -> np.ndarray:
    row = np.zeros(HIDDEN)
    for place, value in parts:
        row[place] = value
    return row


def test_cosine_and_overlap_are_those_of_the_directions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, HIDDEN))
    found = compare_vectors([make("a", a), make("b", b)])
    expected = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert found.cosine("a", "b") == pytest.approx(expected, abs=1e-6) == found.cosine("b", "a")
    assert found.pairs[0].cosines == pytest.approx({0: expected, 1: expected}, abs=1e-6)
    top = [set(np.argsort(-np.abs(row))[:4]) for row in (a, b)]
    assert found.pairs[0].overlap == len(top[0] & top[1]) / 4
    assert found.chance_overlap == 0.1 and found.cosine("a", "a") == 1


def test_the_layers_are_the_calibrated_ones_that_all_share() -> None:
    row = np.ones(HIDDEN)
    a = make("a", row, layers=(0, 1, 2, 3), band=(1, 2))
    b = make("b", row, layers=(1, 2, 3), band=(2, 3))
    c = make("c", row, layers=(0, 2, 3))
    assert common_band([a, b]) == (1, 2, 3)
    assert common_band([a, c]) == (2,)
    assert common_band([c, c]) == (0, 2, 3)
    with pytest.raises(UsageError, match="share no layer"):
        common_band([make("x", row, layers=(0,)), make("y", row, layers=(1,))])


def test_the_first_component_is_the_line_on_which_the_personas_lie_and_the_assistant_is_its_origin() -> None:
    personas = [make(f"p{i}", axis_row((0, float(i + 1)), (1, 0.1 * (-1) ** i))) for i in range(5)]
    axis = make("assistant", axis_row((0, -1.0)), kind="axis")
    space = compare_vectors(personas, axis=axis).space
    assert space is not None
    assert space.explained[0] > 0.99 and sum(space.explained) == pytest.approx(1)
    # the mean lies at 3, so the Assistant is 3 away, on the far side of p0; two layers lengthen it by root 2
    assert space.assistant[0] == pytest.approx(3 * np.sqrt(2), abs=0.05)
    assert space.positions["p0"][0] == pytest.approx(2 * np.sqrt(2), abs=0.05)
    assert space.positions["p4"][0] == pytest.approx(-2 * np.sqrt(2), abs=0.05)
    assert space.assistant_rank == 1.0
    assert space.axis_cosine == pytest.approx(1, abs=0.01)


def test_the_distances_in_the_space_are_those_of_the_vectors() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(4, HIDDEN))
    space = compare_vectors([make(f"p{i}", row) for i, row in enumerate(rows)]).space
    assert space is not None and len(space.explained) == 3
    for i in range(4):
        for j in range(i):
            there = np.subtract(space.positions[f"p{i}"], space.positions[f"p{j}"])
            assert np.linalg.norm(there) == pytest.approx(np.sqrt(2) * np.linalg.norm(rows[i] - rows[j]), rel=1e-5)


def test_layers_are_weighed_by_their_hidden_states() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(3, HIDDEN))
    plain = compare_vectors([make(f"p{i}", row, layers=(0,)) for i, row in enumerate(rows)]).space
    half = compare_vectors([make(f"p{i}", row, layers=(0,), reference_norms={0: 2.0}) for i, row in enumerate(rows)])
    assert plain is not None and half.space is not None
    assert np.allclose(np.array(plain.assistant), 2 * np.array(half.space.assistant))


def test_traits_and_few_personas_span_no_space() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(3, HIDDEN))
    found = compare_vectors([make(f"t{i}", row, kind="trait") for i, row in enumerate(rows)])
    assert found.space is None
    assert "not measured" in similarity_report(found, {}).render()
    assert compare_vectors([make("a", rows[0]), make("b", rows[1])]).space is None


def test_the_page_shows_the_matrix_and_the_space() -> None:
    rng = np.random.default_rng(4)
    found = compare_vectors([make(f"p{i}", row) for i, row in enumerate(rng.normal(size=(4, HIDDEN)))])
    page = similarity_report(found, {"model": "tiny"}).render()
    assert page.count("<svg") == 1 and "the Assistant" in page and "4 vectors, 2 layers" in page


def test_vectors_that_cannot_be_compared_are_refused() -> None:
    row = np.ones(HIDDEN)
    other = MODEL.model_copy(update={"fingerprint": "0" * 16})
    with pytest.raises(UsageError, match="two or more"):
        compare_vectors([make("a", row)])
    with pytest.raises(ModelMismatchError):
        compare_vectors([make("a", row), make("b", row, model=other)])
    with pytest.raises(RecipeError, match="no direction at layer 3"):
        compare_vectors([make("a", row), make("b", row)], layers=[3])
