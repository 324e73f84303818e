from __future__ import annotations

import copy
import pickle
import re
import string
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from persona_steering.errors import ModelMismatchError, RecipeError, UsageError, VectorError, VectorFileError
from persona_steering.vectors import (
    NAME_PATTERN,
    Calibration,
    SteeringVector,
    VectorMetadata,
    check_name,
    layer_from_assistant_axis_index,
    layer_from_gguf_index,
    layer_from_persona_vectors_row,
    replace_metadata,
    suggest_name,
)


def metadata(**changes):
    fields = {"name": "sage", "kind": "persona", "model": None, "sign": "+", "source": "test"}
    return VectorMetadata.model_validate(fields | changes)


def calibration(*layers):
    return Calibration(layers=layers, coefficients=dict.fromkeys(layers, 0.5), relative_dose=0.3, persona_score=None)


@given(st.integers(2, 200), st.data())
def test_a_persona_vectors_row_k_is_the_assistant_axis_index_k_minus_1(num_layers, data):
    row = data.draw(st.integers(1, num_layers - 1))
    assert layer_from_persona_vectors_row(row, num_layers) == layer_from_assistant_axis_index(row - 1)


def test_embeddings_and_the_normed_last_row_are_no_layer():
    assert [layer_from_persona_vectors_row(k, 4) for k in range(5)] == [None, 0, 1, 2, None]
    with pytest.raises(VectorFileError):
        layer_from_persona_vectors_row(5, 4)
    with pytest.raises(VectorFileError):
        layer_from_assistant_axis_index(-1)


def test_gguf_directions_are_blocks_except_from_llama_cpps_own_generator():
    assert layer_from_gguf_index(7) == 7
    assert layer_from_gguf_index(7, "cvector-generator") == 6
    with pytest.raises(VectorFileError):
        layer_from_gguf_index(0, "cvector-generator")


@given(st.text(max_size=100))
def test_a_suggested_name_is_always_valid(text):
    assert check_name(suggest_name(text)) == suggest_name(text)


@given(st.text(alphabet=string.ascii_lowercase + string.digits + "-_./\\ A\n", max_size=70))
def test_only_names_of_the_pattern_pass_and_none_can_leave_its_folder(text):
    if re.match(r"^[a-z0-9][a-z0-9_-]{0,63}\Z", text):
        assert check_name(text) == text
        assert NAME_PATTERN.fullmatch(text)
    else:
        with pytest.raises(UsageError, match="not a valid name"):
            check_name(text)


def test_metadata_with_an_invalid_name_are_refused_with_a_suggestion():
    with pytest.raises(UsageError, match="noir-detective"):
        metadata(name="Noir Detective")


def test_metadata_are_closed_and_frozen():
    with pytest.raises(ValidationError):
        metadata(colour="red")
    with pytest.raises(ValidationError):
        metadata().name = "other"


def test_a_calibration_needs_a_coefficient_for_each_of_its_layers():
    with pytest.raises(ValidationError):
        Calibration(layers=(1, 2), coefficients={1: 0.5}, relative_dose=0.1, persona_score=None)


def test_directions_are_read_only_float32_copies_in_layer_order(make_vector):
    source = {5: np.ones(3), 1: np.arange(3)}
    vector = SteeringVector(source, metadata())
    source[5][0] = 99
    assert vector.layers == (1, 5)
    assert vector.directions[5].tolist() == [1, 1, 1]
    assert all(v.dtype == np.float32 for v in vector.directions.values())
    with pytest.raises(ValueError, match="read-only"):
        vector.directions[1][0] = 1
    with pytest.raises(TypeError):
        vector.directions[1] = np.zeros(3)


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        ({}, "no layers"),
        ({-1: np.ones(3)}, "-1 is not a layer"),
        ({True: np.ones(3)}, "True is not a layer"),
        ({1.5: np.ones(3)}, "1.5 is not a layer"),
        ({0: np.ones(3), 4: np.ones(4)}, "layer 4: 4 values where 3"),
        ({2: np.ones((1, 3))}, r"layer 2: the shape is \[1, 3\]"),
        ({2: np.ones(0)}, "layer 2: the shape"),
        ({3: np.array([1.0, np.nan, np.inf])}, "layer 3: 2 of 3 values are not finite"),
        ({3: np.array([1e300])}, "layer 3: 1 of 1 values are not finite"),
        ({3: np.array(["a"])}, "layer 3: the values are"),
        ({3: np.array([1j])}, "layer 3: the values are"),
    ],
)
def test_directions_that_are_not_valid_are_refused_by_layer(directions, message):
    with pytest.raises(VectorFileError, match=message):
        SteeringVector(directions, metadata())


def test_directions_must_fit_the_model_they_claim(make_model):
    model = make_model(num_layers=4, hidden_size=3)
    with pytest.raises(VectorFileError, match="layer 4"):
        SteeringVector({4: np.ones(3)}, metadata(model=model))
    with pytest.raises(VectorFileError, match="layer 0: 5 values where 3"):
        SteeringVector({0: np.ones(5)}, metadata(model=model))


def test_the_unit_direction_has_norm_one_whatever_the_scale():
    vector = SteeringVector({0: np.full(4, 1e-30), 1: np.full(4, 1e30), 2: np.array([3.0, 0, 4, 0])}, metadata())
    for layer in vector.layers:
        assert np.linalg.norm(vector.unit(layer).astype(float)) == pytest.approx(1, abs=1e-6)
    assert vector.norms[2] == 5
    assert vector.unit(2).tolist() == pytest.approx([0.6, 0, 0.8, 0])


def test_a_layer_that_is_not_covered_is_refused_with_those_that_are(make_vector):
    vector = make_vector(layers=[0, 1, 2, 4])
    with pytest.raises(RecipeError, match="layers 0-2, 4"):
        vector.unit(3)
    with pytest.raises(RecipeError, match="layers 0-2, 4"):
        vector.restrict([0, 3])


def test_a_zero_direction_has_no_unit():
    with pytest.raises(VectorError, match="zero at layer 1"):
        SteeringVector({1: np.zeros(3)}, metadata()).unit(1)


def test_arithmetic_is_that_of_the_arrays_and_forgets_what_was_measured(make_vector):
    measured = {"calibration": calibration(1), "thresholds": {"1": {1: 0.5}}}
    a, b = make_vector(seed=1, **measured), make_vector(seed=2)
    for result, oracle in [
        (a + b, lambda i: a.directions[i] + b.directions[i]),
        (a - b, lambda i: a.directions[i] - b.directions[i]),
        (a * 0.5, lambda i: a.directions[i] * 0.5),
        (0.5 * a, lambda i: a.directions[i] * 0.5),
        (np.float64(0.5) * a, lambda i: a.directions[i] * 0.5),
        (-a, lambda i: -a.directions[i]),
    ]:
        assert isinstance(result, SteeringVector)
        for layer in a.layers:
            np.testing.assert_allclose(result.directions[layer], oracle(layer), rtol=1e-6)
        assert result.metadata.calibration is None
        assert result.metadata.thresholds == {}
        assert result.name == a.name


def test_arithmetic_refuses_what_does_not_fit(make_vector, make_model):
    vector = make_vector()
    with pytest.raises(VectorError, match="same layers"):
        vector + make_vector(layers=[0, 1])
    with pytest.raises(ModelMismatchError, match=r"other/model.*|tiny/llama"):
        vector + make_vector(model=make_model("hf:other/model", fingerprint="ffff"))
    with pytest.raises(VectorError, match="finite"):
        vector * float("nan")
    with pytest.raises(VectorFileError, match="not finite"):
        vector * 1e38 * 1e38


def test_cosine_is_one_with_itself_and_minus_one_with_its_negative(make_vector):
    vector = make_vector(layers=[1, 3])
    assert vector.cosine(vector) == pytest.approx({1: 1, 3: 1})
    assert vector.cosine(-(2 * make_vector())) != {}
    assert (vector).cosine(-vector) == pytest.approx({1: -1, 3: -1})
    with pytest.raises(VectorError):
        vector.cosine(make_vector(layers=[0]))


def test_the_digest_changes_with_any_value_or_layer_and_not_with_metadata(make_vector):
    vector = make_vector(layers=[1, 2])
    same = replace_metadata(vector, vector.metadata.model_copy(update={"name": "other"}))
    moved = SteeringVector({1: vector.directions[1], 3: vector.directions[2]}, vector.metadata)
    changed = {**vector.directions, 1: np.nextafter(vector.directions[1], np.float32(9))}
    assert same.digest == vector.digest
    assert len({vector.digest, moved.digest, SteeringVector(changed, vector.metadata).digest}) == 3
    assert re.fullmatch("[0-9a-f]{64}", vector.digest)


def test_restricting_keeps_only_calibrations_that_still_hold(make_vector):
    vector = make_vector(
        calibration=calibration(1, 2), safe_calibration=calibration(2), thresholds={"1": {1: 0.1, 2: 0.2}}
    )
    small = vector.restrict([2])
    assert small.layers == (2,)
    assert small.metadata.calibration is None
    assert small.metadata.safe_calibration == calibration(2)
    assert small.metadata.thresholds == {"1": {2: 0.2}}


def test_a_vector_works_on_its_own_model_under_any_id(make_vector, make_model):
    make_vector().check_model(make_model("hf:elsewhere"))


@pytest.mark.parametrize("change", [{"fingerprint": "ffff"}, {"num_layers": 7}, {"hidden_size": 9}])
def test_a_vector_for_another_model_is_refused_by_name(make_vector, make_model, change):
    with pytest.raises(ModelMismatchError, match=r"'hf:tiny/llama'.*'hf:mine'.*(transfer)"):
        make_vector().check_model(make_model("hf:mine", **change))


def test_a_vector_without_a_model_is_refused_until_one_is_asserted(make_model):
    model = make_model(hidden_size=3)
    vector = SteeringVector({0: np.ones(3)}, metadata())
    with pytest.raises(ModelMismatchError, match="does not say which model"):
        vector.check_model(model)
    replace_metadata(vector, vector.metadata.model_copy(update={"model": model})).check_model(model)


def test_a_model_slug_is_a_safe_folder_name(make_model):
    assert make_model("hf:Qwen/Qwen2.5-7B").slug == "hf-Qwen-Qwen2.5-7B-01234567"
    for id in ("../../etc", "/", "..", "C:\\x", "a\0b", "é" * 300):
        slug = make_model(id, fingerprint="sha:../x").slug
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,120}", slug)


def test_vectors_survive_copy_and_pickle(make_vector):
    vector = make_vector()
    for twin in (copy.deepcopy(vector), pickle.loads(pickle.dumps(vector))):
        assert twin.digest == vector.digest
        assert twin.metadata == vector.metadata


def test_metadata_survive_json_with_integer_layers(make_vector):
    original = make_vector(calibration=calibration(3), reference_norms={0: 1.5, 3: 2.5}).metadata
    assert VectorMetadata.model_validate_json(original.model_dump_json()) == original


def test_importing_vectors_and_config_loads_no_engine():
    code = (
        "import sys, persona_steering.vectors, persona_steering.vectors.formats, persona_steering.config;"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "transformers", "yaml", "platformdirs"} & set(loaded.split())
