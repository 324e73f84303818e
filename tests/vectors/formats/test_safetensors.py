from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import save_file

from persona_steering.errors import NotFoundError, VectorFileError
from persona_steering.vectors import (
    Calibration,
    Interval,
    ModelIdentity,
    SteeringVector,
    VectorMetadata,
)
from persona_steering.vectors.formats import safetensors

layers = st.integers(0, 90)
numbers = st.floats(-1e6, 1e6)
intervals = st.builds(Interval, mean=numbers, low=numbers, high=numbers)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
calibrations = st.dictionaries(layers, numbers, min_size=1, max_size=3).flatmap(
    lambda coefficients: st.builds(
        Calibration,
        layers=st.just(tuple(sorted(coefficients))),
        coefficients=st.just(coefficients),
        relative_dose=numbers,
        weak=st.booleans(),
        persona_score=st.none() | intervals,
        gain=st.none() | intervals,
        num_answers=st.integers(0, 1000),
        settings=st.dictionaries(st.text(max_size=5), json_values, max_size=2),
    )
)
models = st.builds(
    ModelIdentity,
    id=st.text(min_size=1, max_size=20),
    revision=st.text(max_size=10),
    fingerprint=st.text("0123456789abcdef", min_size=8, max_size=64),
    num_layers=st.just(91),
    hidden_size=st.just(5),
)
metadata = st.builds(
    VectorMetadata,
    name=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True),
    kind=st.sampled_from(["persona", "trait", "axis", "baseline"]),
    description=st.text(max_size=40),
    model=st.none() | models,
    sign=st.text(max_size=10),
    source=st.text(max_size=10),
    system_prompts=st.lists(st.text(max_size=20), max_size=3).map(tuple),
    counts=st.dictionaries(st.text(max_size=5), st.integers(0, 99), max_size=2),
    seed=st.none() | st.integers(0, 2**40),
    reference_norms=st.dictionaries(layers, numbers, max_size=3),
    thresholds=st.dictionaries(st.sampled_from(["1", "25"]), st.dictionaries(layers, numbers, max_size=2), max_size=2),
    calibration=st.none() | calibrations,
    transferred_from=st.none() | models,
    settings=st.dictionaries(st.text(max_size=5), json_values, max_size=2),
)
directions = st.dictionaries(
    layers,
    hnp.arrays(np.float32, 5, elements=st.floats(allow_nan=False, allow_infinity=False, width=32)),
    min_size=1,
    max_size=6,
)


@given(directions, metadata)
def test_a_vector_comes_back_bit_for_bit_with_all_its_metadata(tmp_path_factory, values, about):
    path = tmp_path_factory.mktemp("native") / "v.safetensors"
    vector = SteeringVector(values, about)
    safetensors.write(path, vector)
    back = safetensors.read(path)
    assert back.metadata == about == safetensors.read_header(path).metadata
    assert back.digest == vector.digest
    assert safetensors.to_bytes(back) == path.read_bytes()


def test_the_layout_is_readable_without_this_package(tmp_path, make_vector):
    path = tmp_path / "v.safetensors"
    vector = make_vector(layers=[2, 4])
    safetensors.write(path, vector)
    with safe_open(path, framework="np") as file:
        assert set(file.keys()) == {"layer.2", "layer.4"}
        np.testing.assert_array_equal(file.get_tensor("layer.4"), vector.directions[4])
        header = json.loads(file.metadata()["persona_steering"])
    assert header["name"] == "sage"
    assert header["schema_version"] == 1
    assert header["layers"] == [2, 4]


@pytest.fixture
def rewritten(tmp_path, make_vector):
    """The file of a good vector, its header and tensors passed through a change."""

    def rewrite(change):
        vector = make_vector(layers=[0, 1])
        header = vector.metadata.model_dump(mode="json")
        header |= {"layers": [0, 1], "digest": vector.digest}
        tensors = {f"layer.{i}": v.copy() for i, v in vector.directions.items()}
        change(header, tensors)
        path = tmp_path / "v.safetensors"
        save_file(tensors, path, metadata={"persona_steering": json.dumps(header)})
        return path

    return rewrite


def test_the_rewriting_itself_makes_good_files(rewritten):
    assert safetensors.read(rewritten(lambda header, tensors: None)).layers == (0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: h.update(schema_version=2), "schema version 2.*Upgrade"),
        (lambda h, t: h.update(schema_version="one"), "not valid at schema_version"),
        (lambda h, t: h.pop("schema_version"), "cannot be read"),
        (lambda h, t: h.update(colour="red"), "not valid at colour"),
        (lambda h, t: h.update(name="../sage"), "not a valid name"),
        (lambda h, t: h.update(layers=[0, 1, 2]), "incomplete: layers 2"),
        (lambda h, t: h.update(layers=[0]), "incomplete: layers 1"),
        (lambda h, t: h.update(layers="01"), "cannot be read"),
        (lambda h, t: h.pop("digest"), "cannot be read"),
        (lambda h, t: t.pop("layer.1"), "incomplete: layers 1"),
        (lambda h, t: t.update({"layer.1": t["layer.1"][:-1]}), "layer 1: 7 values where 8"),
        (lambda h, t: t.update({"layer.1": t["layer.1"][None]}), r"layer 1: the shape is \[1, 8\]"),
        (lambda h, t: t.update({"layer.1": t["layer.1"].astype(np.float16)}), "layer 1 is float16"),
        (lambda h, t: t["layer.1"].__setitem__(3, np.nan), "layer 1: 1 of 8 values are not finite"),
        (lambda h, t: t["layer.1"].__setitem__(3, 7), "damaged"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(rewritten, change, message):
    path = rewritten(change)
    with pytest.raises(VectorFileError, match=message):
        safetensors.read(path)


def test_a_file_cut_anywhere_is_refused(tmp_path, make_vector):
    path = tmp_path / "v.safetensors"
    data = safetensors.to_bytes(make_vector(layers=[0]))
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        for read in (safetensors.read, safetensors.read_header):
            with pytest.raises(VectorFileError):
                read(path)


@given(st.data())
def test_a_changed_byte_is_refused_or_changes_nothing_that_is_checked(tmp_path_factory, make_vector, data):
    path = tmp_path_factory.mktemp("bytes") / "v.safetensors"
    vector = make_vector(layers=[0, 1])
    content = bytearray(safetensors.to_bytes(vector))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(VectorFileError):
        assert safetensors.read(path).digest == vector.digest


def test_other_safetensors_files_are_refused_as_such(tmp_path):
    save_file({"weight": np.zeros(3, dtype=np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(VectorFileError, match="not a steering vector"):
        safetensors.read(tmp_path / "model.safetensors")
    with pytest.raises(NotFoundError):
        safetensors.read(tmp_path / "gone.safetensors")
