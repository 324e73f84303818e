from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from persona_steering.errors import VectorError, VectorFileError
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.formats import assistant_axis_pt, persona_vectors_pt

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"axis": t, "metadata": {"file": "/home/x", "n": 3}}])
def test_index_i_is_layer_i(saved, wrap):
    path = saved(wrap(torch.arange(6.0)[:, None].repeat(1, 8).to(torch.bfloat16)), "Assistant Axis.pt")
    vector = assistant_axis_pt.read(path)
    assert [float(vector.directions[layer][0]) for layer in range(6)] == [0, 1, 2, 3, 4, 5]
    assert vector.metadata.kind == "axis"
    assert vector.metadata.sign == "+ is more Assistant"
    assert vector.name == "assistant-axis"
    assert vector.metadata.settings in ({}, {"original_metadata": {"n": 3}})


def test_the_layer_of_index_i_is_that_of_persona_vectors_row_i_plus_1(saved):
    hidden_states = torch.randn(7, 8)  # embeddings, then a model of 6 layers
    published = persona_vectors_pt.read(saved(hidden_states))
    axis = assistant_axis_pt.read(saved(hidden_states[1:]))
    for layer in published.layers:
        np.testing.assert_array_equal(published.directions[layer], axis.directions[layer])


def test_a_roles_vector_is_a_mean_and_not_a_direction(saved):
    payload = {"vector": torch.ones(4, 8), "type": "pos_3", "role": "Pirate Captain"}
    vector = assistant_axis_pt.read(saved(payload))
    assert vector.metadata.kind == "baseline"
    assert vector.name == "pirate-captain"
    assert vector.metadata.settings == {"role": "Pirate Captain", "type": "pos_3"}


def test_a_caller_can_say_that_a_bare_tensor_is_a_persona(saved):
    vector = assistant_axis_pt.read(saved(torch.ones(4, 8)), kind="persona", name="pirate")
    assert vector.metadata.kind == "persona"
    assert vector.metadata.sign == "+ is more of the persona"


@given(st.data(), st.booleans())
def test_what_is_written_is_read_back(tmp_path_factory, make_vector, make_model, data, with_metadata):
    model = make_model(num_layers=data.draw(st.integers(1, 5)), hidden_size=data.draw(st.integers(1, 4)))
    values = data.draw(hnp.arrays(np.float32, (model.num_layers, model.hidden_size), elements=finite))
    about = make_vector("axis", kind="axis", model=model).metadata
    path = tmp_path_factory.mktemp("aa") / "axis.pt"
    vector = SteeringVector(dict(enumerate(values)), about)
    assistant_axis_pt.write(path, vector, with_metadata=with_metadata)
    raw = torch.load(path, weights_only=True)
    np.testing.assert_array_equal((raw["axis"] if with_metadata else raw).numpy(), values)
    assert assistant_axis_pt.read(path, model=model).digest == vector.digest


def test_an_incomplete_vector_is_not_written(tmp_path, make_vector):
    with pytest.raises(VectorError, match=r"layers \[5\]"):
        assistant_axis_pt.write(tmp_path / "v.pt", make_vector(layers=range(5)))


@pytest.fixture
def capping_config():
    away = torch.tensor([0.0, -2.0, 0.0])  # minus the axis [0, 2, 0]
    return {
        "vectors": {"layer_3/contrast": {"vector": away, "layer": 3}},
        "experiments": [
            {
                "id": "layers_3:4-p0.25",
                "interventions": [
                    {"vector": "layer_3/contrast", "cap": -1.5},
                    {"vector": "layer_3/contrast", "coeff": 2.0},
                ],
            }
        ],
    }


def test_a_ceiling_on_the_negated_axis_is_a_floor_on_the_axis(saved, capping_config):
    (cap,) = assistant_axis_pt.read_capping_config(saved(capping_config))
    assert (cap.experiment, cap.name, cap.layer) == ("layers_3:4-p0.25", "layer_3/contrast", 3)
    assert cap.axis.tolist() == [0, 2, 0]
    assert cap.floor == 1.5

    # the oracle: the published ceiling on what the file stores, for states on both sides of it
    stored = capping_config["vectors"]["layer_3/contrast"]["vector"].numpy()
    away, toward = stored / np.linalg.norm(stored), cap.axis / np.linalg.norm(cap.axis)
    for h in (np.array([1.0, 0.2, 3.0]), np.array([1.0, 4.0, 3.0])):
        ceiling = h - away * max(h @ away - -1.5, 0)
        floor = h + toward * max(cap.floor - h @ toward, 0)
        np.testing.assert_allclose(floor, ceiling)


def test_a_capping_configuration_is_not_a_vector_and_says_how_to_read_it(saved, capping_config):
    with pytest.raises(VectorFileError, match="read_capping_config"):
        assistant_axis_pt.read(saved(capping_config))
    with pytest.raises(VectorFileError, match="not a capping configuration"):
        assistant_axis_pt.read_capping_config(saved(torch.ones(3, 4)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["vectors"].clear(), "not among its vectors"),
        (lambda c: c["vectors"]["layer_3/contrast"].update(layer="3"), "layer '3'"),
        (lambda c: c["vectors"]["layer_3/contrast"].update(layer=-3), "negative"),
        (lambda c: c["vectors"]["layer_3/contrast"].update(vector=torch.ones(2, 2)), "not a tensor"),
        (lambda c: c["vectors"]["layer_3/contrast"].update(vector=torch.tensor([float("inf")])), "finite"),
        (lambda c: c["experiments"].append("x"), "an experiment is a str"),
        (lambda c: c["experiments"][0]["interventions"][0].update(cap=float("nan")), "not a finite number"),
        (lambda c: c["experiments"][0]["interventions"][0].update(cap="low"), "not a finite number"),
    ],
)
def test_a_capping_configuration_that_is_not_valid_is_refused(saved, capping_config, change, message):
    change(capping_config)
    with pytest.raises(VectorFileError, match=message):
        assistant_axis_pt.read_capping_config(saved(capping_config))
